"""Memory: how much is free, and how much a computation takes at its worst moment."""

from __future__ import annotations

import ctypes
import os
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import TypeVar

from cumprop.errors import CumpropError

T = TypeVar("T")

COPIES = 4
"""Copies of the arrays of a network alive at once: file, arrays, network, float64."""


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Settings of glibc, by their numbers in malloc.h."""


def traced_peak(compute: Callable[[], object]) -> int:
    """Bytes of Python objects and NumPy arrays alive at the worst moment of `compute()`.

    The number is exact, but tracing slows `compute` down, so that times in it are too long.

    >>> import numpy as np
    >>> 8e6 <= traced_peak(lambda: np.ones(10**6)) < 8.1e6
    True
    """
    tracemalloc.start()
    try:
        compute()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def with_resident_peak(compute: Callable[[], T]) -> tuple[T, int | None]:
    """The result of `compute()`, and the bytes by which the process grew at its worst moment.

    The measurement takes no time. It misses memory that the process kept from before (up to about
    0.1 GB). The bytes are None where the operating system does not report them; Linux does.
    """
    _return_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # from now on VmHWM is the new maximum
        before = _status("VmRSS")
    except (OSError, KeyError):
        return compute(), None
    result = compute()
    return result, max(_status("VmHWM") - before, 0)


def _status(entry: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.partition(":")[0]: line.partition(":")[2] for line in lines}
    return int(found[entry].split()[0]) * 1024


def resident_memory(pid: int) -> int:
    """Bytes of memory that a process has; 0 where the operating system does not report them."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed arrays for later ones: up to 1 GB, 32 MB each.

    Otherwise glibc returns it, and pages are zeroed anew: a fifth of the time of order 3. It is a
    setting of the whole process, so that programs choose it, not the library. Nothing happens where
    the C library has no such setting.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 2**25)
        mallopt(_TRIM_THRESHOLD, 2**30)


def _return_freed_memory() -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def free_memory() -> int:
    """Bytes that can still be allocated within the limits of the machine and of the container."""
    group = Path("/sys/fs/cgroup")
    return min(
        _machine_memory(),
        _group_memory(group, "memory.max", "memory.current", "inactive_file"),
        _group_memory(
            group / "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    )


def recently_free_memory() -> int:
    """`free_memory` of at most 0.1 s ago: asking takes as long as an estimate of 64 neurons."""
    return _free_memory_at(int(monotonic() * 10))


@lru_cache(maxsize=1)
def _free_memory_at(tenth_of_a_second: int) -> int:
    return free_memory()


def _group_memory(group: Path, limit: str, used: str, cache: str) -> int:
    """Bytes free within the limit of a control group; file cache it can drop counts as free."""
    try:
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free = int((group / limit).read_text()) - int((group / used).read_text())
        return max(free + int(statistics[cache]), 0)
    except (OSError, ValueError, KeyError):  # no such controller, or limit "max"
        return sys.maxsize


def _machine_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def oom_kills() -> int:
    """The number of processes killed for memory since the system started; 0 if not reported."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(n) for name, n in map(str.split, lines) if name == "oom_kill"), 0)


def check_memory(n_bytes: int) -> None:
    """Raise CumpropError where arrays of so many bytes, and their copies, do not fit in memory."""
    needed, free = COPIES * n_bytes, free_memory()
    if needed > free:
        raise CumpropError(
            f"it needs {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free; use a smaller network"
        )
