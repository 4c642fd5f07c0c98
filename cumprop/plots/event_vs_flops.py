"""Training against a costly rare event: true losses over FLOPs, and estimates beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from cumprop.plots import caption, style
from cumprop.training.catastrophe_runs import EXCEEDED, Row, groups

Array = NDArray[np.float64]

_COLOURS = {
    "sampled": ("#000000", "#777777", "#BBBBBB"),
    "adversarial": ("#CC79A7",),
    "importance": ("#E69F00", "#F0C060"),
    "cumulant": ("#56B4E9", "#0072B2", "#332288"),
    "conditional": ("#D55E00", "#009E73", "#882255"),
}
"""The colours of the methods of each way, in their order; further ones start anew in `_LINES`."""
_LINES: tuple[style.Line, ...] = ("-", "--", ":", "-.")
_ROOM = 4
"""The room above and below all lines of a panel, as a factor; wider bands are cut off."""
_LEAST = 1e-3
"""The smallest ratio that is drawn; smaller ones lie on the edge."""


def draw(rows: Sequence[Row]) -> Figure:
    """Three panels for each case: true total loss, probability of the event, estimate over truth.

    `rows` are `cumprop.training.runs.read`. Lines are medians over teachers and seeds at the scored
    steps, bands reach from the smallest to the largest.
    """
    cases: dict[tuple[Any, ...], list[list[Row]]] = {}
    for (*case, _), runs in groups(rows).items():
        cases.setdefault(tuple(case), []).append(runs)
    methods_of = looks([runs[0] for runs in groups(rows).values()])
    legend = [
        Line2D([], [], color=colour, linestyle=line, label=name)
        for name, (colour, line) in methods_of.items()
    ]
    figure, axes = style.sheet(3 * len(cases), "FLOPs", "", legend, _caption(rows))
    for place, (key, methods) in enumerate(sorted(cases.items())):
        total, event, ratio = axes[3 * place : 3 * place + 3]
        for ax in (total, event, ratio):
            ax.set(xscale="log", yscale="log")
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.tick_params(labelleft=True)
        task, probability, width, depth = key
        total.set_title(f"true loss + penalty\n{task}, {width}×{depth}")
        event.set_title(f"probability of the event\nteacher: {probability:g}")
        ratio.set_title("penalty: estimate / truth\nas the optimiser sees it")
        ratio.axhspan(1 / EXCEEDED, EXCEEDED, color="0.93")
        for runs in methods:
            colour, line = methods_of[runs[0]["method"]]
            for ax, curve in ((total, _totals), (event, _events)):
                _Band.of(runs, curve).draw(ax, colour, line)
            if runs[0]["exploits"] is not None:
                _Band.of(runs, _ratios).draw(ratio, colour, line)
                for run in (run for run in runs if run["within"] is not None):
                    outside = ~np.array(run["within"])
                    flops = np.array(run["flops"])[outside]
                    ratio.plot(flops, _ratios(run)[outside], "x", color=colour, markersize=3)
        for ax in (total, event, ratio):
            heights = np.concatenate([np.asarray(line.get_ydata()) for line in ax.get_lines()])
            positive = heights[heights > 0]
            if len(positive):
                ax.set_ylim(positive.min() / _ROOM, positive.max() * _ROOM)
    return figure


def looks(methods: Sequence[Row]) -> dict[str, tuple[str, style.Line]]:
    """The colour and line of each method by name, in the order of legends."""
    ways = list(_COLOURS)
    found: dict[str, tuple[str, style.Line]] = {}
    seen = dict.fromkeys(ways, 0)
    variants = ("order", "weight", "n_steps", "directions", "advice_steps", "fresh")
    for row in sorted(
        methods, key=lambda row: (ways.index(row["way"]), *(row[name] for name in variants))
    ):
        if row["method"] not in found:
            colours = _COLOURS[row["way"]]
            again, place = divmod(seen[row["way"]], len(colours))
            found[row["method"]] = (colours[place], _LINES[again % len(_LINES)])
            seen[row["way"]] += 1
    return found


def _totals(run: Row) -> Array:
    totals: Array = np.add(run["true_loss"], run["true_penalty"])
    return totals


def _events(run: Row) -> Array:
    return np.array(run["true_probability"])


def _ratios(run: Row) -> Array:
    penalty, truth = np.array(run["penalty"]), np.array(run["true_penalty"])
    ratios: Array = np.maximum(penalty / np.where(truth > 0, truth, np.inf), _LEAST)
    return ratios


@dataclass(frozen=True, eq=False)
class _Band:
    """Median and range over runs, at the median FLOPs of every scored step."""

    flops: Array
    low: Array
    median: Array
    high: Array

    @classmethod
    def of(cls, runs: Sequence[Row], curve: Any) -> _Band:
        """The band of a function of rows, as far as every run came."""
        scored = min(len(run["step"]) for run in runs)
        values = np.array([curve(run)[:scored] for run in runs])
        flops = np.median([run["flops"][:scored] for run in runs], axis=0)
        return cls(flops, values.min(axis=0), np.median(values, axis=0), values.max(axis=0))

    def draw(self, ax: Axes, colour: str, line: style.Line) -> None:
        ax.plot(self.flops, self.median, line, color=colour, marker=".", markersize=3)
        ax.fill_between(self.flops, self.low, self.high, color=colour, alpha=0.12, linewidth=0)


def _caption(rows: Sequence[Row]) -> str:
    first = rows[0]
    teachers, seeds = ({row[name] for row in rows} for name in ("teacher", "seed"))
    activation = caption.word(first["activation"])
    return (
        f"{activation} teachers ({len(teachers)}) and students of their shape "
        f"({len(seeds)} for each), {first['dtype']}, Adam at rate {first['lr']:g}, "
        f"{first['batch']} samples of the task a step. The penalty is C E[(y − t)₊]; the teacher "
        "pays 1. True values by the unbiased rare-event estimator and "
        f"{caption.power_of_ten(first['n_samples'])} held-out inputs, apart from training. Lines: "
        "medians; bands: all runs, cut off far from all lines. Grey: estimates within a factor of "
        f"{EXCEEDED:g} of the truth; crosses: those whose stated error does not reach it. FLOPs of "
        f"losses, advice, backward pass and update as executed ({first['flops_convention']})."
    )
