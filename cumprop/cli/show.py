"""Commands that show results: score, plot, report and status."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumprop import files, text
from cumprop.cli.options import DIRECTORY, FILE, directory_argument

if TYPE_CHECKING:
    import pandas as pd


@click.command()
@directory_argument
def score(directory: Path) -> None:
    """Score the estimates in DIRECTORY against the truth.

    Stores scores.parquet in each configuration's folder.

    \b
    Example:
      cumprop score results/relu_w256
    """
    from cumprop.results.scores import score_and_store

    print(score_table(score_and_store(directory)))


@click.command()
@directory_argument
@click.option("--out", type=DIRECTORY, default=Path("figures"), show_default=True)
@click.option("--figure", "figures", multiple=True, help="Only this figure; may be repeated.")
def plot(directory: Path, out: Path, figures: tuple[str, ...]) -> None:
    """Draw the results in DIRECTORY as pdf, svg and png.

    Writes figures only: the rows in DIRECTORY are scored anew, and nothing there changes.

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
@click.option(
    "--points", type=DIRECTORY, help="Also what figures draw, as EXPERIMENT/points.csv there."
)
def report(directory: Path, out: Path | None, markdown: Path | None, points: Path | None) -> None:
    """Set the claims of the paper beside the results in DIRECTORY.

    Writes one HTML page with every figure and point, which needs no other file, and the files that
    the other options name. The verdicts of the Markdown link to the points if these are written.

    \b
    Example:
      cumprop report results/ --markdown REPRODUCTION.md
    """
    from cumprop.reproduction.report import POINTS
    from cumprop.reproduction.report import report as reported

    found = reported(directory)
    written = {out or directory / "report.html": found.html()}
    if markdown is not None:
        written[markdown] = found.markdown(markdown.parent, points)
    if points is not None:
        written |= {points / one.name / POINTS: one.csv for one in found.sections}
    for path, content in written.items():
        files.write_text(path, content)
        print(path)
    print(f"{len(found.judged)} claims: {found.counts}", file=sys.stderr)


@click.command()
@directory_argument
def status(directory: Path) -> None:
    """Show what is done, failed and left in DIRECTORY.

    Also while a sweep runs, here or elsewhere. The minutes are an estimate from stored seconds.

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
            "minutes left": "" if one.minutes is None else minutes(one.minutes),
        }
        for one in found
    ]
    print(text.table(rows))
    for one in found:
        for key, reason in sorted(one.failures.items()):
            print(f"{one.config}/{key}: failed: {reason}")


def minutes(minutes: float) -> str:
    """Minutes to two digits."""
    return f"{minutes:.2g}" if minutes >= 0.01 else "<0.01"


def score_table(scored: pd.DataFrame) -> str:
    """The points of scored rows as tables."""
    from cumprop.results import scores, tail_scores

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
        curves.setdefault(_label(row, points), {})[row["bucket"]] = error
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
        "estimator": _label(point, points),
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
    """The vn-MSE that an estimator expects of itself, and how many rows it calls unreliable.

    Nothing where no line has any.
    """
    columns: dict[str, str | int] = {}
    if any(other["expected_error"] >= 0 for other in points):
        expected = point["expected_error"] ** 2
        columns["expected"] = f"{expected:.3g}" if expected >= 0 else ""
    if any(other["n_unreliable"] for other in points):
        columns["unreliable"] = point["n_unreliable"]
    return columns


def _label(point: dict[Any, Any], points: list[dict[Any, Any]]) -> str:
    """The estimator, its tolerance, and the parameters that tell it from others of its name."""
    from cumprop.contract import label

    alike = [json.loads(p["parameters"]) for p in points if p["estimator"] == point["estimator"]]
    words = label(point["estimator"], json.loads(point["parameters"]), alike)
    given = point["tolerance"] == point["tolerance"]  # not NaN
    return f"{words} tolerance={point['tolerance']}" if given else words
