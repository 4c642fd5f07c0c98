"""Commands that run and show experiments: sweep, score, plot, status, validate."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumprop.cli import text
from cumprop.errors import ConfigError, CumpropError

if TYPE_CHECKING:
    import pandas as pd

    from cumprop.experiment import Config
    from cumprop.sweep import Plan

DIRECTORY = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)

plugin_option = click.option(
    "--plugin", "plugins", multiple=True, type=FILE, help="Python file with further estimators."
)
scale_option = click.option(
    "--scale", envvar="SCALE", help="One of the config's scales (smoke, laptop, paper)."
)
set_option = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key of the config."
)


@click.command()
@click.argument("config", type=FILE)
@click.option("--results", type=DIRECTORY, default=Path("results"), show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), help="Workers; all cores by default.")
@scale_option
@set_option
@click.option("--dry-run", is_flag=True, help="Show what would run and what it takes.")
@plugin_option
@click.pass_obj
def sweep(
    debug: bool,
    config: Path,
    results: Path,
    jobs: int | None,
    scale: str | None,
    sets: tuple[str, ...],
    dry_run: bool,
    plugins: tuple[Path, ...],
) -> int:
    """Run the experiment CONFIG.

    What is already there is not computed again. Exits with 3 if cells failed.

    \b
    Example:
      cumprop sweep configs/relu_w256.yaml --scale smoke --set network.width=[32,64]
    """
    from cumprop.provenance import cores
    from cumprop.sweep import plan, run

    load_plugins(plugins)
    checked = _checked(config, scale, sets)
    planned, workers = plan(checked, config.stem), jobs or cores()
    if dry_run:
        _show_forecast(planned, workers)
        return 0
    summary = run(planned, results, workers, plugins, debug)
    print(
        f"{summary.computed} cells computed, {summary.kept} already there, "
        f"{len(summary.failed)} failed",
        file=sys.stderr,
    )
    for outcome in summary.failed:
        print(f"{outcome.label}: {outcome.status}", file=sys.stderr)
    try:
        print(_score_table(results / config.stem))
        figures = "".join(f" --figure {name}" for name in checked.figures)
        print(f"\nfigures: cumprop plot {results / config.stem}{figures}", file=sys.stderr)
    except CumpropError as error:
        print(error, file=sys.stderr)
        return 3 if summary.failed else 1
    return 3 if summary.failed else 0


@click.command()
@click.argument("directory", type=DIRECTORY, default=Path("results"))
def score(directory: Path) -> None:
    """Score the estimates in DIRECTORY against the truth.

    Writes scores.parquet into each configuration's folder.

    \b
    Example:
      cumprop score results/relu_w256
    """
    print(_score_table(directory))


@click.command()
@click.argument("directory", type=DIRECTORY, default=Path("results"))
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
@click.argument("directory", type=DIRECTORY, default=Path("results"))
def status(directory: Path) -> None:
    """Show what is done, failed and left in DIRECTORY.

    \b
    Example:
      cumprop status results/
    """
    from cumprop import store

    rows, failures = [], []
    for folder in store.config_folders(directory):
        cells = {row["cell_key"]: row["status"] for row in store.read_folder(folder)}
        failed = {key for key, status in cells.items() if status.startswith("failed")}
        failures += [f"{folder.name}/{key}: {cells[key]}" for key in sorted(failed)]
        planned = store.read_plan(folder)
        left = None if planned is None else len(set(planned) - cells.keys())
        row = {"config": folder.name, "done": len(cells) - len(failed), "failed": len(failed)}
        rows.append(row | {"left": left})
    print(text.table(rows))
    for line in failures:
        print(line)


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


def load_plugins(plugins: tuple[Path, ...]) -> None:
    """Register the estimators of plugin files."""
    from cumprop.plugins import load_plugin

    for path in plugins:
        load_plugin(path)


def _problems(path: Path) -> Iterator[str]:
    from cumprop import config

    try:
        for scale in (None, *config.scales(path)):
            try:
                _checked(path, scale, ())
            except ConfigError as error:
                yield from str(error).splitlines()
    except ConfigError as error:
        yield from str(error).splitlines()


def _checked(path: Path, scale: str | None, sets: tuple[str, ...]) -> Config:
    from cumprop import config, plots

    return config.load(path, scale, sets, figures=plots.available())


def _show_forecast(planned: Plan, workers: int) -> None:
    from cumprop.sweep import forecast

    rows = forecast(planned, workers)
    shown = [
        {
            **row,
            "flops": f"{row['flops']:.2e}",
            "bytes": "" if row["bytes"] is None else text.size(row["bytes"]),
            "minutes": _minutes(row["minutes"]),
        }
        for row in rows
    ]
    print(text.table(shown))
    total = _minutes(sum(row["minutes"] for row in rows))
    print(
        f"\n{len(planned.cells)} cells, {len(planned.truths)} truths, {total} minutes with "
        f"{workers} workers if nothing is there yet.\nflops and bytes are of one cell; minutes "
        "are of all cells of a line at the speed of matrix products,\nmeasured on this machine "
        "just now: random numbers and small steps come on top."
    )


def _minutes(minutes: float) -> str:
    return f"{minutes:.2g}" if minutes >= 0.01 else "<0.01"


def _score_table(directory: Path) -> str:
    from cumprop import scores, tail_scores

    scored = scores.score(directory)
    points = scores.summary(scored).to_dict("records")
    tables = [text.table([_line(point, points) for point in points])]
    tails = tail_scores.relative_errors(scored, scores.GROUP)
    for _, problem in tails.groupby(scores.PROBLEM, dropna=False):
        tables.append(text.table(_tail_lines(problem, points)))
    return "\n\n".join(tables)


def _tail_lines(tails: pd.DataFrame, points: list[dict[Any, Any]]) -> list[dict[str, Any]]:
    """Relative errors, one line per estimator, a column per bucket; then what the buckets hold."""
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
    }


def _described(point: dict[Any, Any], points: list[dict[Any, Any]]) -> str:
    """The estimator with its order, its tolerance, and what tells it from others of its name."""
    alike = [json.loads(p["parameters"]) for p in points if p["estimator"] == point["estimator"]]
    shown = {
        key: value
        for key, value in json.loads(point["parameters"]).items()
        if key == "order" or any(other.get(key) != value for other in alike)
    }
    if point["tolerance"] == point["tolerance"]:  # not NaN
        shown["tolerance"] = point["tolerance"]
    return " ".join([point["estimator"], *(f"{key}={value}" for key, value in shown.items())])
