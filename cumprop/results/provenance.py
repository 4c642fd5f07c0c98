"""The provenance of a number: versions, processor, BLAS, threads, source revision."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

CONDITIONS = ("cpu", "blas", "threads", "workers")
"""Columns that seconds depend on; times under different conditions are not compared."""
SOURCE = Path(__file__).resolve().parents[2]


def provenance(threads: int, workers: int) -> dict[str, Any]:
    """The provenance columns of a row computed now, on `threads` BLAS threads in each worker."""
    return {
        "cumprop_version": _version("cumprop"),
        "numpy_version": _version("numpy"),
        "scipy_version": _version("scipy"),
        "python_version": platform.python_version(),
        "cpu": cpu(),
        "blas": blas(),
        "threads": threads,
        "workers": workers,
        "git_revision": git_revision(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def conditions(row: Mapping[str, Any]) -> str:
    """The conditions of a row's seconds, in words."""
    return f"{row['cpu']}, {row['blas']}, threads {row['threads']}, workers {row['workers']}"


_version = cache(version)


@cache
def cpu() -> str:
    """The processor's name as the operating system reports it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def blas() -> str:
    """Name and version of the BLAS that NumPy uses.

    >>> len(blas()) > 0
    True
    """
    import numpy  # noqa: F401 (loads its BLAS)
    from threadpoolctl import threadpool_info

    libraries = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    own = [pool for pool in libraries if "numpy" in pool["filepath"]]  # SciPy may bring another
    return ", ".join(f"{p['internal_api']} {p['version']}" for p in own or libraries) or "other"


@cache
def git_revision(root: Path = SOURCE) -> str | None:
    """The commit of a checkout, "+" added where it has changes; None where there is none."""
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return run.stdout.strip()


def cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
