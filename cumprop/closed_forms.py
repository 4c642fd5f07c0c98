"""Moments and densities of normals, which closed forms are made of (mathematics §2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[Any]


class Normal:
    """G_i ~ N(mean_i, var_i), with what the closed forms share, each computed once."""

    def __init__(self, mean: Array, var: Array) -> None:
        self.mean, self.var = mean, var
        self._densities: list[Array] = []
        self._moments: list[Array] = []
        self._positive_moments: list[Array] = []

    @cached_property
    def sigma(self) -> Array:
        return np.sqrt(self.var)

    @cached_property
    def alpha(self) -> Array:
        return self.mean / self.sigma

    @cached_property
    def cdf(self) -> Array:
        """P(G > 0) = Φ(α)."""
        return ndtr(self.alpha)

    @cached_property
    def pdf(self) -> Array:
        """ϕ(α)."""
        return np.exp(-0.5 * (self.alpha * self.alpha)) / sqrt(2 * pi)

    @cached_property
    def reflected(self) -> Normal:
        """-G."""
        return Normal(-self.mean, self.var)

    def density(self, k: int) -> Array:
        """∂^k/∂μ^k of G's density at 0, that is (-1)^k σ^-(k+1) He_k(α) ϕ(α)."""
        d = self._densities or [self.pdf / self.sigma]
        while len(d) <= k:
            j = len(d) - 1  # at j = 0 the second term is 0
            d.append(-(self.mean * d[j] + j * d[j - 1]) / self.var)
        self._densities = d
        return d[k]

    def moment(self, q: int) -> Array:
        """E[G^q]."""
        self._moments = self._moments or [np.ones_like(self.mean), self.mean]
        return self._extend(self._moments, q)

    def positive_moment(self, q: int) -> Array:
        """M_q = E[G^q; G > 0]."""
        if q == 0:
            return self.cdf
        if not self._positive_moments:
            self._positive_moments = [self.cdf, self.mean * self.cdf + self.sigma * self.pdf]
        return self._extend(self._positive_moments, q)

    def _extend(self, m: list[Array], q: int) -> Array:
        while len(m) <= q:
            m.append(self.mean * m[-1] + (len(m) - 1) * (self.var * m[-2]))
        return m[q]


class ClosedFormTable:
    """w(k,p) by a formula of the neurons' G, each coefficient computed once."""

    precision = 0.0

    def __init__(self, formula: Callable[[Normal, int, int], Array], g: Normal) -> None:
        self._formula, self._normal = formula, g
        self._known: dict[tuple[int, int], Array] = {}

    def __call__(self, k: int, p: int) -> Array:
        if (k, p) not in self._known:
            self._known[k, p] = self._formula(self._normal, k, p)
        return self._known[k, p]
