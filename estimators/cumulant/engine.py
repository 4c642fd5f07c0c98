"""What the engines share: an engine is a way to the same numbers, never to different ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import Activation, WickTable
from cumprop.cumulants import Metric, ScaledIdentity, lookup
from cumprop.diagrams import Block
from cumprop.flops import component, counted
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


Wanted = Literal["all", "covariance", "mean"]
"""What to compute of X_l: all that is tracked, or at the last layer what the output reads."""


@dataclass(frozen=True)
class AffineMap:
    """Z = W X + b: what it makes of a mean, a covariance (None for I) and an identity factor."""

    weight: Array
    bias: Array | None
    scale: float | None = None

    def mean(self, mean: Array) -> Array:
        mean = self.weight @ mean
        return mean if self.bias is None else mean + self.bias

    def covariance(self, C: Array | None) -> Array:
        W = self.weight
        return W @ W.T if C is None else W @ C @ W.T

    def variance(self, C: Array | None) -> Array:
        W = self.weight
        variance: Array = ((W if C is None else W @ C) * W).sum(axis=1)
        return variance

    @cached_property
    def metric(self) -> Metric | ScaledIdentity:
        """W Wᵀ, or scale · I."""
        if self.scale is None:
            return Metric(self.weight)
        return ScaledIdentity(self.scale, len(self.weight), self.weight.dtype)


class Tracked(Protocol):
    """What every engine tracks of X_l, beside its own."""

    @property
    def mean(self) -> Array: ...
    @property
    def C(self) -> Array | None: ...


X = TypeVar("X", bound=Tracked)
Step = Callable[[X, AffineMap, Activation, Wanted], tuple[X, WickTable, int]]
"""(X_{l-1}, map, activation, wanted) -> X_l, its Wick coefficients, variances clamped in them."""


def propagate(
    network: MLP, x: X, step: Step[X], scales: list[float | None], cov: bool
) -> Propagated:
    """Take the steps of an engine through all layers, then the output map."""
    *maps, last = (
        AffineMap(counted(weight), bias, scale)
        for weight, bias, scale in zip(network.weights, network.biases, scales, strict=True)
    )
    layer_means, clamped, precision = [], 0, 0.0
    for i, (affine, activation) in enumerate(zip(maps, network.activations, strict=True)):
        wanted: Wanted = "all" if i + 1 < network.depth else "covariance" if cov else "mean"
        x, w, n_clamped = step(x, affine, activation, wanted)
        layer_means.append(x.mean)
        clamped, precision = clamped + n_clamped, max(precision, w.precision)
    with component("linear"):
        covariance = last.covariance(x.C) if cov else None
        return Propagated(last.mean(x.mean), layer_means, covariance, clamped, precision)


def input_of(network: MLP) -> tuple[Array, Array | None]:
    """Mean and covariance of X_0; None for the identity."""
    n = network.widths[0]
    mean = np.zeros(n, network.dtype) if network.input_mean is None else network.input_mean
    return counted(mean), None if network.input_cov is None else counted(network.input_cov)


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
