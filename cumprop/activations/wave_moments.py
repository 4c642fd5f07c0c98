"""Wick coefficients of exp, sin and cos in closed form (mathematics §2)."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from math import comb, factorial, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations.gaussian_moments import HermiteTable, convenient_unit, power, unit_power
from cumprop.errors import CumpropError
from cumprop.flops import occurs

Array = NDArray[Any]
Cycle = tuple[int, ...]
"""The derivatives of order 1, 2, … at 0 of a function that is 0 there; they repeat."""

NARROW = 0.25
"""The σ below which φ is taken less φ(μ), or powers of it would cancel."""


class WaveTable(HermiteTable):
    """Coefficients of a φ that is a sum of exponentials of z, from E[e^(tx) He_k] = t^k e^(t²/2).

    Neurons with σ < 1/4 have the centre φ(μ), and φ(μ + y) - φ(μ) = φ'(μ) u(y) + φ(μ) v(y) with
    two functions that are 0 at 0. Powers of these are Taylor series, whose moments are known.
    """

    u: Cycle
    v: Cycle = (0,)

    def __init__(self, value: Array, slope: Array, mean: Array, sigma: Array) -> None:
        super().__init__()
        self._mean, self._sigma = mean, sigma
        self.size = convenient_unit(float(self._variation(value, slope).max()), mean.dtype)
        self._narrow = sigma < NARROW
        if occurs(self._narrow):
            self.centre = np.where(self._narrow, value, 0.0)
            self._some_wide = occurs(sigma >= NARROW)
            self._small = np.minimum(sigma, NARROW)
            self._slope, self._value = (self._small * (x * (1 / self.size)) for x in (slope, value))

    def _coefficient(self, k: int, p: int) -> Array:
        if self.centre is None:
            return self._plain(k, p)
        a = self._deviation(k, p)
        return np.where(self._narrow, a, self._plain(k, p)) if self._some_wide else a

    @abstractmethod
    def _variation(self, value: Array, slope: Array) -> Array:
        """The sizes of the variations of φ, (n,), from φ(μ) and φ'(μ)."""

    @abstractmethod
    def _plain(self, k: int, p: int) -> Array:
        """The coefficients with centre 0, of which those of narrow neurons are not used."""

    def _deviation(self, k: int, p: int) -> Array:
        """The coefficients with centre φ(μ), Σ_j C(p,j) φ'^(p-j) φ^j E[u^(p-j) v^j He_k]."""
        square = self._small * self._small
        total = np.zeros_like(square)
        for j in range(p + 1 if any(self.v) else 1):
            series = taylor_moments((self.u,) * (p - j) + (self.v,) * j, k)
            moment = np.full_like(square, series[-1])
            for coefficient in series[-2::-1]:
                moment = moment * square + coefficient
            moment = moment * power(self._small, _lowest(k, p) - p)
            total = (
                total + comb(p, j) * (power(self._slope, p - j) * power(self._value, j)) * moment
            )
        return total


class ExpTable(WaveTable):
    """Coefficients of exp; a call raises CumpropError where a moment overflows."""

    u = (1,)

    def __init__(self, mean: Array, sigma: Array) -> None:
        with np.errstate(over="ignore"):
            value = np.exp(mean)
        super().__init__(value, value, mean, sigma)
        self._level = mean - log(self.size)
        if self.centre is not None:
            self._level = np.where(self._narrow, 0.0, self._level)

    def _variation(self, value: Array, slope: Array) -> Array:
        with np.errstate(over="ignore"):
            variation: Array = self._sigma * np.exp(self._mean + self._sigma * self._sigma)
        return variation

    def _coefficient(self, k: int, p: int) -> Array:
        with np.errstate(over="ignore"):
            a = super()._coefficient(k, p)
        if not np.isfinite(a).all():
            raise CumpropError(f"E[d^{k} exp^{p}] overflows {a.dtype}; rescale the weights")
        return a

    def _plain(self, k: int, p: int) -> Array:
        t = p * self._sigma
        a: Array = power(t, k) * np.exp(p * self._level + 0.5 * (t * t))
        return a


class CosTable(WaveTable):
    """Coefficients of cos(z + quarters·π/2)."""

    u, v = (1, 0, -1, 0), (0, -1, 0, 1)

    def __init__(
        self, quarters: int, value: Array, slope: Array, mean: Array, sigma: Array
    ) -> None:
        self._quarters = quarters
        super().__init__(value, slope, mean, sigma)

    def _variation(self, value: Array, slope: Array) -> Array:
        sigma = np.minimum(self._sigma, 1.0)
        variation: Array = sigma * np.maximum(np.abs(slope), sigma * np.abs(value))
        return variation

    def _plain(self, k: int, p: int) -> Array:
        """The sum over frequencies m of 2^-p C(p,(p-m)/2) E[cos(m (z + quarters·π/2)) He_k]."""
        total = np.zeros_like(self._mean)
        if p % 2 == 0 and k == 0:
            total = total + comb(p, p // 2) / 2
        for m in range(p, 0, -2):
            turns = (k + m * self._quarters) % 4
            angle = m * self._mean
            wave = np.sin(angle) if turns % 2 else np.cos(angle)
            sign = -1 if turns in (1, 2) else 1
            total = total + (sign * comb(p, (p - m) // 2)) * (wave * damped(m * self._sigma, k))
        return total * unit_power(2 * self.size, -p) * 2


def damped(t: Array, k: int) -> Array:
    """The product t^k exp(-t²/2), without overflow."""
    exponent = -0.5 * (t * t)
    a: Array = np.exp(exponent + k * np.log(t) if k else exponent)
    return a


def _lowest(k: int, p: int) -> int:
    """The lowest degree ≥ p of y that has a moment with He_k."""
    return max(k, p + (p - k) % 2)


@lru_cache(maxsize=1024)
def taylor_moments(factors: tuple[Cycle, ...], k: int) -> list[float]:
    """The coefficients c_m of E[f(σx) He_k(x)] = σ^q Σ_m c_m σ^2m, f the product of the factors.

    q is the lowest degree ≥ max(k, p) of the parity of k, for p factors. The sum ends where terms
    are below rounding for σ ≤ 1/4. From E[x^n He_k] = n!/(2^h h!), h = (n - k)/2.

    >>> taylor_moments(((1,),), 1)[:3]                          # E[(e^y - 1) x] = σ + σ³/2 + σ⁵/8 …
    [1.0, 0.5, 0.125]
    """
    first = _lowest(k, len(factors))
    last = first + 60
    derivatives = [1] + [0] * last
    for cycle in factors:
        factor = [0] + [cycle[(n - 1) % len(cycle)] for n in range(1, last + 1)]
        derivatives = [
            sum(comb(n, i) * factor[i] * derivatives[n - i] for i in range(1, n + 1))
            for n in range(last + 1)
        ]
    halves = ((n, (n - k) // 2) for n in range(first, last + 1, 2))
    series = [derivatives[n] / (factorial(half) * 2**half) for n, half in halves]
    sizes = [abs(c) * NARROW ** (2 * m) for m, c in enumerate(series)]
    used = [m for m, size in enumerate(sizes) if size > 1e-18 * max(sizes)]
    return series[: max(used, default=0) + 1]
