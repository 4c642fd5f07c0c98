"""Commands around experiments: estimate one network, list what there is, examine the machine."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from cumprop.cli import text
from cumprop.cli.experiment import DIRECTORY, FILE, load_plugins, plugin_option
from cumprop.errors import ConfigError, CumpropError

POSITIVE = click.FloatRange(min=0, min_open=True)

ROWS = 20
"""Outputs a printed table shows; JSON has them all."""


@click.command()
@click.argument("net", type=FILE)
@click.option("--estimator", default="cumulant", show_default=True)
@click.option("--order", type=int, help="Order K of `cumulant`.")
@click.option("--kind", help="What `cumulant` tracks: basic, augmented, …")
@click.option("--n-samples", type=int, help="Forward passes of `monte_carlo`.")
@click.option("--design", help="How `monte_carlo` draws: iid, antithetic, orthogonal, sobol.")
@click.option(
    "--tolerance", type=POSITIVE, help="RMS error in output s.d.; chooses order or samples."
)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any other parameter.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--cov", is_flag=True, help="Also the covariance of the outputs.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@plugin_option
def estimate(
    net: Path,
    estimator: str,
    tolerance: float | None,
    sets: tuple[str, ...],
    seed: int,
    cov: bool,
    form: str,
    plugins: tuple[Path, ...],
    **named: Any,
) -> None:
    """Estimate the expected output of the network in NET.

    NET is an npz file as `MLP.save` writes it; its input is Gaussian.

    \b
    Example:
      cumprop estimate net.npz --estimator cumulant --order 3 --cov --format json
    """
    import numpy as np

    from cumprop.experiment import make, make_for
    from cumprop.networks import MLP

    load_plugins(plugins)
    network = MLP.load(net)
    parameters = {key: value for key, value in named.items() if value is not None} | _parsed(sets)
    try:
        if tolerance is None:
            backend = make(estimator, parameters)
        else:
            backend = make_for(estimator, tolerance, network.shape, parameters)
    except CumpropError as error:
        raise ConfigError(str(error)) from None
    reason = backend.supports(network)
    if reason is not None:
        raise CumpropError(reason)
    start = time.perf_counter()
    result = backend.estimate(network, cov=cov, rng=np.random.default_rng(seed))
    seconds = time.perf_counter() - start
    std = None if result.cov is None else np.sqrt(np.clip(np.diag(result.cov), 0, None))
    report = {
        "estimator": backend.name,
        "mean": result.mean.tolist(),
        "std": None if std is None else std.tolist(),
        "stderr": None if result.stderr is None else result.stderr.tolist(),
        "cov": None if result.cov is None else result.cov.tolist(),
        "n_samples": result.n_samples,
        "flops": result.flops.total,
        "flops_components": dict(result.flops),
        "seconds": seconds,
        "status": result.status,
    }
    print(json.dumps(report, allow_nan=False) if form == "json" else _as_table(report))


def _parsed(sets: tuple[str, ...]) -> dict[str, Any]:
    from cumprop import yaml_loader

    parameters = {}
    for setting in sets:
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise ConfigError(f"--set {setting}: write --set key=value")
        parameters[key] = yaml_loader.parse(value, f"--set {setting}").plain()
    return parameters


def _as_table(report: dict[str, Any]) -> str:
    columns = {"mean": report["mean"], "s.d.": report["std"], "s.e.": report["stderr"]}
    known = {name: values for name, values in columns.items() if values is not None}
    n = len(report["mean"])
    rows = [
        {"output": i} | {name: f"{values[i]:.6g}" for name, values in known.items()}
        for i in range(min(n, ROWS))
    ]
    more = [f"… {n - ROWS} more; --format json has them all"] if n > ROWS else []
    cost = f"{report['flops']:.3g} FLOPs, {report['seconds']:.3g} s; status: {report['status']}"
    return "\n".join([text.table(rows), *more, f"\n{report['estimator']}: {cost}"])


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
    from cumprop.estimator import available, get

    load_plugins(plugins)
    print("estimators")
    for name in available():
        shown = [
            f.name if f.default is MISSING else f"{f.name}={f.default}" for f in fields(get(name))
        ]
        print(f"  {name:<14}{', '.join(shown)}")
    print(f"activations\n  {', '.join(activations.available())}")
    print(f"figures\n  {', '.join(plots.available())}")
    configs = sorted(Path("configs").glob("*.yaml"))
    print("configs\n" + ("\n".join(f"  {path}" for path in configs) or "  none in ./configs"))


@click.command()
@click.option("--results", type=DIRECTORY, default=Path("results"), show_default=True)
def doctor(results: Path) -> int:
    """Examine this machine and installation.

    Exits with 1 if something needs attention.

    \b
    Example:
      cumprop doctor --results results/
    """
    from cumprop import memory, provenance

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
        complaints.append("less than 2 GB of memory are free; keep to --jobs 1 and small widths")
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
    from cumprop import store

    try:
        store.write_atomically(folder / ".writable", lambda file: file.write(b""))
        (folder / ".writable").unlink()
    except OSError:
        return False
    return True
