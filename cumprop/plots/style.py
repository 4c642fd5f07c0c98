"""The look of all figures: one label, colour and marker per estimator, one layout of the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from cumprop.files import write_atomically

Array = NDArray[np.float64]

Line = Literal["-", "--", "-.", ":", "none"]

COLUMN, PAGE = 3.4, 7.0
"""The widths of a figure in inches: one column of a paper, or both."""

_RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 8.0,
    "axes.labelsize": 8.0,
    "axes.titlesize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": True,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.0,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,
    "svg.hashsalt": "cumprop",  # the same picture gives the same bytes
    "savefig.dpi": 300,
}
_NO_DATE: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
    "png": {"Software": None},
}
FORMATS = tuple(_NO_DATE)


@dataclass(frozen=True)
class Look:
    """Label, colour and marker of one estimator, and the style of its line where it has one."""

    label: str
    colour: str
    marker: str
    line: Line = "none"


# Okabe and Ito's colours, and two darker ones, told apart under every common colour blindness;
# grey shades for sampling
_LOOKS = {
    ("monte_carlo", "iid"): Look("sampling, iid", "#000000", "o", "-"),
    ("monte_carlo", "antithetic"): Look("sampling, antithetic", "#777777", "<", "-."),
    ("monte_carlo", "orthogonal"): Look("sampling, orthogonal", "#777777", "p", "--"),
    ("monte_carlo", "sobol"): Look("sampling, Sobol", "#777777", "*", ":"),
    ("monte_carlo", "gaussian"): Look("sampling, Gaussian tail", "#CC79A7", "x", "-"),
    ("monte_carlo", "cumulant"): Look("sampling, third-cumulant tail", "#E69F00", "+", "-"),
    ("importance", None): Look("sampling, importance", "#777777", "2", "-"),
    ("linearized", None): Look("linearized", "#E69F00", ">"),
    ("unscented", None): Look("unscented", "#56B4E9", "d"),
    ("gaussian", None): Look("Gaussian", "#CC79A7", "^"),
    ("cumulant", "basic"): Look("cumulants, basic", "#0072B2", "s"),
    ("cumulant", "augmented"): Look("cumulants, augmented", "#D55E00", "D"),
    ("cumulant", "augmented_factorised"): Look("cumulants, fact. augmented", "#D55E00", "P"),
    ("cumulant", "tree"): Look("cumulants, tree", "#009E73", "v"),
    ("cumulant", "base"): Look("cumulants, no trace", "#56B4E9", "h"),
    ("cumulant", "ablated"): Look("cumulants, ablated", "#E69F00", "X"),
    ("adaptive", None): Look("adaptive", "#882255", "H"),
    ("blend", None): Look("blend", "#332288", "8"),
    ("conditional", None): Look("conditional", "#117733", "1"),
}
_OTHER_COLOURS = ["#E69F00", "#56B4E9", "#009E73", "#D55E00"]
_OTHER_MARKERS = [">", "d", "H", "8"]


def look(row: Mapping[str, Any]) -> Look:
    """The look of a row's estimator, the same in every figure; unknown ones have their name.

    >>> look({"estimator": "cumulant", "kind": "basic"}).label
    'cumulants, basic'
    """
    name = str(row["estimator"])
    variant = {"monte_carlo": _sampling(row), "cumulant": row.get("kind")}.get(name)
    hashed = crc32(name.encode())
    other = Look(name, _OTHER_COLOURS[hashed % 4], _OTHER_MARKERS[hashed // 4 % 4])
    return _LOOKS.get((name, variant), other)


def _sampling(row: Mapping[str, Any]) -> Any:
    """The extrapolation of sampling, or else its design."""
    given = row.get("parameters")
    parameters = json.loads(given) if isinstance(given, str) else {}
    extrapolated = parameters.get("extrapolate", "none")
    return row.get("design") if extrapolated == "none" else extrapolated


def ordered(looks: Iterable[Look]) -> list[Look]:
    """Looks in the order of legends: sampling first, unknown estimators last by name."""
    known = list(_LOOKS.values())
    rank = {look: place for place, look in enumerate(known)}
    return sorted(looks, key=lambda look: (rank.get(look, len(known)), look.label))


def legend(looks: Iterable[Look], **line: Any) -> list[Line2D]:
    """Entries of a legend: each look once, in order, with the properties `line` of lines."""
    return [
        Line2D([], [], color=look.colour, label=look.label, marker=look.marker, **line)
        for look in ordered({*looks})
    ]


def context() -> AbstractContextManager[None]:
    """The settings under which figures are drawn and saved, as a context."""
    return mpl.rc_context(_RC)  # type: ignore[arg-type]


def sheet(
    n_panels: int,
    x_label: str,
    y_label: str,
    legend: list[Line2D],
    caption: str,
    width: float | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure of `n_panels` axes, at most three abreast, legend above and caption below.

    One panel is `COLUMN` wide and several are `PAGE`, unless `width` in inches is given.
    """
    columns = 2 if n_panels in (4, 8) else min(n_panels, 3)
    rows = -(-n_panels // columns)
    width = width or (COLUMN if columns == 1 else PAGE)
    lines = _wrap(caption, width)
    legend_columns = 2 if columns == 1 else 3
    above = 0.02 + 0.15 * -(-len(legend) // legend_columns)
    below = 0.04 + 0.125 * len(lines)
    height = above + below + rows * (2.6 if columns == 1 else 2.2)

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    engine = ConstrainedLayoutEngine(
        rect=(0, below / height, 1, 1 - (above + below) / height), w_pad=0.03, h_pad=0.04
    )
    figure.set_layout_engine(engine)
    figure.legend(
        handles=legend, loc="upper left", ncols=legend_columns, frameon=False, borderaxespad=0.2,
        handlelength=2.0, columnspacing=1.2, labelspacing=0.3,
    ).set_in_layout(False)  # fmt: skip
    figure.text(
        0.04 / width, 0.04 / height, "\n".join(lines), fontsize=7, va="bottom", linespacing=1.2,
        color="0.25", in_layout=False,
    )  # fmt: skip
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(n_panels)]
    for place, ax in enumerate(axes):
        leftmost, lowest = place % columns == 0, place + columns >= n_panels
        ax.tick_params(labelleft=leftmost, labelbottom=lowest)
        ax.set(xlabel=x_label if lowest else "", ylabel=y_label if leftmost else "")
    return figure, axes


def _wrap(text: str, width: float) -> list[str]:
    """Lines of 7-point text at most `width` inches wide, measured in the font itself."""
    font = FontProperties(size=7)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if text_to_path.get_text_width_height_descent(longer, font, False)[0] > 72 * (width - 0.1):
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def upper_bound(axes: Axes, x: float, y: float, look: Look) -> None:
    """Draw an open marker with an arrow down: the error is below `y`."""
    axes.plot(x, y, look.marker, color=look.colour, markerfacecolor="white", zorder=3)
    axes.annotate(
        "", (x, y), (0, -14), textcoords="offset points", zorder=2, in_layout=False,
        arrowprops={"arrowstyle": "<-", "lw": 1, "color": look.colour, "shrinkA": 0, "shrinkB": 2},
    )  # fmt: skip


def label_points(axes: Axes, labels: list[tuple[float, float, str, Look]]) -> None:
    """Write (x, y, text, look) beside each point, on the side where it covers least.

    The call comes last, after `Figure.draw_without_rendering`, when all else is in its place.
    """
    pixels = axes.figure.dpi / 72
    taken = np.vstack(
        [_trace(line, pixels) for line in axes.lines]
        + [_filled(text.get_window_extent()) for text in axes.texts]
    )
    for x, y, text, look in labels:
        note = axes.annotate(
            text, (x, y), (0, 0), textcoords="offset points", color=look.colour, fontsize=7,
            ha="center", va="center", in_layout=False,
        )  # fmt: skip
        box = note.get_window_extent()
        reach = (box.width / 2 + 4 * pixels, box.height / 2 + 2 * pixels)
        offsets = [(across * reach[0], up * reach[1]) for across, up in _SIDES]
        free = min(offsets, key=lambda at: _covered(box.translated(*at), taken, axes.bbox))
        note.set_position((free[0] / pixels, free[1] / pixels))
        taken = np.vstack([taken, _filled(box.translated(*free))])


_AROUND = [(1, 0), (-1, 0), (0, 1), (0, -1), (0.9, 0.9), (-0.9, 0.9), (0.9, -0.9), (-0.9, -0.9)]
_SIDES = [(away * across, away * up) for away in (1, 1.5, 2.2, 3) for across, up in _AROUND]


def _trace(line: Line2D, pixels: float) -> Array:
    """Display positions along a line, and around its markers."""
    points = line.get_transform().transform(line.get_xydata())
    steps = np.linspace(0, 1, 100)[:, None, None]
    along = (points[:-1] + steps * np.diff(points, axis=0)).reshape(-1, 2)
    angles = np.linspace(0, 2 * np.pi, 12)
    radius = pixels * line.get_markersize() / 2 * (line.get_marker() != "None")
    circle = radius * np.column_stack([np.cos(angles), np.sin(angles)])
    return np.vstack([along, (points[:, None] + circle).reshape(-1, 2)])


def _filled(box: Bbox) -> Array:
    """Display positions all over a text."""
    across, up = np.meshgrid(np.linspace(box.x0, box.x1, 20), np.linspace(box.y0, box.y1, 5))
    return np.column_stack([across.ravel(), up.ravel()])


def _covered(box: Bbox, taken: Array, inside: Bbox) -> int:
    """The number of taken positions that a text would cover; very many outside the axes."""
    leaves = not all(inside.contains(x, y) for x, y in box.corners())
    return int(box.count_contains(taken)) + 10_000 * leaves


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem`.pdf, .svg and .png, with no date in them; returns the paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS]
    for path in paths:
        save_one(figure, path)
    return paths


def save_one(figure: Figure, path: Path) -> None:
    """Write one file with a suffix in `FORMATS`, atomically, with no date in it."""
    kind = path.suffix.removeprefix(".")
    write_atomically(path, lambda file: figure.savefig(file, format=kind, metadata=_NO_DATE[kind]))
