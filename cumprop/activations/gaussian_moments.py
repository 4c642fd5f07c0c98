"""Wick coefficients in closed form, from moments of a shifted standard normal (mathematics §2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache, cached_property
from math import comb, factorial, log, log2, perm, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from cumprop.flops import not_counting, occurs

Array = NDArray[Any]

REACH = 40.0
"""The number of standard deviations beyond which the normal density is 0 in float64."""


class ShiftedNormal:
    """The variables α + x, x ~ N(0, 1), with functions that closed forms share, computed once."""

    def __init__(self, alpha: Array) -> None:
        self.alpha = alpha
        self._densities: list[Array] = []
        self._positive_moments: list[Array] = []

    @cached_property
    def reflected(self) -> ShiftedNormal:
        """The variable -(α + x)."""
        return ShiftedNormal(-self.alpha)

    def density(self, k: int) -> Array:
        """The k-th derivative by α of the density at 0, (-1)^k He_k(α) ϕ(α)."""
        d = self._densities
        if k < len(d):
            return d[k]
        alpha = self.alpha
        if not d:
            d.append(np.exp(-0.5 * (alpha * alpha)) / sqrt(2 * pi))
        for j in range(len(d) - 1, k):
            d.append(-(alpha * d[j] + times(j, d[j - 1])) if j else -(alpha * d[0]))
        return d[k]

    def positive_moment(self, q: int) -> Array:
        """The moments M_q = E[(α + x)^q; α + x > 0]."""
        m = self._positive_moments
        if q < len(m):
            return m[q]
        alpha = self.alpha
        if not m:
            m.append(ndtr(alpha))
        for j in range(len(m) - 1, q):
            m.append(alpha * m[j] + (times(j, m[j - 1]) if j else self.density(0)))
        return m[q]


class HermiteTable(ABC):
    """Coefficients a(k,p) = E[((φ(μ + σx) - centre)/size)^p He_k(x)], x ~ N(0, 1), of a layer.

    A table is a callable of (k,p) that returns an array (n,), an entry per neuron. `centre` is an
    array (n,), or None for 0; `size` a power of two. Both are chosen so that no digits
    cancel and nothing overflows, whatever the units of μ, σ and φ. Coefficients are right to
    `tolerance`, relative to √(k! E[((φ - centre)/size)^2p]), which is 0 for closed forms;
    `precision` is 0, or what they are right to where that is worse. Each is computed once.
    """

    tolerance, precision, size = 0.0, 0.0, 1.0
    centre: Array | None = None

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Array] = {}

    def __call__(self, k: int, p: int) -> Array:
        found = self._known.get((k, p))
        if found is None:
            found = self._known[k, p] = self._coefficient(k, p)
        return found

    @abstractmethod
    def _coefficient(self, k: int, p: int) -> Array: ...


class PiecewiseLinearTable(HermiteTable):
    """Coefficients of the function slope·z below 0 and z above.

    Where the kink is out of a neuron's floating-point reach, φ is one line: there the centre is
    φ(μ), so that no digits cancel. A side of slope 0 keeps centre 0, and so its relative accuracy.
    The `size` is a unit in which the largest σ is about 1.
    """

    def __init__(self, slope: float, mean: Array, sigma: Array) -> None:
        super().__init__()
        self._below = slope
        self.size = convenient_unit(float(sigma.max()), sigma.dtype)
        self._unit = in_unit(sigma, 1 / self.size)
        self._units: dict[int, Array] = {}
        alpha = _alpha(mean, sigma)
        self._normal, self._straight = _within_reach(alpha, both=slope != 0)
        if self._straight is not None:
            with not_counting():  # counts of FLOPs depend on shapes alone
                below, above = np.full_like(mean, slope), np.ones_like(mean)
                slopes = np.where(mean > 0, above, below)
                self.centre = np.where(self._straight, slopes * mean, 0.0)
                self._slope = slopes * self._unit

    def _coefficient(self, k: int, p: int) -> Array:
        g, below = self._normal, self._below**p  # φ^p is z^p for z > 0 and below·z^p for z < 0
        if k > p:  # the p-th derivative jumps by p! (1 - below) at 0
            w = times(factorial(p) * (1.0 - below), g.density(k - p - 1))
        else:
            w = g.positive_moment(p - k)
            if below:
                w = w + (-1) ** (p - k) * below * g.reflected.positive_moment(p - k)
            w = times(perm(p, k), w)
        unit = self._units.get(p)
        if unit is None:
            unit = self._units[p] = power(self._unit, p)
        w = unit * w
        if self._straight is not None:
            with not_counting():
                line = hermite_moment(p, k) * power(self._slope, p)
                w = np.where(self._straight, line, w)
        return w


class StepTable(HermiteTable):
    """Coefficients of a φ with one constant below 0 and one above, its `values`.

    Where the step is out of a neuron's floating-point reach, the centre c is φ(μ), and φ - c a
    multiple of the indicator of the other side, whose small coefficients have all digits right.
    """

    def __init__(self, values: tuple[float, float], mean: Array, sigma: Array) -> None:
        super().__init__()
        self._values = values
        alpha = _alpha(mean, sigma)
        self._normal, self._far = _within_reach(alpha, both=values[0] != 0)
        if self._far is not None:
            with not_counting():  # counts of FLOPs depend on shapes alone
                low, high = (np.full_like(mean, value) for value in values)
                self._below = alpha < 0
                self.centre = np.where(self._far, np.where(self._below, low, high), 0.0)
                self._tail = ShiftedNormal(np.maximum(-np.abs(alpha), -REACH))

    def _coefficient(self, k: int, p: int) -> Array:
        low, high = (value**p for value in self._values)
        w = (high - low) * _indicator(self._normal, k)
        w = w + low if low and not k else w
        if self._far is not None:
            with not_counting():
                other = (self._values[1] - self._values[0]) ** p * _indicator(self._tail, k)
                other = np.where(self._below, other, (-1.0) ** (k + p) * other)
                w = np.where(self._far, other, w)
        return w


def _indicator(g: ShiftedNormal, k: int) -> Array:
    """The coefficients of 1[z > 0]."""
    return g.density(k - 1) if k else g.positive_moment(0)


def _within_reach(alpha: Array, both: bool) -> tuple[ShiftedNormal, Array | None]:
    """The variables α + x, and a mask of the neurons that do not reach 0, None where there is none.

    Their mean is too far above 0, or with `both` too far from 0.
    """
    far = np.abs(alpha) > _reach(alpha.dtype)
    if not occurs(far):
        return ShiftedNormal(alpha), None
    with not_counting():  # counts of FLOPs depend on shapes alone
        normal = ShiftedNormal(np.minimum(np.maximum(alpha, -REACH), REACH))
        straight = far if both else np.logical_and(far, alpha > 0)
        return normal, straight if occurs(straight) else None


@cache
def _reach(dtype: Any) -> float:
    """The standard deviations beyond which 0 is out of reach for numbers of a type."""
    return sqrt(-2 * log(float(np.finfo(dtype).eps)))


def _alpha(mean: Array, sigma: Array) -> Array:
    with np.errstate(over="ignore"):
        alpha: Array = mean / sigma
    return alpha


class MonomialTable(HermiteTable):
    """Coefficients of z^d with the centre μ^d: (μ + σx)^d - μ^d has no constant term in x."""

    def __init__(self, degree: int, mean: Array, sigma: Array) -> None:
        super().__init__()
        terms = [
            comb(degree, j) * (power(mean, degree - j) * power(sigma, j))
            for j in range(1, degree + 1)
        ]
        largest = max(float(np.abs(term).max()) for term in terms)
        self.size = convenient_unit(largest, mean.dtype)
        self.centre = power(mean, degree)
        scaled = {j: term * (1 / self.size) for j, term in enumerate(terms, start=1)}
        self._polynomials = Polynomials(scaled)

    def _coefficient(self, k: int, p: int) -> Array:
        return self._polynomials.moment(k, p)


class Polynomials:
    """The powers of a polynomial in x per neuron; `terms` are its coefficients (n,), by degree."""

    def __init__(self, terms: dict[int, Array]) -> None:
        self._terms = terms
        self._powers = [{0: np.ones_like(next(iter(terms.values())))}]

    def power(self, p: int) -> dict[int, Array]:
        """The coefficients of the p-th power, (n,) each."""
        while len(self._powers) <= p:
            product: dict[int, Array] = {}
            for i, x in self._powers[-1].items():
                for j, y in self._terms.items():
                    product[i + j] = product[i + j] + x * y if i + j in product else x * y
            self._powers.append(product)
        return self._powers[p]

    def moment(self, k: int, p: int) -> Array:
        """The moments of the p-th power with He_k, (n,)."""
        total = np.zeros_like(self._powers[0][0])
        for m, coefficient in self.power(p).items():
            if weight := hermite_moment(m, k):
                total = total + weight * coefficient
        return total


def hermite_moment(m: int, k: int) -> int:
    """The moment E[x^m He_k(x)], x ~ N(0, 1): m!/(m - k)! times the double factorial of m - k - 1.

    >>> [hermite_moment(4, k) for k in (0, 1, 2, 4, 6)]
    [3, 0, 12, 24, 0]
    """
    pairs, odd = divmod(m - k, 2)
    if odd or pairs < 0:
        return 0
    moment: int = factorial(m) // (factorial(pairs) * 2**pairs)
    return moment


def convenient_unit(x: float, dtype: Any = np.float64) -> float:
    """A unit for numbers of size x: 1 if x is within 1e±3, else the power of two next to it.

    The unit is 1 also where that power or its reciprocal is no normal number of this type.

    >>> convenient_unit(0.3), convenient_unit(1e6) == 2**20
    (1.0, True)
    """
    if 1e-3 <= x <= 1e3:
        return 1.0
    limits = np.finfo(dtype)
    return 2.0 ** round(log2(x)) if float(limits.tiny) <= x <= float(limits.max) / 4 else 1.0


def in_unit(x: Array, unit: float) -> Array:
    """The product x · unit, an array of the same shape as x, and x itself for 1.

    It is not counted, because other units are unusual.

    >>> in_unit(np.array([3.0]), 2.0).tolist()
    [6.0]
    """
    if unit == 1:
        return x
    with not_counting():
        return x * unit


def unit_power(unit: float, p: int) -> float:
    """The power unit^p, infinite or 0 where it leaves the range of float64.

    >>> unit_power(2.0**600, 2), unit_power(2.0**600, -2)
    (inf, 0.0)
    """
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float64(unit) ** p)


def times(number: float, x: Array) -> Array:
    """The product of a number and an array, the array itself for 1.

    >>> x = np.ones(3)
    >>> times(1.0, x) is x, times(2, x).tolist()
    (True, [2.0, 2.0, 2.0])
    """
    return x if number == 1 else number * x


def power(x: Array, p: int) -> Array:
    """The powers x^p by repeated multiplication: an array of the same shape as x.

    Cost: up to 2 log2(p) FLOPs per entry; it is faster than `**`.

    >>> power(np.array([2.0, 3.0]), 5).tolist()
    [32.0, 243.0]
    """
    if p < 2:
        return x if p else np.ones_like(x)
    half = power(x, p // 2)
    return half * half * x if p % 2 else half * half
