"""An estimate beside a sampled check: the mean of every output, and the differences."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cumprop.contract import Estimate, Estimator
from cumprop.contract.printing import interval_half_width
from cumprop.networks import MLP
from cumprop.plots import caption, style

Array = NDArray[Any]

FEW = 32
"""The most outputs with large markers and thick bars."""


def draw(network: MLP, estimator: Estimator, estimate: Estimate, check: Estimate) -> Figure:
    """Means on the left, and estimate − check in output s.d. with 95% intervals on the right.

    `check` has the means, covariance and standard errors of independent samples. An estimate has
    bars where its interval or standard error is known.
    """
    look = style.look({"estimator": estimator.name} | asdict(estimator))
    assert check.cov is not None
    sd = np.sqrt(np.diag(check.cov))
    sd[sd == 0] = 1
    missed = (estimate.mean - check.mean) / sd
    half = np.hypot(_half_width(check), _half_width(estimate)) / sd
    se = np.hypot(_stderr(check), _stderr(estimate)) / sd
    n = len(missed)
    legend = [
        Line2D([], [], color="0", marker="_", markersize=9, ls="none", label="sampled check"),
        Line2D(
            [], [], color=look.colour, marker=look.marker, linestyle="none", label=estimator.label
        ),
    ]
    text = _caption(network, estimator.label, estimate, check, missed, se)
    figure, (left, right) = style.sheet(2, "output", "mean", legend, text)
    right.set_ylabel("(estimate − check) / output s.d.")
    right.tick_params(labelleft=True)
    _bars(left, estimate.mean, _half_width(estimate), look.colour, look.marker)
    _bars(left, check.mean, _half_width(check), "0", "_", size=9)
    _bars(right, missed, half, look.colour, look.marker)
    right.axhline(0, color="0.3", linewidth=0.8, zorder=1)
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        ax.set_xlim(-0.6 - 0.01 * n, n - 0.4 + 0.01 * n)
        ax.margins(y=0.1)
    return figure


def _half_width(estimate: Estimate) -> Array:
    """The half width of each mean's 95% interval; 0 where there is none."""
    half_width = interval_half_width(estimate)
    return np.zeros(len(estimate.mean)) if half_width is None else half_width


def _stderr(estimate: Estimate) -> Array:
    stderr = estimate.stderr
    return np.zeros(len(estimate.mean)) if stderr is None else np.asarray(stderr)


def _bars(ax: Axes, y: Array, half: Array, colour: str, marker: str, size: float = 4) -> None:
    thin = 1.0 if len(y) <= FEW else 0.5
    ax.errorbar(
        np.arange(len(y)), y, half if half.any() else None, fmt=marker, color=colour,
        markersize=thin * size, elinewidth=thin, markeredgewidth=thin,
    )  # fmt: skip


def _caption(
    network: MLP, label: str, estimate: Estimate, check: Estimate, missed: Array, se: Array
) -> str:
    activations = caption.words(a.name for a in network.activations) or "no activation"
    known = ", and those of the estimate" if _half_width(estimate).any() else ""
    return " ".join(
        [
            f"{'-'.join(map(str, network.widths))} network ({activations}, {network.dtype}),",
            f"input {network.input.words}.",
            f"Estimate: {label}; check: {check.n_samples:,} independent antithetic samples.",
            f"Bars: 95% intervals of the sampled means{known}.",
            f"RMS distance over outputs: {_rms(missed):.2g} output s.d.; standard errors",
            f"alone make {_rms(se):.2g}.",
        ]
    )


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
