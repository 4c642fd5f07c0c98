"""Errors over the width or the depth, log-log, with power laws: what mse_vs_width, _depth share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cumprop.errors import CumpropError
from cumprop.plots import caption, style, tradeoff
from cumprop.results.points import Point, label, points
from cumprop.results.power_laws import PowerLaw, error_law
from cumprop.results.scores import GROUP, PROBLEM

Note = tuple[float, float, str, str]
"""x, y, text and colour."""

_LINE = 9.0  # points from one note to the next


def draw(scores: pd.DataFrame, column: str, label: str, fraction: float, about: str) -> Figure:
    """One panel per problem: vn-MSE of the cumulants over `column`, with fitted power laws.

    `fraction` bounds the range of the fit as `power_laws.error_law` says. `about` ends the
    caption. Raises CumpropError for a single width or depth.
    """
    scores = scores[scores["estimator"] == "cumulant"]
    values = sorted(set(scores[column]))
    if len(values) < 2:
        raise CumpropError(
            f"one {column} shows no law; sweep with --set network.{column}=[…] of several"
        )
    other = "depth" if column == "width" else "width"
    kept_fixed = [name for name in PROBLEM if name != column]
    by_panel = scores.groupby(kept_fixed, dropna=False)
    panels = [(table.iloc[0], _curves(table, column, fraction)) for _, table in by_panel]
    legend = style.legend((one.look for _, curves in panels for one in curves), linewidth=0.8)
    text = [caption.common(scores), _about(panels, label), caption.missing(scores), about]
    figure, axes = style.sheet(
        len(panels), label, "vn-MSE", legend, " ".join(filter(None, text)), style.PAGE
    )
    errors = [p["y"] for _, curves in panels for curve in curves for p in curve.points]
    for (first, curves), ax in zip(panels, axes, strict=True):
        ax.set(xscale="log", yscale="log", xlim=(values[0] / 1.15, values[-1] * 1.15))
        ax.set_ylim(min(errors) / 5, max(errors) * 2)
        ax.set_title(caption.title(first, scores, [other]))
        for curve in curves:
            curve.draw(ax)
    figure.draw_without_rendering()
    for (_, curves), ax in zip(panels, axes, strict=True):
        annotate(ax, [curve.note for curve in curves])
        name_ticks(ax, values)
    return figure


def annotate(ax: Axes, notes: Sequence[Note]) -> None:
    """Write each note right of everything, at its point's height or as near as there is room."""
    point = ax.figure.dpi / 72  # in pixels
    right = max(x for x, *_ in notes)
    notes = sorted(notes, key=lambda note: note[1])
    heights = [ax.transData.transform((right, y))[1] / point for _, y, *_ in notes]
    places = _apart(heights, ax.bbox.y1 / point - 4)
    written = [
        ax.annotate(
            text, (right, y), (7, place - height), textcoords="offset points", va="center",
            fontsize=7, color=colour, in_layout=False,
        )
        for (_, y, text, colour), height, place in zip(notes, heights, places, strict=True)
    ]  # fmt: skip
    longest = max(note.get_window_extent().width for note in written) + 10 * point
    left, end = np.log(ax.get_xlim()[0]), np.log(right)
    ax.set_xlim(right=np.exp(left + (end - left) / (1 - longest / ax.bbox.width)))


def _apart(heights: Sequence[float], top: float) -> list[float]:
    """Ascending heights in points moved apart, up where possible, none above `top`.

    >>> _apart([0.0, 5.0, 50.0], top=50.0), _apart([45.0, 50.0], top=50.0)
    ([0.0, 9.0, 50.0], [41.0, 50.0])
    """
    places: list[float] = []
    for height in heights:
        places.append(max(height, places[-1] + _LINE) if places else height)
    for i in reversed(range(len(places))):
        places[i] = min(places[i], top if i == len(places) - 1 else places[i + 1] - _LINE)
    return places


def name_ticks(ax: Axes, values: Sequence[int]) -> None:
    """A tick at every width or depth, named where there is room, the largest always."""
    names: list[str] = []
    nearest = np.inf
    for value in reversed(values):
        place = ax.transData.transform((value, 1))[0] * 72 / ax.figure.dpi
        free = place < nearest - 20
        names.append(str(value) if free else "")
        nearest = place if free else nearest
    ax.set_xticks(values, list(reversed(names)))
    ax.minorticks_off()


@dataclass(frozen=True)
class _Curve:
    """One estimator: its points over the width or the depth, and the law through them."""

    name: str
    look: style.Look
    column: str
    points: list[Point]
    law: PowerLaw | None

    @classmethod
    def of(cls, rows: pd.DataFrame, column: str, fraction: float) -> Self:
        found = points(rows)
        law = error_law(rows, column, fraction)
        return cls(label(found[0], kind=False), style.look(found[0]), column, found, law)

    @property
    def note(self) -> Note:
        last = self.points[-1]
        text = "  ".join(filter(None, [self.name, str(self.law or "")]))
        return last[self.column], last["y"], text, self.look.colour

    def draw(self, ax: Axes) -> None:
        path = [(p[self.column], p["y"]) for p in self.points]
        ax.plot(*zip(*path, strict=True), ":", color=self.look.colour, linewidth=0.6, zorder=1)
        for point in self.points:
            tradeoff.mark(ax, point[self.column], point)
        if self.law:
            x = np.array([min(self.law.x), max(self.law.x)])
            ax.plot(x, self.law.at(x), color=self.look.colour, linewidth=0.8, zorder=1)


def _curves(table: pd.DataFrame, column: str, fraction: float) -> list[_Curve]:
    same = [name for name in GROUP if name != column]
    scored = table[table["mse"].notna()]
    return [_Curve.of(rows, column, fraction) for _, rows in scored.groupby(same, dropna=False)]


def _about(panels: list[tuple[Any, list[_Curve]]], label: str) -> str:
    curves = [curve for _, found in panels for curve in found]
    sentence = (
        f"Lines and numbers: power of {label}, fitted in log-log over the range drawn and over "
        "resolved points, ± 95% interval over networks; dots connect all points"
    )
    return f"{sentence}{tradeoff.bounds(point for curve in curves for point in curve.points)}."
