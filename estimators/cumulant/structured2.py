"""Order 2, kind basic: means and covariances (§3.4), without the machinery of higher orders.

The numbers are those of the dense engine. Cost: 2 products of n×n per layer, 5.5 in all at L=4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from cumprop.activations import Activation, WickTable
from cumprop.cumulants import diagonal
from cumprop.flops import component
from cumprop.networks import MLP

from .engine import (
    AffineMap,
    Propagated,
    Wanted,
    input_of,
    metric_scales,
    propagate,
    wick_coefficients,
)
from .kinds import Scheme

Array = NDArray[Any]


@dataclass(frozen=True)
class Tracked:
    """Mean and covariance of X_l; C is None for I, and at the end where only the mean is wanted."""

    mean: Array
    C: Array | None


def run(network: MLP, scheme: Scheme, metric: str, cov: bool) -> Propagated:
    """Propagate κ_1 and κ_2; nothing radial, so no `metric`, is tracked."""
    x = Tracked(*input_of(network))
    return propagate(network, x, _step, metric_scales(network, scheme.order, "exact"), cov)


def _step(
    x: Tracked, affine: AffineMap, activation: Activation, wanted: Wanted
) -> tuple[Tracked, WickTable, int]:
    with component("linear"):
        mean = affine.mean(x.mean)
        C = None if wanted == "mean" else affine.covariance(x.C)
        variance = affine.variance(x.C) if C is None else diagonal(C, (2,)).copy()
    with component("nonlinear"):
        w, clamped = wick_coefficients(activation, mean, variance)
        mean = w(0, 1)
        if C is not None:
            w1 = w(1, 1)
            C = w1[:, None] * C * w1
            diagonal(C, (2,))[...] = w(0, 2) - mean * mean
        return Tracked(mean, C), w, clamped
