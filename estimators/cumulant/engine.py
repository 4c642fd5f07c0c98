"""What the engines share: an engine is a way to the same numbers, never to different ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import Activation, WickTable
from cumprop.cumulants import lookup
from cumprop.diagrams import Block
from cumprop.networks import MLP

Array = NDArray[Any]

SMALLEST_VARIANCE = 1e-10
"""Variances are clamped from below here, inside the Wick coefficients only (§2)."""

TRUSTED_NODES = 1e-4
"""The method is defined with 100 Gauss–Hermite nodes (§2): they stand up to this change."""


@dataclass(frozen=True)
class Propagated:
    """What an engine reports: E[Y], E[X_1]..E[X_L], Cov[Y] where asked for, and its caveats."""

    mean: Array
    layer_means: list[Array]
    cov: Array | None
    clamped: int
    precision: float


class KnownSlices:
    """A cumulant known by some of its slices only, for partitions (parts falling)."""

    def __init__(self, known: Mapping[Block, Array]) -> None:
        self._known = known

    def slice(self, u: Block) -> Array:
        return lookup(self._known, u)


def wick_coefficients(
    activation: Activation, mean: Array, variance: Array
) -> tuple[WickTable, int]:
    """The table of w(k,p), and how many variances had to be clamped."""
    clamped = int((variance < SMALLEST_VARIANCE).sum())
    clipped = np.maximum(variance, SMALLEST_VARIANCE)
    return activation.wick_table(mean, clipped, trust=TRUSTED_NODES), clamped


def metric_scales(network: MLP, order: int, metric: str) -> list[float | None]:
    """Per map: the average metric's design value c, or None for W Wᵀ."""
    if metric == "exact" or network.init_scale is None:
        return [None] * (network.depth + 1)
    scales: list[float | None] = [*network.init_scale[:-1], None]
    if order > 1:
        scales[0] = None  # κ_2 in full starts as W_1 W_1ᵀ whatever the metric
    return scales
