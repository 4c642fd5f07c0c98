"""The report: every claim of the paper beside what was measured, from scored rows alone.

One HTML page that needs no other file, and the same table as Markdown.
"""

from __future__ import annotations

import importlib
import os
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cumprop import store
from cumprop.claims import Claim, claims
from cumprop.errors import CumpropError
from cumprop.measurements import AGREES, DISAGREES, OPEN, Measurement

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = [
    "width", "depth", "activation", "estimator", "order", "kind", "engine", "truncation", "design",
    "tolerance", "n_samples", "n_seeds", "vn_mse", "total_low", "total_high", "resolved", "flops",
    "seconds",
]  # fmt: skip
"""Columns of `cumprop.scores.summary` that a report shows."""


@dataclass(frozen=True)
class Judged:
    """A claim and what the rows say."""

    claim: Claim
    measurement: Measurement


@dataclass(frozen=True)
class Section:
    """One experiment: its figures as base64 SVG, its points, and where its rows are."""

    name: str
    figures: dict[str, str]
    missing: dict[str, str]
    points: pd.DataFrame
    folder: Path

    @property
    def rows(self) -> list[list[Any]]:
        """The values of `points`, row by row."""
        return [list(row.values()) for row in self.points.to_dict("records")]


@dataclass(frozen=True)
class Report:
    """All claims judged, all experiments, and the conditions rows were computed under."""

    judged: list[Judged]
    sections: list[Section]
    conditions: list[str]

    @property
    def counts(self) -> str:
        """Verdicts in words."""
        found = Counter(one.measurement.verdict for one in self.judged)
        return ", ".join(f"{found[verdict]} {verdict}" for verdict in (AGREES, DISAGREES, OPEN))

    def html(self) -> str:
        """The page. Raises CumpropError where jinja2 is not installed."""
        try:
            from jinja2 import Environment, PackageLoader, StrictUndefined
        except ModuleNotFoundError:
            raise CumpropError("a report needs jinja2: pip install 'cumprop[report]'") from None
        environment = Environment(
            loader=PackageLoader("cumprop", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template("report.html").render(report=self, cell=_cell)

    def markdown(self, folder: Path) -> str:
        """The table of claims as a Markdown file in `folder`, each verdict linked to its rows."""
        where = {section.name: section.folder for section in self.sections}
        lines = [
            "# Reproduction",
            "",
            "Every claim of the paper's figures and Table 1 beside our measurement. Written by "
            f"`cumprop report` from rows; {self.counts}.",
            "Each verdict links to the points it rests on. *open*: the rows cannot tell. Intervals "
            "are 95%, over networks and truth noise; tolerances are ours.",
            "",
            f"Conditions: {'; '.join(self.conditions)}.",
            "",
            "| paper | claim | agrees if | measured | verdict | command |",
            "|---|---|---|---|---|---|",
        ]
        for one in self.judged:
            claim, verdict = one.claim, one.measurement.verdict
            if verdict == DISAGREES:
                verdict = f"**{verdict}**"
            if claim.experiment in where:
                rows = os.path.relpath(where[claim.experiment] / POINTS, folder)
                verdict = f"[{verdict}]({Path(rows).as_posix()})"
            words = (claim.source, claim.statement, claim.required, one.measurement.text)
            command = f"`{claim.command}`"
            cells = " | ".join([*(word.replace("|", "/") for word in words), verdict, command])
            lines.append(f"| {cells} |")
        return "\n".join(lines) + "\n"


POINTS = "points.csv"
"""File in the folder of each experiment: what its figures draw, one line per point."""


def report(results: Path) -> Report:
    """Judge all claims and draw all figures from the results below `results`.

    Writes `points.csv` into the folder of each experiment. Raises CumpropError where there are no
    results.
    """
    from cumprop.scores import score, summary

    scores = score(results)
    sections = []
    for config, rows in scores.groupby("config", sort=False):
        name = str(config)
        folder = results / name if (results / name).is_dir() else results
        points = summary(rows).sort_values(["width", "depth", "estimator", "order", "kind"])
        points = points[_SHOWN]
        text = points.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        store.write_text(folder / POINTS, text)
        figures, missing = {}, {}
        for figure in store.planned_figures(results, name):
            try:
                figures[figure] = _drawn(figure, rows)
            except CumpropError as error:
                missing[figure] = str(error)
        sections.append(Section(name, figures, missing, points, folder))
    judged = [Judged(claim, claim.judge(scores)) for claim in claims()]
    return Report(judged, sections, sorted(set(scores["conditions"])))


def _drawn(name: str, rows: pd.DataFrame) -> str:
    """A figure as base64 SVG."""
    from cumprop.plots import style

    draw = importlib.import_module(f"cumprop.plots.{name}").draw
    file = BytesIO()
    with style.context():
        draw(rows).savefig(file, format="svg", metadata={"Date": None})
    return b64encode(file.getvalue()).decode()


def _cell(value: Any) -> str:
    """A value in a table of points: nothing where it is null."""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)
