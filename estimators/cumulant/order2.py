"""Order 2, kind basic: means and covariances (§3.4), without the machinery of higher orders.

The numbers are those of the dense algorithm. Cost: 2 products of n×n per layer, 5.5 in all at L=4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from cumprop.contract import ThirdCumulants
from cumprop.flops import component
from cumprop.networks import MLP

from .kinds import Scheme
from .propagation import Propagated, metric_scales, propagate
from .standardised import Coefficients, Standardised, Wanted, variances

Array = NDArray[Any]


@dataclass(eq=False)
class Tracked:
    """The mean and covariance of X̂; C is None for I, and at the end if only the mean is wanted."""

    mean: Array
    C: Array | None

    def third(self, weight: Array) -> ThirdCumulants | None:
        return None


def run(
    network: MLP,
    scheme: Scheme,
    metric: str,
    cov: bool,
    third: bool = False,
    means: Array | None = None,
) -> Propagated:
    """Propagate κ_1 and κ_2, of a batch of inputs if `means` (B, n_0) are given.

    Nothing radial, so no `metric`, is tracked.
    """
    scales = metric_scales(network, scheme.order, "exact")
    return propagate(network, Tracked, _step, scales, cov, third, leading=True, means=means)


def _step(x: Tracked, z: Standardised, w: Coefficients, wanted: Wanted) -> Tracked:
    with component("nonlinear"):
        mean = w(0, 1)
        if z.covariance is None:
            return Tracked(mean, None)
        w1 = w(1, 1) * z.inverse
        C = z.covariance * (w1[..., None] * w1[..., None, :])
        variances(C)[...] = w(0, 2) - mean * mean
        return Tracked(mean, C)
