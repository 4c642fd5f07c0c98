"""Training against a costly rare event: what is left of it over rarities and shapes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from cumprop.errors import CumpropError
from cumprop.plots import caption, style
from cumprop.plots.event_vs_flops import looks
from cumprop.training.catastrophe_runs import Row, groups

_LEAST = 1e-6
"""The smallest penalty that is drawn; smaller ones lie on the edge."""

Panel = dict[float, dict[str, list[Row]]]


def draw(rows: Sequence[Row]) -> Figure:
    """A panel for each shape of several rarities, and for each rarity and depth of several widths.

    `rows` are `cumprop.training.runs.read`. Dots are the true penalties of runs at their ends,
    lines are medians. Raises CumpropError where neither rarities nor widths differ.
    """
    panels = _panels(rows)
    if not panels:
        raise CumpropError("all runs are of one rarity and width; take event_vs_flops")
    methods = looks([runs[0] for runs in groups(rows).values()])
    legend = [
        Line2D([], [], color=colour, linestyle=line, label=name)
        for name, (colour, line) in methods.items()
    ]
    words = "true penalty at the end"
    figure, axes = style.sheet(len(panels), "", words, legend, _caption(rows))
    lowest = min(_penalty(row) for row in rows)
    for ax, ((title, x_label), panel) in zip(axes, panels.items(), strict=True):
        ax.set(xscale="log", yscale="log", title=title, xlabel=x_label, ylim=(lowest / 2, 4))
        ax.axhline(1, color="0.6", linewidth=0.6, linestyle=":")
        ax.tick_params(labelbottom=True)
        for name, (colour, line) in methods.items():
            places = sorted(x for x in panel if name in panel[x])
            penalties = [[_penalty(run) for run in panel[x][name]] for x in places]
            ax.plot(places, [np.median(p) for p in penalties], line, color=colour)
            for x, several in zip(places, penalties, strict=True):
                ax.plot([x] * len(several), several, "o", color=colour, markersize=2.5)
        ax.set_xticks(sorted(panel))
        if x_label == "width":
            ax.set_xticklabels([f"{x:g}" for x in sorted(panel)])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())
    return figure


def _panels(rows: Sequence[Row]) -> dict[tuple[str, str], Panel]:
    """Runs by panel, place on its axis, and method; panels of one place are left out."""
    panels: dict[tuple[str, str], Panel] = defaultdict(dict)
    for (task, probability, width, depth, method), runs in groups(rows).items():
        of_shape = (f"{task}, {width}×{depth}", "probability of the event (teacher)")
        of_rarity = (
            f"{task}, {depth} hidden layer{'s' * (depth > 1)}, P = {probability:g}",
            "width",
        )
        for panel, place in ((of_shape, probability), (of_rarity, float(width))):
            panels[panel].setdefault(place, {})[method] = runs
    return {name: panel for name, panel in sorted(panels.items()) if len(panel) > 1}


def _penalty(run: Row) -> float:
    return max(float(run["true_penalty"][-1]), _LEAST)


def _caption(rows: Sequence[Row]) -> str:
    first: Any = rows[0]
    teachers, seeds = ({row[name] for row in rows} for name in ("teacher", "seed"))
    return (
        f"{caption.word(first['activation'])} teachers ({len(teachers)}) and students of their "
        f"shape ({len(seeds)} for each), {min(row['n_steps'] for row in rows):,} steps of Adam at "
        f"rate {first['lr']:g} with {first['batch']} samples of the task. The penalty is "
        "C E[(y − t)₊]; the teacher pays 1 (dotted). True values by the unbiased rare-event "
        f"estimator; those below {_LEAST:g} lie on the edge. Dots: runs; lines: medians."
    )
