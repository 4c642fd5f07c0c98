"""Functions that all algorithms share; every algorithm computes the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import Signs, ThirdCumulants
from cumprop.flops import component, counted, records_gradients
from cumprop.networks import MLP

from .batches import of_node
from .diagrams import Block
from .evidence import Evidence
from .standardised import (
    AffineMap,
    Coefficients,
    Standardised,
    Wanted,
    expected,
    standard_input,
    standardised_map,
    trusted_nodes,
    wick_coefficients,
)
from .symmetric_tensors import lookup

Array = NDArray[Any]


@dataclass(frozen=True)
class Propagated:
    """The result of an algorithm: E[Y], E[X_1]..E[X_L], Cov[Y] if wanted, and reasons to doubt it.

    `negative` counts pre-activations with a variance below 0; `signs` are signs of errors, None
    while autograd records, because a training step does not need them. Of a batch, arrays have one
    more axis, the first, and there are signs for each input.
    """

    mean: Array
    layer_means: list[Array]
    layer_variances: tuple[Array, ...] | None
    cov: Array | None
    negative: Array | int
    precision: float
    signs: list[Signs] | None
    third: ThirdCumulants | None = None

    def of_node(self, b: int) -> Propagated:
        """The result for one input of a batch."""
        return Propagated(
            mean=self.mean[b],
            layer_means=[mean[b] for mean in self.layer_means],
            layer_variances=self.layer_variances and tuple(v[b] for v in self.layer_variances),
            cov=of_node(self.cov, b, 2),
            negative=int(self.negative[b] if isinstance(self.negative, np.ndarray) else 0),
            precision=self.precision,
            signs=self.signs and [self.signs[b]],
        )


class Tracked(Protocol):
    """The parts of X̂_l that every algorithm tracks."""

    @property
    def mean(self) -> Array: ...
    @property
    def C(self) -> Array | None: ...
    def third(self, weight: Array) -> ThirdCumulants | None:
        """The third cumulants of `weight` X̂_l, None where they are not tracked."""


X = TypeVar("X", bound=Tracked)
Step = Callable[[X, Standardised, Coefficients, Wanted], X]
"""A step (X̂_{l-1}, Ẑ_l, its Wick coefficients, wanted) -> X̂_l."""


def propagate(
    network: MLP,
    first: Callable[[Array, Array | None], X],
    step: Step[X],
    scales: list[float | None],
    cov: bool,
    third: bool,
    leading: bool = False,
    means: Array | None = None,
) -> Propagated:
    """Apply the steps of an algorithm to all layers, then the output map.

    `first` makes X̂_0 of mean and covariance; `leading` says that no cumulant beyond the second is
    tracked. `means` (B, n_0) are those of a batch of inputs, in place of the network's own.
    """
    maps = affine_maps(network, scales)
    mean, C, unit = standard_input(network)
    x = first(np.zeros_like(mean), C)
    if means is not None:
        mean = counted(means)
    recorded = records_gradients(network.weights)
    evidence = None if recorded else Evidence(maps, C, unit, leading)
    layer_means, precision, trust = [], 0.0, trusted_nodes(network.depth)
    negative: Array | int = 0
    for i, activation in enumerate(network.activations):
        all_of_it = third or i + 1 < network.depth
        wanted: Wanted = "all" if all_of_it else "covariance" if cov else "mean"
        with component("linear"):
            half = maps[i].half(x.C)
            z = standardised_map(maps[i], mean, x.C, half, wanted)
        with component("nonlinear"):
            w = wick_coefficients(activation, z, unit, trust)
        before, x = x.C, step(x, z, w, wanted)
        if evidence is not None:
            evidence.add(z, w, x.mean, x.C, before, half)
        mean, unit = expected(x.mean, w), w.size
        layer_means.append(mean)
        negative, precision = negative + z.negative, max(precision, w.precision)
    last = maps[-1]
    with component("linear"):
        covariance = last.covariance(last.half(x.C)) if cov else None
        if covariance is not None:
            covariance = last.in_units(covariance, unit)
        output = last.mean(mean)
        found = x.third(last.scaled(unit)) if third else None
    signs = None if evidence is None else evidence.signs(output, mean, unit)
    variances = None if evidence is None else tuple(evidence.variances)
    return Propagated(output, layer_means, variances, covariance, negative, precision, signs, found)


class KnownSlices:
    """A cumulant of which only some slices are known, by partition (parts falling)."""

    def __init__(self, known: Mapping[Block, Array]) -> None:
        self._known = known

    def slice(self, u: Block) -> Array:
        return lookup(self._known, u)


def metric_scales(network: MLP, order: int, metric: str) -> list[float | None]:
    """The design value c of the average metric for each map, or None for W Wᵀ."""
    if metric == "exact" or network.init_scale is None:
        return [None] * (network.depth + 1)
    scales: list[float | None] = [*network.init_scale[:-1], None]
    if order > 1:
        scales[0] = None  # κ_2 in full starts as W_1 W_1ᵀ whatever the metric
    return scales


def affine_maps(network: MLP, scales: Sequence[float | None]) -> list[AffineMap]:
    """The maps of the network in range, with the metrics of `metric_scales`."""
    return [
        AffineMap.in_range(counted(weight), bias, scale, sizes)
        for weight, bias, scale, sizes in zip(
            network.weights, network.biases, scales, network.sizes, strict=True
        )
    ]
