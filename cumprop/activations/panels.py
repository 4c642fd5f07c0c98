"""Panels of Gauss–Legendre nodes, halved where a function is steep (mathematics §2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import count

Array = NDArray[Any]

NODES = 100  # of a panel of equal ones
PANEL_NODES = 16  # of a panel on which the function is smooth
RESOLVED = 1e-12  # of the scale of a function: powers of it are to be right to 1e-10
DEGREE = 16  # of the polynomial through both ends that a function is compared with
FIRST = 7  # panels to a piece; an odd number keeps their ends off the mean, where steps may be
MOST = 1024  # panels of a neuron halved at a time: noise would be halved for ever


@dataclass(frozen=True, eq=False)
class Panels:
    """Panels (neurons, panels) of neurons side by side; those of width 0 fill up rows.

    `error` (neurons,) adds up the errors of the panels that were not halved any more.
    """

    left: Array
    width: Array
    error: Array

    def nodes(self) -> tuple[Array, Array]:
        """Nodes and normal-density weights, (neurons, nodes) each."""
        return _rule(self.left, self.width, 1, PANEL_NODES)


def resolving(values: Callable[[Array, Array], Array], edges: Array, scale: Array) -> Panels:
    """Panels on which the function of each neuron is a polynomial, to 1e-12 of its `scale`, or of
    the size that the first panels show where that is larger.

    `values(rows, x)` are those of the neurons `rows` (m,) at x (m, nodes), `edges` (neurons,
    pieces + 1) the ends of the pieces. A panel is halved while δ · width · e^(-x²/4) exceeds
    that, δ the last Chebyshev coefficients and x its point nearest to 0: by Cramér's
    inequality this bounds what δ changes of E[φ He_k]/√k!, whatever k. Cost: φ at 17 nodes of some
    30 to 70 panels per neuron of a step, 120 FLOPs a panel.
    """
    row, piece = np.nonzero(edges[:, 1:] > edges[:, :-1])
    width = (edges[row, piece + 1] - edges[row, piece]) / FIRST
    left = edges[row, piece][:, None] + width[:, None] * np.arange(FIRST)
    row, width, left = np.repeat(row, FIRST), np.repeat(width, FIRST), left.ravel()
    t, last = _chebyshev()
    found = list[Array]()
    while len(row):
        x = left[:, None] + width[:, None] * t
        y = values(row, x)
        if not found:  # where other nodes missed what the function does, so did their scale
            squares = (y * y * np.exp(-0.5 * (x * x))).mean(axis=1) * width / sqrt(2 * pi)
            scale = np.maximum(scale, np.sqrt(np.bincount(row, squares, len(edges))))
            count(len(row) * (6 * len(t) + 3) + 2 * len(edges))
        nearest = np.maximum(np.maximum(left, -left - width), 0)
        change = np.abs(y @ last).max(axis=1) * width * np.exp(-0.25 * nearest * nearest)
        count(len(row) * (6 * len(t) + 17))
        error = change / scale[row]
        steep = error > RESOLVED
        crowded = np.bincount(row[steep], minlength=len(edges)) > MOST
        halved = steep & ~crowded[row]
        panels = np.stack([row, left, width, np.where(steep, error, 0)])
        found.append(panels[:, ~halved])
        row, left, width = (np.repeat(index[halved], 2) for index in (row, left, width))
        width /= 2
        left[1::2] += width[1::2]
    return _side_by_side(np.concatenate(found, axis=1), len(edges))


@cache
def _chebyshev() -> tuple[Array, Array]:
    """Points on [0, 1] with both ends, and the last two coefficients of values there."""
    angle = np.linspace(0, pi, DEGREE + 1)
    last = np.cos(np.outer(angle, (DEGREE - 1, DEGREE))) * (2, 1) / DEGREE
    last[[0, -1]] /= 2
    return (1 - np.cos(angle)) / 2, last


def _side_by_side(panels: Array, neurons: int) -> Panels:
    """A row of panels for every neuron, from a column for every panel."""
    panels = panels[:, np.argsort(panels[0], kind="stable")]
    row = panels[0].astype(int)
    counts = np.bincount(row, minlength=neurons)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    filled = np.zeros((3, neurons, counts.max()))
    filled[:, row, place] = panels[1:]
    left, width, error = filled
    return Panels(left, width, error.sum(axis=1))


def panel_rule(edges: Array, panels: int) -> tuple[Array, Array]:
    """Nodes and normal-density weights between `edges` (rows, pieces + 1): (rows, nodes) each.

    Every piece is cut into `panels` equal panels of 100 Gauss–Legendre nodes.
    """
    return _rule(edges[:, :-1], edges[:, 1:] - edges[:, :-1], panels, NODES)


def _rule(left: Array, width: Array, panels: int, nodes: int) -> tuple[Array, Array]:
    t, dt = unit_rule(panels, nodes)
    x = left[:, :, None] + width[:, :, None] * t
    weights = (width[:, :, None] * dt) * (np.exp(-0.5 * (x * x)) / sqrt(2 * pi))
    return x.reshape(len(left), -1), weights.reshape(len(left), -1)


@lru_cache(maxsize=16)
def unit_rule(panels: int, nodes: int) -> tuple[Array, Array]:
    """Nodes and weights of Gauss and Legendre on [0, 1], in equal panels: (panels · nodes,)."""
    from scipy.special import roots_legendre

    t, dt = roots_legendre(nodes)
    starts = np.arange(panels)[:, None]
    return (((t + 1) / 2 + starts) / panels).ravel(), np.tile(dt / (2 * panels), panels)
