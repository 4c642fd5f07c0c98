"""The cheapest way to an error over widths and depths: one map for every target and unit."""

from __future__ import annotations

from zlib import crc32

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle

from cumprop.errors import CumpropError
from cumprop.plots import caption, style
from cumprop.results.cheapest import TARGETS, Choice, Unit, choices

COLOURS = {
    "K=2": "#56B4E9",
    "K=3": "#0072B2",
    "K=3 tree": "#009E73",
    "K=4": "#D55E00",
    "orthogonal": "#BBBBBB",
    "antithetic": "#DDDDDD",
    "iid": "#999999",
}
_OTHERS = ["#E69F00", "#CC79A7"]
_BLEND = "#F0E442"
_WORTH = 1.1
"""The least saving of a blend that is marked."""
_UNITS: dict[Unit, str] = {"flops": "FLOPs", "seconds": "seconds"}


def draw(scores: pd.DataFrame) -> Figure:
    """One panel per target and unit: the cheapest way at every width and depth, and its saving.

    `scores` is one configuration's part of `results.scores.score`. A number is the cost of the
    cheapest sampling design over that of the way; cells without a row are blank. Raises
    CumpropError for a single width or depth, and where nothing was sampled.
    """
    widths, depths = (sorted({*map(int, scores[name])}) for name in ("width", "depth"))
    if len(widths) < 2 or len(depths) < 2:
        raise CumpropError(
            f"a map needs 2 widths and depths, here are {widths} and {depths}: "
            "add values of network.width or network.depth"
        )
    found = choices(scores)
    if not found:
        raise CumpropError("no sampling was run to compare with: add monte_carlo to estimators")
    panels = [(unit, target) for unit in _UNITS for target in TARGETS]
    named = {choice.name for choice in found}
    legend = [
        Line2D([], [], color=_colour(name), marker="s", ls="none", ms=7, label=_in_words(name))
        for name in sorted(named, key=lambda name: ([*COLOURS, name].index(name), name))
    ]
    legend.append(Line2D([], [], color=_BLEND, marker="^", ls="none", label="blend, at best"))
    figure, axes = style.sheet(len(panels), "width n", "depth L", legend, _caption(scores))
    for ax, (unit, target) in zip(axes, panels, strict=True):
        ax.set(xlim=(-0.5, len(widths) - 0.5), ylim=(-0.5, len(depths) - 0.5))
        ax.set_xticks(range(len(widths)), list(map(str, widths)))
        ax.set_yticks(range(len(depths)), list(map(str, depths)))
        ax.set_title(f"vn-MSE {caption.power_of_ten(target).removeprefix('1·')}, {_UNITS[unit]}")
        ax.grid(visible=False)
        for choice in found:
            if (choice.unit, choice.target) == (unit, target):
                _mark(ax, (widths.index(choice.width), depths.index(choice.depth)), choice)
    return figure


def _mark(ax: Axes, at: tuple[int, int], choice: Choice) -> None:
    x, y = at
    colour = _colour(choice.name)
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white"))
    if choice.blended >= _WORTH:
        corner = [(x + 0.48, y + 0.1), (x + 0.48, y + 0.46), (x + 0.18, y + 0.46)]
        ax.add_patch(Polygon(corner, facecolor=_BLEND))
    text = (_short(choice.saving) if choice.saving > 1 else "") + "?" * bool(choice.undecided)
    dark = colour in ("#0072B2", "#009E73", "#D55E00")
    ax.text(x, y, text, color="white" if dark else "black", fontsize=7, ha="center", va="center")


def _colour(name: str) -> str:
    return COLOURS.get(name, _OTHERS[crc32(name.encode()) % len(_OTHERS)])


def _in_words(name: str) -> str:
    """The name of a way in the legend."""
    return name if name.startswith("K=") else f"sampling, {name}"


def _short(saving: float) -> str:
    """A factor in at most four characters.

    >>> [_short(saving) for saving in (1.23, 77.4, 912, 4310, 52_000, 2.4e6)]
    ['1.2', '77', '912', '4.3k', '52k', '2.4M']
    """
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if saving >= 0.9995 * size:
            return f"{saving / size:.{saving < 9.95 * size:d}f}{unit}"
    return f"{saving:.{saving < 9.95:d}f}"


def _caption(scores: pd.DataFrame) -> str:
    networks = scores.groupby(["width", "depth"])["seed"].nunique()
    each = "–".join(dict.fromkeys([str(networks.min()), str(networks.max())]))
    return " ".join(
        [
            "Colour: the cheapest way to the vn-MSE in the title. Number: cost of the cheapest",
            "sampling design over its cost. “?”: the 95% interval of a cheaper order holds the",
            "target, or the order was not run. Blank: not measured. Triangle: an order and samples",
            "averaged with the best weight, a bound for `blend`, would save a tenth or more.",
            caption.common(scores).replace("Bars: 95% intervals, networks and truth noise. ", ""),
            f"Networks of each width and depth: {each}; intervals: truth noise. Seconds: the",
            "quickest run.",
        ]
    )
