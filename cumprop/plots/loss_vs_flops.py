"""Distillation: true loss over FLOPs, log-log, estimated gradients beside SGD (mathematics §8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from cumprop.plots import caption, style
from cumprop.training.distillation_runs import RUNAWAY, Row, diverged, evaluated_steps, groups

Array = NDArray[np.float64]

_METHODS = {"cumulant": ("gradient of the order-K estimate", "#0072B2"), "sgd": ("SGD", "#000000")}
_LEVELS: dict[str, style.Line] = {"start": ":", "best constant": "--"}
_GREY = "#777777"


def draw(rows: Sequence[Row]) -> Figure:
    """One panel per shape and order: the true loss of both methods at the FLOPs spent.

    `rows` are `cumprop.training.runs.read`. Lines are medians over seeds, bands the middle half of
    seeds; a run counts as infinite loss once it has diverged, and a cross marks its end.
    """
    curves = [_Curve.of(method, runs) for (*_, method), runs in groups(rows).items()]
    panels: Panels = {}
    for curve in curves:
        panels.setdefault(curve.panel, []).append(curve)
    legend = [Line2D([], [], color=colour, label=label) for label, colour in _METHODS.values()]
    for label, line in _LEVELS.items():
        legend.append(Line2D([], [], color=_GREY, linestyle=line, linewidth=0.8, label=label))
    if any(map(diverged, rows)):
        legend.append(
            Line2D([], [], color=_GREY, marker="x", linestyle="none", label="a run diverged")
        )
    y_limits = _y_limits(curves)
    figure, axes = style.sheet(
        len(panels), "FLOPs", "true loss  E|f(x) − g(x)|²/n", legend, _caption(rows, panels)
    )
    for (panel, inside), ax in zip(panels.items(), axes, strict=True):
        ax.set(xscale="log", yscale="log", ylim=y_limits)
        ax.set_title("width {}, student {}, K={}".format(*panel))
        ax.tick_params(labelbottom=True)  # every panel has FLOPs of its own
        for level, line in zip(
            (inside[0].start, inside[0].constant), _LEVELS.values(), strict=True
        ):
            ax.axhline(level, color=_GREY, linestyle=line, linewidth=0.8)
        for curve in inside:
            curve.draw(ax, y_limits[1])
    return figure


@dataclass(frozen=True, eq=False)
class _Curve:
    """One method of one panel: quartiles of the true loss over seeds, and the ends of lost runs."""

    panel: tuple[int, int, int]
    method: str
    flops: Array
    low: Array
    median: Array
    high: Array
    start: float
    constant: float
    lost: list[tuple[float, float]]
    runs: list[Row]

    @classmethod
    def of(cls, method: str, runs: list[Row]) -> Self:
        first = runs[0]
        per_step = max(run["flops"][-1] / max(run["step"][-1], 1) for run in runs)
        steps = sorted(evaluated_steps(first["n_steps"]) - {0})
        losses = np.sort([_losses(run, steps) for run in runs], axis=0)
        quarter = len(runs) // 4
        return cls(
            panel=(first["width"], first["student_width"], first["order"]),
            method=method,
            flops=per_step * np.array(steps, dtype=float),
            low=losses[quarter],
            median=np.median(losses, axis=0),
            high=losses[-1 - quarter],
            start=float(np.median([run["true_loss"][0] for run in runs])),
            constant=float(np.median([run["teacher_variance"] for run in runs])),
            lost=[
                (per_step * max(run["step"][-1], 1), run["true_loss"][-1])
                for run in runs
                if diverged(run)
            ],
            runs=runs,
        )

    def draw(self, ax: Axes, top: float) -> None:
        colour = _METHODS[self.method][1]
        known = np.isfinite(self.median)
        flops, high = self.flops[known], np.minimum(self.high[known], 10 * top)
        ax.plot(flops, self.median[known], color=colour)
        ax.fill_between(flops, self.low[known], high, color=colour, alpha=0.15, linewidth=0)
        for x, y in self.lost:
            ax.plot(x, min(y, 0.8 * top), "x", color=colour, markersize=4)


def _losses(run: Row, steps: list[int]) -> list[float]:
    """The true loss of a run at `steps`; infinite from the step at which it diverged."""
    known = dict(zip(run["step"], run["true_loss"], strict=True))
    if diverged(run):
        del known[run["step"][-1]]
    return [known.get(step, inf) for step in steps]


def _y_limits(curves: list[_Curve]) -> tuple[float, float]:
    """Limits of the axis around everything but the rise of diverging runs."""
    values = [v for c in curves for v in (c.start, c.constant, *(() if c.lost else c.high))]
    lowest = min(min(values), *(curve.low.min() for curve in curves))
    return lowest / 1.3, max(values) * 1.5


def _caption(rows: Sequence[Row], panels: Panels) -> str:
    first: dict[str, Any] = dict(rows[0])
    seeds = sorted({row["seed"] for row in rows})
    relative = max(
        se / loss
        for row in rows
        for se, loss in zip(row["true_loss_se"], row["true_loss"], strict=True)
    )
    sentences = [
        f"{caption.word(first['activation'])} teachers with input and output of their width and",
        f"students with fewer hidden neurons, depth {first['depth']}, He init, {first['dtype']};",
        f"{len(seeds)} seeds, lines: median, bands: their middle half. {first['n_steps']} steps.",
        f"True loss: {caption.power_of_ten(first['n_samples'])} held-out inputs,",
        f"s.e. at most {relative:.1%}; best constant: the variance of the teacher.",
        f"FLOPs of loss, backward pass and update as executed ({first['flops_convention']}),",
        "multiply-add = 2; the batch of SGD makes its step cost the same.",
        *(_settings(panel, inside) for panel, inside in panels.items()),
    ]
    if any(map(diverged, rows)):
        sentences.append(
            f"Diverged: the loss a run saw fell below 0, rose above {RUNAWAY} times its start or "
            "was not finite."
        )
    return " ".join(sentences)


def _settings(panel: tuple[int, int, int], inside: list[_Curve]) -> str:
    width, _, order = panel
    methods = []
    for curve in inside:
        run = curve.runs[0]
        batch = "" if run["batch"] is None else f"SGD with batch {run['batch']} "
        lost = f" ({len(curve.lost)} of {len(curve.runs)} diverged)" if curve.lost else ""
        methods.append(f"{batch}at rate {run['lr']:g}{lost}")
    return f"Width {width}, K={order}: {', '.join(methods)}."


Panels = dict[tuple[int, int, int], list[_Curve]]
