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

from cumprop import plots
from cumprop.errors import CumpropError
from cumprop.reproduction.claims import CLAIMS, Claim, command
from cumprop.reproduction.verdicts import AGREES, DISAGREES, OPEN, Measurement

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = [
    "width", "depth", "activation", "estimator", "order", "kind", "algorithm", "truncation",
    "design", "tolerance", "n_samples", "n_seeds", "vn_mse", "total_low", "total_high", "resolved",
    "expected_error", "n_unreliable", "flops", "seconds",
]  # fmt: skip
"""Columns of `cumprop.results.scores.summary` that a report shows."""


@dataclass(frozen=True)
class Judged:
    """A claim and what the rows say."""

    claim: Claim
    measurement: Measurement

    @property
    def measured(self) -> str:
        """The measurement in words; where it disagrees, with the reason if one was found."""
        reason = self.claim.reason if self.measurement.verdict == DISAGREES else ""
        return f"{self.measurement.text}. {reason}" if reason else self.measurement.text


@dataclass(frozen=True, eq=False)
class Section:
    """One experiment: its figures as base64 SVG, why others are missing, and its points."""

    name: str
    figures: dict[str, str]
    missing: dict[str, str]
    points: pd.DataFrame

    @property
    def command(self) -> str:
        """What makes the rows."""
        return command(self.name)

    @property
    def csv(self) -> str:
        """The content of `POINTS`."""
        return self.points.to_csv(index=False, float_format="%.6g", lineterminator="\n")

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
            loader=PackageLoader("cumprop.reproduction", ""),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        run = {section.name for section in self.sections}
        return environment.get_template("report.html").render(report=self, run=run, cell=_cell)

    def markdown(self, folder: Path, points: Path | None = None) -> str:
        """The table of claims as a Markdown file in `folder`.

        Each verdict links to the points below the folder `points`, if these are written there.
        """
        run = {section.name for section in self.sections if points is not None}
        linked = "" if points is None else "Each verdict links to the points it rests on. "
        lines = [
            "# Reproduction",
            "",
            "Every claim of the paper's figures and Table 1 beside our measurement. Written by "
            f"`cumprop report` from rows; {self.counts}.",
            f"{linked}*open*: the rows cannot tell. Intervals "
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
            if points is not None and claim.experiment in run:
                rows = os.path.relpath(points / claim.experiment / POINTS, folder)
                verdict = f"[{verdict}]({Path(rows).as_posix()})"
            words = (claim.source, claim.statement, claim.required, one.measured)
            command = f"`{claim.command}`"
            cells = " | ".join([*(word.replace("|", "/") for word in words), verdict, command])
            lines.append(f"| {cells} |")
        return "\n".join(lines) + "\n"


POINTS = "points.csv"
"""File of an experiment: what its figures draw, one line per point."""


def report(results: Path) -> Report:
    """Judge all claims and draw all figures from the results below `results`; writes nothing.

    Raises CumpropError where there are no results.
    """
    import pandas as pd

    sections, rows_of = [], dict[str, pd.DataFrame]()
    conditions = set[str]()
    for name, rows, asked in plots.tables(results):
        figures, missing = {}, {}
        for figure in asked:
            try:
                figures[figure] = _drawn(figure, rows)
            except CumpropError as error:
                missing[figure] = str(error)
        sections.append(Section(name, figures, missing, _points(rows)))
        rows_of[name] = pd.DataFrame(rows)
        if "conditions" in rows_of[name]:
            conditions |= {*rows_of[name]["conditions"]}
    judged = [Judged(claim, claim.judge(rows_of)) for claim in CLAIMS]
    order = list(dict.fromkeys(claim.experiment for claim in CLAIMS))
    sections.sort(key=lambda one: order.index(one.name) if one.name in order else len(order))
    return Report(judged, sections, sorted(conditions))


def _points(rows: Any) -> pd.DataFrame:
    """What figures draw of an experiment: points of scores, or lines of runs."""
    import pandas as pd

    from cumprop.results import scores
    from cumprop.training import runs

    if not isinstance(rows, pd.DataFrame):
        return pd.DataFrame(runs.summary(rows))
    points = scores.summary(rows).sort_values(["width", "depth", "estimator", "order", "kind"])
    unknown = {name for name in scores.TRUST if not points[name].fillna(0).any()}
    return points[[name for name in _SHOWN if name not in unknown]]


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
