"""The command `estimate`: expected outputs of one network, from a file of weights."""

from __future__ import annotations

import time
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumprop.cli import report
from cumprop.cli.options import FILE, format_option, load_plugins, out_option, plugin_option
from cumprop.cli.tails import Quantiles, Tail
from cumprop.errors import ConfigError, CumpropError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from cumprop.contract import Estimate, Estimator
    from cumprop.networks import MLP

PICTURES = (".png", ".svg", ".pdf")
CHECK_SAMPLES = 20_000
POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("model", type=FILE)
@click.option("--estimator", help="Default: cumulant, or adaptive for a --tolerance alone.")
@click.option("--order", type=int, help="Order K of `cumulant`.")
@click.option("--kind", help="What `cumulant` tracks: basic, augmented, …")
@click.option("--n-samples", type=int, help="Forward passes of `monte_carlo`.")
@click.option("--design", help="How `monte_carlo` draws: iid, antithetic, orthogonal, sobol.")
@click.option(
    "--tolerance", type=POSITIVE, help="RMS error in output s.d.; finds orders or samples for it."
)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any other parameter.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--activations", help="Of a file of weights alone: relu, or one per layer: relu,tanh")
@click.option("--prefix", help="Of several networks in MODEL: how its names begin; or parts: a,b")
@click.option("--input-mean", help="Number, or file (npy, csv) with one per input. Default 0.")
@click.option(
    "--input-cov", help="Number, or file (npy, csv) with a diagonal or a matrix. Default identity."
)
@click.option("--tail", metavar="'y>T'", help="Also P(y > T) of every output; or 'y<T'.")
@click.option(
    "--tail-quantiles",
    metavar="Q,…",
    help="Also what every output stays below with probability Q, as in 0.9,0.99.",
)
@click.option("--cov", is_flag=True, help="Also the covariance of the outputs.")
@click.option("--layers", is_flag=True, help="Also the means of every hidden layer.")
@format_option
@out_option
@click.option(
    "--plot",
    "picture",
    type=FILE,
    help="Draw the means beside a sampled check, into a .png, .svg or .pdf file.",
)
@plugin_option
def estimate(
    model: Path,
    estimator: str | None,
    tolerance: float | None,
    sets: tuple[str, ...],
    seed: int,
    activations: str | None,
    prefix: str | None,
    input_mean: str | None,
    input_cov: str | None,
    tail: str | None,
    tail_quantiles: str | None,
    cov: bool,
    layers: bool,
    form: str,
    out: Path | None,
    picture: Path | None,
    plugins: tuple[Path, ...],
    **named: Any,
) -> None:
    """Estimate the expected output of the network in MODEL.

    MODEL is a .npz, .safetensors, .pt, .pth or .onnx file; its input is Gaussian.

    \b
    Example:
      cumprop estimate model.onnx --tolerance 1e-3
      cumprop estimate model.onnx --order 3 --tail 'y>2' --format json
      cumprop estimate model.pt --activations relu --input-mean mean.npy --input-cov cov.csv
      cumprop estimate model.npz --tail-quantiles 0.9,0.99 --plot check.png
    """
    from cumprop.contract import build, build_for, independent_samples
    from cumprop.experiments import yaml_loader
    from cumprop.networks.importers import load

    if form == "parquet" and out is None:
        raise ConfigError("--format parquet: name a file, as in --out estimate.parquet")
    if picture is not None and picture.suffix not in PICTURES:
        raise ConfigError(f"--plot {picture}: give a file that ends with {', '.join(PICTURES)}")
    wanted_tail = None if tail is None else Tail.parsed(tail)
    wanted_quantiles = None if tail_quantiles is None else Quantiles.parsed(tail_quantiles)
    load_plugins(plugins)
    network = load(
        model,
        None if activations is None else _listed(activations),
        _input("--input-mean", input_mean),
        _input("--input-cov", input_cov),
        None if prefix is None else _listed(prefix),
    )
    parameters = {key: value for key, value in named.items() if value is not None}
    for words in sets:
        key, node = yaml_loader.setting(words, f"--set {words}")
        parameters[key] = node.plain()
    if estimator is None:
        estimator = "adaptive" if tolerance is not None and not parameters else "cumulant"
    try:
        if tolerance is None:
            backend = build(estimator, **parameters)
        else:
            backend = build_for(estimator, tolerance, network.shape, **parameters)
    except CumpropError as error:
        raise ConfigError(str(error)) from None
    start = time.perf_counter()
    result = _run(backend, network, seed, "cov" if cov else "std")
    mean_of = partial(_run, backend, seed=seed, wanted="mean")
    described: dict[str, Any] = {}
    others: list[Estimate] = []
    if wanted_tail is not None:
        independent = getattr(backend, "design", None) == "iid"
        found, others = wanted_tail.found(mean_of, network, independent)
        described |= found
    if wanted_quantiles is not None:
        n_samples = independent_samples(backend, network, result)
        found, taken = wanted_quantiles.found(mean_of, network, result, n_samples, seed)
        described, others = described | found, others + taken
    seconds = time.perf_counter() - start
    described = report.of(backend.name, result, others) | described | {"seconds": seconds}
    described |= {"cov": report.numbers(result.cov)} if cov else {}
    described |= {"layer_means": [*map(report.numbers, result.layer_means)]} if layers else {}
    report.write(described, form, out)
    if picture is not None:
        _draw(picture, network, backend, result, seed)


def _listed(activations: str) -> str | list[str]:
    names = [name.strip() for name in activations.split(",")]
    return names[0] if len(names) == 1 else names


def _input(option: str, value: str | None) -> ArrayLike | None:
    """The number, or the array in the file, that an option names; one row or column is a vector."""
    import numpy as np

    from cumprop.networks.importers.parts import check_memory, naming

    if value is None:
        return None
    with suppress(ValueError):
        return float(value)
    path = Path(value)
    with naming(f"{option} {value}"):
        check_memory(path.stat().st_size)
        try:
            if path.suffix.lower() == ".npy":  # a memory map shows what the file really has
                table = np.array(np.lib.format.open_memmap(path, mode="r"))
            else:
                text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin with a mark
                if ";" in text:  # where commas are decimal points
                    text = text.replace(",", ".").replace(";", ",")
                with warnings.catch_warnings(action="error"):
                    table = np.loadtxt(text.splitlines(), delimiter=",", ndmin=2)
        except (ValueError, OverflowError, UserWarning):  # a warning where there are none
            raise CumpropError(
                "give a number, a .npy file of plain numbers, or a .csv file of numbers with "
                "commas (or semicolons) between them and no header"
            ) from None
    return table.ravel() if 1 in table.shape else table


def _run(backend: Estimator, network: MLP, seed: int, wanted: str) -> Estimate:
    """Estimate means, and a covariance if `wanted` is "cov", or if it is "std" and supported."""
    from cumprop.contract import estimate

    try:
        return estimate(network, backend, cov=wanted != "mean", seed=seed)
    except CumpropError:
        if wanted != "std":
            raise
        return estimate(network, backend, seed=seed)


def _draw(picture: Path, network: MLP, backend: Estimator, result: Estimate, seed: int) -> None:
    """Draw the estimate beside samples that are independent of its own."""
    from cumprop import streams
    from cumprop.contract import build
    from cumprop.plots import sampled_check, style

    sampling = build("monte_carlo", n_samples=CHECK_SAMPLES, design="antithetic")
    rng = streams.picture(seed, network.shape.width)
    check = sampling.estimate(network, cov=True, rng=rng)
    with style.context():
        style.save_one(sampled_check.draw(network, backend, result, check), picture)
