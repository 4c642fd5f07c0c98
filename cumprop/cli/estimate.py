"""The command `estimate`: expected outputs of one network, from a file of weights."""

from __future__ import annotations

import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumprop.cli import report
from cumprop.cli.decisions import Questions
from cumprop.cli.inputs import InputOptions, input_options
from cumprop.cli.options import FILE, format_option, load_plugins, out_option, plugin_option
from cumprop.cli.tails import Quantiles, Rare, Tail
from cumprop.errors import ConfigError, CumpropError

if TYPE_CHECKING:
    from cumprop.contract import Estimate, Estimator
    from cumprop.functionals import Decision, Expectation
    from cumprop.functionals.rare import Probability, Quantile
    from cumprop.networks import MLP

PICTURES = (".png", ".svg", ".pdf")
CHECK_SAMPLES = 20_000
POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("model", type=FILE)
@click.option(
    "--estimator",
    help="Default: cumulant, or adaptive for a --tolerance alone and for rows of data.",
)
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
@input_options
@click.option(
    "--tail",
    metavar="'y>T'",
    help="Also P(y > T) of every output; or 'y<T'. With --tail-tolerance also one event: 'y0>T', "
    "'y0-y1>T', '|y0|>T'.",
)
@click.option(
    "--tail-tolerance",
    type=POSITIVE,
    help="Relative half width of the 95% interval of --tail, as in 0.1, down to 1e-9; with "
    "--tail-quantiles, of the tails on both sides of a quantile.",
)
@click.option(
    "--tail-quantiles",
    metavar="Q,…",
    help="Also what every output stays below with probability Q, as in 0.9,0.99; with "
    "--tail-tolerance 0.1 with an interval, down to 1e-9.",
)
@click.option(
    "--classes",
    is_flag=True,
    help="Also P(argmax y = c) of every class c, within --tolerance if given, and the softmax.",
)
@click.option(
    "--certify", is_flag=True, help="Radius in which the class stays the likeliest under noise."
)
@click.option(
    "--expect",
    multiple=True,
    metavar="WHAT",
    help="Also E[WHAT]: max, min, squared:TARGET, cross-entropy:CLASS.",
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
    inputs: InputOptions,
    tail: str | None,
    tail_tolerance: float | None,
    tail_quantiles: str | None,
    classes: bool,
    certify: bool,
    expect: tuple[str, ...],
    cov: bool,
    layers: bool,
    form: str,
    out: Path | None,
    picture: Path | None,
    plugins: tuple[Path, ...],
    **named: Any,
) -> None:
    """Estimate the expected output of the network in MODEL.

    MODEL is a .npz, .safetensors, .pt, .pth, .onnx or .nnet file. Its input is standard normal,
    unless an option or the file says otherwise: Gaussian, uniform in a box, rows of data, or a law
    fitted to them.

    \b
    Example:
      cumprop estimate model.onnx --tolerance 1e-3
      cumprop estimate model.onnx --order 3 --tail 'y>2' --format json
      cumprop estimate model.pt --activations relu --input-mean mean.npy --input-cov cov.csv
      cumprop estimate model.onnx --tail 'y0-y1>0' --tail-tolerance 0.1
      cumprop estimate model.npz --tail-quantiles 0.9,0.99 --plot check.png
      cumprop estimate model.npz --tail-quantiles 0.999999 --tail-tolerance 0.1
      cumprop estimate model.onnx --input-box 0:1 --tolerance 1e-3
      cumprop estimate model.onnx --input-data x.csv --components 5
      cumprop estimate model.onnx --input-mean image.npy --input-cov 0.01 --classes --certify
      cumprop estimate model.onnx --expect max --expect cross-entropy:3
    """
    from cumprop.contract import independent_samples
    from cumprop.inputs import Empirical

    if form == "parquet" and out is None:
        raise ConfigError("--format parquet: name a file, as in --out estimate.parquet")
    if picture is not None and picture.suffix not in PICTURES:
        raise ConfigError(f"--plot {picture}: give a file that ends with {', '.join(PICTURES)}")
    if tail is None and tail_quantiles is None and tail_tolerance is not None:
        raise ConfigError("--tail-tolerance: name the event, as in --tail 'y0>3'")
    wanted_tail = None if tail is None or tail_tolerance is not None else Tail.parsed(tail)
    questions = Questions.parsed(classes, certify, expect, tolerance)
    rare = None if tail is None or tail_tolerance is None else Rare(tail, tail_tolerance)
    wanted_quantiles = (
        None if tail_quantiles is None else Quantiles.parsed(tail_quantiles, tail_tolerance)
    )
    load_plugins(plugins)
    network = _loaded(model, activations, prefix, inputs)
    over_rows = isinstance(network.input, Empirical)
    if over_rows and picture is not None:
        raise ConfigError("--plot: rows of data leave no samples to check; give --components")
    parameters = {key: value for key, value in named.items() if value is not None}
    parameters |= dict(_setting(words) for words in sets)
    of_means = None if questions else tolerance  # else it is that of the questions
    backend = _backend(network, estimator, of_means, parameters)
    start = time.perf_counter()
    result = _run(backend, network, seed, "cov" if cov else "std")
    mean_of = partial(_run, backend, seed=seed, wanted="mean")
    described: dict[str, Any] = {}
    others: list[Estimate | Probability | Quantile | Decision | Expectation] = []
    if wanted_tail is not None:
        independent = over_rows or getattr(backend, "design", None) == "iid"
        found, [tails] = wanted_tail.found(mean_of, network, independent)
        others = [tails]
        if backend.name == "adaptive" and not over_rows:
            found, refined = wanted_tail.refined(found, tails, network, seed)
            others = [*refined]
        described |= found
    if rare is not None:
        found, events = rare.found(network, seed)
        described, others = described | found, [*others, *events]
    if wanted_quantiles is not None:
        n_samples = independent_samples(backend, network, result)
        is_adaptive = backend.name == "adaptive" and not over_rows
        found, taken = wanted_quantiles.found(
            mean_of, network, result, n_samples, seed, is_adaptive
        )
        described, others = described | found, [*others, *taken]
    answered, results = questions.found(network, backend, seed)
    described, others = described | answered, [*others, *results]
    seconds = time.perf_counter() - start
    described = report.of(backend.name, result, others) | described | {"seconds": seconds}
    described |= {"cov": report.numbers(result.cov)} if cov else {}
    described |= {"layer_means": [*map(report.numbers, result.layer_means)]} if layers else {}
    report.write(described, form, out)
    if picture is not None:
        _draw(picture, network, backend, result, seed)


def _loaded(model: Path, activations: str | None, prefix: str | None, inputs: InputOptions) -> MLP:
    """The network of the file under the law of the options; notes are printed."""
    from cumprop.networks.importers import load

    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        network = load(
            model,
            None if activations is None else _listed(activations),
            inputs.mean,
            inputs.cov,
            None if prefix is None else _listed(prefix),
        )
    for note in notes:
        click.echo(f"note: {note.message}", err=True)
    return inputs.given_to(network)


def _setting(words: str) -> tuple[str, Any]:
    from cumprop.experiments import yaml_loader

    key, node = yaml_loader.setting(words, f"--set {words}")
    return key, node.plain()


def _backend(
    network: MLP, name: str | None, tolerance: float | None, parameters: dict[str, Any]
) -> Estimator:
    """The estimator of this name, or the usual one; raises ConfigError for wrong parameters."""
    from cumprop.contract import build, build_for
    from cumprop.inputs import Empirical
    from cumprop.networks import gaussian_parts

    if name is None:
        searched = tolerance is not None or isinstance(network.input, Empirical)
        name = "adaptive" if searched and not parameters else "cumulant"
    try:
        if tolerance is None:
            return build(name, **parameters)
        shape = gaussian_parts(network)[0][1].shape
        return build_for(name, tolerance, shape, **parameters)
    except CumpropError as error:
        raise ConfigError(str(error)) from None


def _listed(activations: str) -> str | list[str]:
    names = [name.strip() for name in activations.split(",")]
    return names[0] if len(names) == 1 else names


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
