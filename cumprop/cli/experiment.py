"""Commands that run and show experiments: sweep, score, plot, report, status, validate."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumprop import files, text
from cumprop.cli.options import (
    DIRECTORY,
    FILE,
    checked,
    directory_argument,
    load_plugins,
    place,
    plugin_option,
    run_options,
    shard_option,
)
from cumprop.errors import ConfigError, CumpropError

if TYPE_CHECKING:
    import pandas as pd

    from cumprop.sweep.sweep import Plan


@click.command()
@click.argument("configs", type=FILE, nargs=-1, required=True)
@run_options
@shard_option
@click.option(
    "--time-limit", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
    help="A cell that takes longer fails; the others go on.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would run and what it takes.")
@plugin_option
@click.pass_obj
def sweep(
    debug: bool,
    configs: tuple[Path, ...],
    results: Path,
    workers: int | None,
    engine: str,
    scheduler: str | None,
    scale: str | None,
    sets: tuple[str, ...],
    shard: tuple[int, int] | None,
    time_limit: float | None,
    dry_run: bool,
    plugins: tuple[Path, ...],
) -> int:
    """Run the experiments CONFIGS.

    Cells that this or another experiment has computed are skipped. The minutes of --dry-run are for
    --workers free cores, at a speed that a benchmark of some seconds measures. The command exits
    with 3 if cells failed.

    \b
    Example:
      cumprop sweep configs/relu_w256.yaml --scale smoke --set network.width=[32,64]
      cumprop sweep configs/depths.yaml --engine dask --scheduler tcp://head:8786
      cumprop sweep configs/depths.yaml configs/grid.yaml --scale paper --shard 1/8
    """
    from cumprop.sweep.sweep import plan, run_all, shared

    load_plugins(plugins)
    where = place(engine, workers, scheduler)
    plans = []
    for config in configs:
        one = plan(checked(config, scale, sets), config.stem, None if shard else results)
        plans.append(one if workers is None else replace(one, workers=workers))
    plans = shared(plans)
    if shard is not None:
        plans = [one.shard(*shard) for one in plans]
    if dry_run:
        _show_forecast(plans, results, where.workers)
        return 0
    summaries = run_all(plans, results, where, plugins, debug, time_limit)
    for one, summary in zip(plans, summaries, strict=True):
        print(
            f"{one.name}: {summary.computed} cells computed, {summary.kept} already there, "
            f"{len(summary.failed)} failed",
            file=sys.stderr,
        )
        for outcome in summary.failed:
            print(outcome, file=sys.stderr)
    failed = any(summary.failed for summary in summaries)
    if shard is not None:
        print(f"when all shards are done: cumprop score {results}", file=sys.stderr)
        return 3 if failed else 0
    try:
        _show_scores(plans, results)
    except CumpropError as error:
        print(error, file=sys.stderr)
        return 3 if failed else 1
    return 3 if failed else 0


@click.command()
@directory_argument
def score(directory: Path) -> None:
    """Score the estimates in DIRECTORY against the truth.

    Each configuration's folder gets a file scores.parquet.

    \b
    Example:
      cumprop score results/relu_w256
    """
    print(_score_table(directory))


@click.command()
@directory_argument
@click.option("--out", type=DIRECTORY, default=Path("figures"), show_default=True)
@click.option("--figure", "figures", multiple=True, help="Only this figure; may be repeated.")
def plot(directory: Path, out: Path, figures: tuple[str, ...]) -> None:
    """Draw the results in DIRECTORY as pdf, svg and png.

    \b
    Example:
      cumprop plot results/ --out figures/ --figure mse_vs_flops
    """
    from cumprop import plots

    for path in plots.plot(directory, out, list(figures) or None):
        print(path)


@click.command()
@directory_argument
@click.option("--out", type=FILE, help="The page; DIRECTORY/report.html by default.")
@click.option("--markdown", type=FILE, help="Also the table of claims, as Markdown.")
def report(directory: Path, out: Path | None, markdown: Path | None) -> None:
    """Set the claims of the paper beside the results in DIRECTORY.

    The report is one HTML page with every figure and point, which needs no other file.

    \b
    Example:
      cumprop report results/ --markdown REPRODUCTION.md
    """
    from cumprop.reproduction.report import report as reported

    found = reported(directory)
    written = {out or directory / "report.html": found.html()}
    if markdown is not None:
        written[markdown] = found.markdown(markdown.parent)
    for path, content in written.items():
        files.write_text(path, content)
        print(path)
    print(f"{len(found.judged)} claims: {found.counts}", file=sys.stderr)


@click.command()
@directory_argument
def status(directory: Path) -> None:
    """Show what is done, failed and left in DIRECTORY.

    A sweep may be running, here or elsewhere. The minutes are an estimate from stored seconds.

    \b
    Example:
      cumprop status results/
    """
    from cumprop.results import store
    from cumprop.sweep.status import status as standing

    found = [standing(folder) for folder in store.config_folders(directory)]
    rows = [
        {
            "config": one.config,
            "done": one.done,
            "failed": one.failed,
            "left": one.left,
            "sampled": "" if one.sampled is None else f"{one.sampled:.0%}",
            "minutes left": "" if one.minutes is None else _minutes(one.minutes),
        }
        for one in found
    ]
    print(text.table(rows))
    for one in found:
        for key, reason in sorted(one.failures.items()):
            print(f"{one.config}/{key}: failed: {reason}")


@click.command()
@click.argument("configs", type=FILE, nargs=-1, required=True)
@plugin_option
def validate(configs: tuple[Path, ...], plugins: tuple[Path, ...]) -> None:
    """Check CONFIGS with all their scales; runs nothing.

    \b
    Example:
      cumprop validate configs/*.yaml
    """
    load_plugins(plugins)
    problems = list(dict.fromkeys(line for path in configs for line in _problems(path)))
    if problems:
        raise ConfigError("\n".join(problems))
    print(f"{len(configs)} valid")


def _problems(path: Path) -> Iterator[str]:
    from cumprop.experiments import config

    try:
        for scale in (None, *config.scales(path)):
            try:
                _check(path, scale)
            except ConfigError as error:
                yield from str(error).splitlines()
    except ConfigError as error:
        yield from str(error).splitlines()


def _check(path: Path, scale: str | None) -> None:
    """Raise ConfigError where a configuration, for whichever command, has problems."""
    from cumprop.experiments import config, distillation_config

    command = config.read(path, scale).child("command")
    if command and command.value == distillation_config.COMMAND:
        distillation_config.load(path, scale)
    else:
        checked(path, scale, ())


def _show_forecast(asked: Sequence[Plan], results: Path, workers: int) -> None:
    from cumprop.sweep.forecast import forecast, overview
    from cumprop.sweep.sweep import remaining

    plans = remaining(asked, results)
    stored = sum(len(one.cells) for one in asked) - sum(len(one.cells) for one in plans)
    if len(plans) == 1:
        rows = forecast(plans[0], plans[0].workers or workers)
        note = "flops and bytes are of one cell; minutes are of all cells of a line"
    else:
        rows = overview(plans, workers)
        note = "bytes are at the worst moment of all workers; what is shared counts once"
    written: dict[str, Callable[[Any], str]] = {
        "flops": "{:.2e}".format,
        "bytes": lambda n: "" if n is None else text.size(n),
        "minutes": _minutes,
    }
    shown = [{k: written[k](v) if k in written else v for k, v in row.items()} for row in rows]
    print(text.table(shown) or "nothing to compute")
    total = _minutes(sum(row["minutes"] for row in rows))
    left_out = sum(one.left_out for one in plans)
    beside = f" ({left_out} too large and left out)" if left_out else ""
    print(
        f"\n{sum(len(one.cells) for one in plans)} cells{beside}, "
        f"{sum(len(one.truths) for one in plans)} truths, {total} minutes with "
        f"{workers} workers; {stored} cells are stored.\n{note}.\n"
        f"Minutes assume {workers} free cores and the pace of workers side by side, measured on\n"
        "this machine just now; waiting for memory and for other programs comes on top."
    )


def _show_scores(plans: Sequence[Plan], results: Path) -> None:
    if len(plans) > 1:
        print(f"\nfigures: cumprop plot {results}", file=sys.stderr)
        return
    (one,) = plans
    print(_score_table(results / one.name))
    figures = "".join(f" --figure {name}" for name in one.figures)
    print(f"\nfigures: cumprop plot {results / one.name}{figures}", file=sys.stderr)


def _minutes(minutes: float) -> str:
    return f"{minutes:.2g}" if minutes >= 0.01 else "<0.01"


def _score_table(directory: Path) -> str:
    from cumprop.results import scores, tail_scores

    scored = scores.score(directory)
    points = scores.summary(scored).to_dict("records")
    tables = [text.table([_line(point, points) for point in points])]
    tails = tail_scores.relative_errors(scored, scores.GROUP)
    for _, problem in tails.groupby(scores.PROBLEM, dropna=False):
        tables.append(text.table(_tail_lines(problem, points)))
    return "\n\n".join(tables)


def _tail_lines(tails: pd.DataFrame, points: list[dict[Any, Any]]) -> list[dict[str, Any]]:
    """Relative errors, a line per estimator and a column per bucket; then the buckets' contents."""
    buckets = sorted(set(tails.loc[tails["neurons"] > 0, "bucket"]), reverse=True)
    curves: dict[str, dict[int, str]] = {}
    for row in tails.to_dict("records"):
        below = "<" * (not row["relative_error"])  # not resolved from zero
        error = f"{below}{row['relative_error'] or row['high']:.2g}"
        curves.setdefault(_described(row, points), {})[row["bucket"]] = error
    for count in ("neurons", "dropped"):
        most = tails.groupby("bucket")[count].max()
        curves[count] = {k: str(most[k]) for k in buckets}
    first = tails.iloc[0]
    what = f"relative error, {first['readout']} width={first['width']} depth={first['depth']}"
    return [
        {what: name, **{f"1e{k}": curve.get(k, "") for k in buckets}}
        for name, curve in curves.items()
    ]


def _line(point: dict[Any, Any], points: list[dict[Any, Any]]) -> dict[str, str | int]:
    """One line of the score table from one row of `scores.summary`."""
    return {
        "config": point["config"],
        "estimator": _described(point, points),
        "width": point["width"],
        "depth": point["depth"],
        "seeds": point["n_seeds"],
        "flops": f"{point['flops']:.3g}",
        "seconds": f"{point['seconds']:.2g}",
        "vn_mse": f"{point['vn_mse']:.3g}" if point["resolved"] else f"<{point['noise_high']:.2g}",
        "95% interval": f"{point['total_low']:.2g} to {point['total_high']:.2g}",
        **_trust(point, points),
    }


def _trust(point: dict[Any, Any], points: list[dict[Any, Any]]) -> dict[str, str | int]:
    """The vn-MSE that an estimator expects of itself, and the number of its unreliable rows.

    A column is left out where no line has a value.
    """
    columns: dict[str, str | int] = {}
    if any(other["expected_error"] >= 0 for other in points):
        expected = point["expected_error"] ** 2
        columns["expected"] = f"{expected:.3g}" if expected >= 0 else ""
    if any(other["n_unreliable"] for other in points):
        columns["unreliable"] = point["n_unreliable"]
    return columns


def _described(point: dict[Any, Any], points: list[dict[Any, Any]]) -> str:
    """The estimator with order, tolerance, and parameters in which others of its name differ."""
    alike = [json.loads(p["parameters"]) for p in points if p["estimator"] == point["estimator"]]
    shown = {
        key: value
        for key, value in json.loads(point["parameters"]).items()
        if key == "order" or any(other.get(key) != value for other in alike)
    }
    if point["tolerance"] == point["tolerance"]:  # not NaN
        shown["tolerance"] = point["tolerance"]
    return " ".join([point["estimator"], *(f"{key}={value}" for key, value in shown.items())])
