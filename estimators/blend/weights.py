"""Samples and an order of cumulants together, weighed by their errors (mathematics §10)."""

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
"""Of an estimated squared bias, only the part above this quantile under zero bias is counted."""


def is_finite(estimate: Estimate) -> bool:
    """Whether all its numbers are: those of an order that has gone wild are not.

    >>> is_finite(Estimate(np.zeros(2), (np.array([np.inf]),)))
    False
    """
    arrays = [estimate.mean, *estimate.layer_means]
    arrays += [] if estimate.cov is None else [estimate.cov]
    return all(np.isfinite(array).all() for array in arrays)


@dataclass(frozen=True, eq=False)
class Blended:
    """w · order + (1 - w) · samples, with one weight w = V / (V + B) for all outputs.

    V is the noise of the samples, B the squared error of the order: `expected`, or as far as the
    samples show more, |e - m|² less its 95% limit were there none; both are sums over the outputs.
    Without an order w is 0.
    """

    samples: Replicates
    order: Estimate | None
    expected: float = 0.0

    @cached_property
    def distance(self) -> float:
        """|e - m|² of the order's and the samples' means."""
        if self.order is None:
            return inf
        return float(np.sum((self.samples.mean - self.order.mean) ** 2))

    @cached_property
    def bias(self) -> float:
        """B; what rounding makes of none is none."""
        if self.order is None:
            return inf
        eps = float(np.finfo(self.order.mean.dtype).eps)
        size = float(np.sum(self.samples.variance + self.samples.mean**2))
        shown = self.distance - self.samples.upper(CONFIDENCE) - (4 * eps) ** 2 * size
        return max(self.expected, shown)

    @cached_property
    def noise(self) -> float:
        """V."""
        return float(self.samples.noise.sum())

    @cached_property
    def weight(self) -> float:
        """w, of the order; 1 as long as there is nothing to say against it."""
        return self.noise / (self.noise + self.bias) if self.noise + self.bias else 1.0

    @cached_property
    def left(self) -> float:
        """Of the order's error in the blended mean: w √B."""
        return self.weight * sqrt(self.bias) if self.order else 0.0

    def samples_for(self, allowed: float, quantile: float) -> float:
        """How many samples of this design leave a squared error within `allowed`.

        `quantile` is that of the samples' squared error over V. V is to be v = x · `allowed`, the
        least at which B v (quantile B + v) / (v + B)², the squared error under the weight
        v / (v + B), is allowed: r (1 - r) x² + (quantile - 2 r) x = 1, with r = allowed / B. The
        root is taken by the formula that adds numbers of one sign, so that it keeps its digits.
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
        """Of something both tell."""
        mean: Array = self.weight * order + (1 - self.weight) * samples
        return mean
