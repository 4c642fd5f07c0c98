"""Commands beside experiments: list names, examine the machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cumprop import files, text
from cumprop.cli.options import load_plugins, plugin_option, results_option


@click.command("list")
@plugin_option
def list_(plugins: tuple[Path, ...]) -> None:
    """List estimators, activations, figures and configs.

    \b
    Example:
      cumprop list --plugin my_estimator.py
    """
    from dataclasses import MISSING, fields

    from cumprop import activations, plots
    from cumprop.contract import available, get, unavailable

    load_plugins(plugins)
    print("estimators")
    for name in available():
        shown = [
            f.name if f.default is MISSING else f"{f.name}={f.default}" for f in fields(get(name))
        ]
        print(f"  {name:<14}{', '.join(shown)}")
    for name, reason in unavailable().items():
        print(f"  {name:<14}not available: {reason}")
    print(f"activations\n  {', '.join(activations.available())}")
    print(f"figures\n  {', '.join(plots.available())}")
    configs = sorted(Path("configs").glob("*.yaml"))
    print("configs\n" + ("\n".join(f"  {path}" for path in configs) or "  none in ./configs"))


@click.command()
@results_option
def doctor(results: Path) -> int:
    """Examine this machine and installation.

    The command exits with 1 if something needs attention.

    \b
    Example:
      cumprop doctor --results results/
    """
    from cumprop import memory
    from cumprop.results import provenance

    print(f"{'machine':<16}{provenance.cpu()}, {provenance.cores()} cores")
    print(f"{'memory':<16}{text.size(memory.free_memory())} free")
    print(f"{'blas':<16}{provenance.blas()}, {_threads()} threads")
    complaints = []
    for package in ("cumprop", "numpy", "scipy", "pandas", "pyarrow", "pydantic", "matplotlib"):
        found = _version(package)
        print(f"{package:<16}{found or 'missing'}")
        if found is None:
            complaints.append(f"{package} is missing; run make install")
    print(f"{'python':<16}{sys.version.split()[0]}")
    if not _writable(results):
        complaints.append(f"{results} cannot be written; choose another with --results")
    print(f"{'results':<16}{results.resolve()}")
    if memory.free_memory() < 2e9:
        complaints.append("less than 2 GB of memory are free; keep to --workers 1 and small widths")
    print("\n" + ("\n".join(complaints) or "all is well"))
    return 1 if complaints else 0


def _threads() -> int:
    import numpy  # noqa: F401 (loads its BLAS)
    from threadpoolctl import threadpool_info

    return max((pool["num_threads"] for pool in threadpool_info()), default=1)


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _writable(folder: Path) -> bool:

    try:
        files.write_atomically(folder / ".writable", lambda file: file.write(b""))
        (folder / ".writable").unlink()
    except OSError:
        return False
    return True
