"""The average of samples and an order, weighted by their errors (mathematics §10)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import Estimate
from cumprop.sampling import Replicates

Array = NDArray[Any]

CONFIDENCE = 0.95
"""The confidence level for the bias: the part of its square above this quantile counts."""


def is_finite(estimate: Estimate) -> bool:
    """Whether all numbers of an estimate are finite; an order that diverges may overflow.

    >>> is_finite(Estimate(np.zeros(2), (np.array([np.inf]),)))
    False
    """
    arrays = [estimate.mean, *estimate.layer_means]
    arrays += [] if estimate.cov is None else [estimate.cov]
    return all(np.isfinite(array).all() for array in arrays)


@dataclass(frozen=True, eq=False)
class Blended:
    """The average w · order + (1 - w) · samples, with one weight w = V / (V + B) for all outputs.

    V is the noise of the samples, B the squared error of the order: the larger of `expected` and of
    |e - m|² less its 95% quantile under zero bias. Both are sums over the outputs. Without an order
    w is 0.
    """

    samples: Replicates
    order: Estimate | None
    expected: float = 0.0

    @cached_property
    def distance(self) -> float:
        """The squared distance |e - m|² between the order's and the samples' means."""
        if self.order is None:
            return inf
        return float(np.sum((self.samples.mean - self.order.mean) ** 2))

    @cached_property
    def bias(self) -> float:
        """The squared error B of the order; 0 where it is within rounding."""
        if self.order is None:
            return inf
        eps = float(np.finfo(self.order.mean.dtype).eps)
        size = float(np.sum(self.samples.variance + self.samples.mean**2))
        shown = self.distance - self.samples.upper(CONFIDENCE) - (4 * eps) ** 2 * size
        return max(self.expected, shown)

    @cached_property
    def noise(self) -> float:
        """The noise V of the samples."""
        return float(self.samples.noise.sum())

    @cached_property
    def weight(self) -> float:
        """The weight w of the order; 1 where B is 0."""
        return self.noise / (self.noise + self.bias) if self.noise + self.bias else 1.0

    @cached_property
    def left(self) -> float:
        """The order's error in the blended mean, w √B."""
        return self.weight * sqrt(self.bias) if self.order else 0.0

    def samples_for(self, allowed: float, quantile: float) -> float:
        """The number of samples of this design that leave a squared error within `allowed`.

        `quantile` is a quantile of the samples' squared error over V. The result has the noise
        v = x · `allowed` at which B v (quantile B + v) / (v + B)², the squared error under the
        weight v / (v + B), is `allowed`: r (1 - r) x² + (quantile - 2 r) x = 1 with
        r = allowed / B. The formula for the root adds numbers of one sign, and keeps its digits.
        """
        b = self.bias
        if b <= allowed or not self.noise:
            return 0.0
        r = allowed / b
        square = r * ((b - allowed) / b) if b < inf else 0.0
        linear = quantile - 2 * r
        root = sqrt(linear**2 + 4 * square)
        x = 2 / (root + linear) if linear > 0 else (root - linear) / (2 * square)
        return self.samples.n_samples * (self.noise / allowed) / x

    def mean(self, order: Array, samples: Array) -> Array:
        """The weighted mean of a quantity that both estimate."""
        mean: Array = self.weight * order + (1 - self.weight) * samples
        return mean
