"""Wick coefficients of piecewise polynomials in closed form (mathematics §2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from math import comb, factorial, perm
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations.gaussian_moments import (
    REACH,
    HermiteTable,
    Polynomials,
    ShiftedNormal,
    convenient_unit,
    power,
)
from cumprop.activations.panels import panel_rule
from cumprop.activations.quadrature import FLAT, LOSSY, hermite
from cumprop.flops import occurs

Array = NDArray[Any]
Polynomial = Sequence[float]
"""The coefficients of a polynomial in z, from the constant on."""

NARROW = 4.0
"""The width, in σ, below which a piece is integrated at nodes: its closed form would cancel."""


class PiecewisePolynomialTable(HermiteTable):
    """Coefficients of a φ that is one polynomial of `pieces` before, between and after its `knots`.

    The integral of a polynomial q over a piece from a to b is that over all numbers, if the mean
    lies in the piece, plus edge(a) - edge(b). The edge of a knot is the integral of q above it, if
    the mean lies below, else less that below it: the smaller of the two tails. Where φ varies
    little beside its size, the centre is φ(μ). Arithmetic is float64.
    """

    def __init__(
        self,
        function: Callable[[Array], Array],
        pieces: Sequence[Polynomial],
        knots: Sequence[float],
        mean: Array,
        sigma: Array,
    ) -> None:
        super().__init__()
        self._shape, self._dtype = mean.shape, mean.dtype
        self._mean, self._sigma = (x.astype(np.float64).reshape(-1) for x in (mean, sigma))
        self._pieces, self._knots = pieces, [_Knot(t, self._mean, self._sigma) for t in knots]
        passed = [np.ones_like(self._mean), *(knot.passed for knot in self._knots)]
        passed.append(np.zeros_like(self._mean))
        self._homes = [low - high for low, high in pairwise(passed)]
        value, slope = (self._at_home([taylor(q, self._mean, i) for q in pieces]) for i in (0, 1))
        ends = (function(self._mean + h) for h in (self._sigma, -self._sigma))
        variation = np.maximum(*(np.abs(end - value) for end in ends))
        self.size = convenient_unit(float(np.maximum(variation, np.abs(slope) * self._sigma).max()))
        self._centred = np.logical_or(
            variation < FLAT * np.abs(value), self._sigma < LOSSY * np.abs(self._mean)
        )
        if occurs(self._centred):
            self.centre = np.where(self._centred, value, 0.0).reshape(self._shape)
            self.centre = self.centre.astype(self._dtype)
        some = (m for m, q in enumerate(pieces) if any(q) or self.centre is not None)
        self._integrals = [self._piece(m) for m in some]

    def _coefficient(self, k: int, p: int) -> Array:
        total = reduce(add, (piece.integral(k, p) for piece in self._integrals))
        found: Array = total.reshape(self._shape).astype(self._dtype)
        return found

    def _at_home(self, values: Sequence[Any]) -> Array:
        """The value, of one per piece, that belongs to the piece of the mean."""
        return reduce(add, (home * v for home, v in zip(self._homes, values, strict=True)))

    def _piece(self, m: int) -> _Piece:
        q, inner = self._pieces[m], self._knots[max(m - 1, 0) : m + 1]
        signs = (1, -1) if m else (-1,)
        at_mean, *at_knots = (
            {i: taylor(q, t, i) * (power(self._sigma, i) * (1 / self.size)) for i in range(len(q))}
            for t in (self._mean, *(knot.t for knot in inner))
        )
        if self.centre is not None:
            at_mean[0] = np.where(self._centred, 0.0, at_mean[0])
            for knot, terms in zip(inner, at_knots, strict=True):
                change = self._change(m, knot) * (1 / self.size)
                terms[0] = np.where(self._centred, change, terms[0])
        whole, nodes = self._homes[m], None
        if len(at_knots) == 2:
            narrow = inner[1].offset - inner[0].offset < NARROW
            if occurs(narrow):
                nodes = _Nodes(inner, narrow, at_knots[0])
                keep = 1.0 - narrow
                whole = whole * keep
                at_knots = [{i: a * keep for i, a in terms.items()} for terms in at_knots]
        edges = zip(signs, inner, map(Polynomials, at_knots), strict=False)
        at_home = Polynomials({i: whole * a for i, a in at_mean.items()})
        return _Piece(at_home, list(edges), nodes)

    def _change(self, m: int, knot: _Knot) -> Array:
        """The difference of the polynomial of piece m at a knot and φ(μ), to all digits."""
        t, level = knot.t, taylor(self._pieces[m], knot.t, 0)
        rises = (
            sum(taylor(q, t, i) * power(self._mean - t, i) for i in range(1, len(q)))
            for q in self._pieces
        )
        jumps = (level - taylor(q, t, 0) for q in self._pieces)
        return self._at_home([jump - rise for jump, rise in zip(jumps, rises, strict=True)])


@dataclass
class _Piece:
    """A polynomial q over one piece: `edges` are sign, knot and q about the knot."""

    at_home: Polynomials
    edges: list[tuple[int, _Knot, Polynomials]]
    nodes: _Nodes | None

    def integral(self, k: int, p: int) -> Array:
        """The expectations of q^p He_k over the piece, (n,)."""
        total = self.at_home.moment(k, p)
        for sign, knot, about in self.edges:
            for i, a in about.power(p).items():
                total = total + sign * (a * knot.edge(i, k))
        return total if self.nodes is None else total + self.nodes.integral(k, p)


class _Nodes:
    """Gauss–Legendre nodes of a bounded piece, for the neurons for which it is narrow."""

    def __init__(self, ends: list[_Knot], narrow: Array, terms: dict[int, Array]) -> None:
        within = [np.minimum(np.maximum(knot.offset, -REACH), REACH)[:, None] for knot in ends]
        bounds = np.concatenate(
            [within[0], np.where(narrow[:, None], within[1], within[0])], axis=1
        )
        self._x, self._weights = panel_rule(bounds, 1)
        y = self._x - within[0]
        self._values = reduce(add, (a[:, None] * power(y, i) for i, a in terms.items()))

    def integral(self, k: int, p: int) -> Array:
        """The expectations of q^p He_k over the piece, (n,)."""
        integral: Array = np.vecdot(power(self._values, p), self._weights * hermite(k, self._x))
        return integral


class _Knot:
    """A knot t, and tails of the standard normal x beyond it; y = x - (t - μ)/σ."""

    def __init__(self, t: float, mean: Array, sigma: Array) -> None:
        self.t, self.offset = t, (t - mean) / sigma
        self.passed = np.heaviside(mean - t, 1.0)
        self._side = 1.0 - 2.0 * self.passed
        self._normal = ShiftedNormal(-np.minimum(np.abs(self.offset), REACH))

    def edge(self, i: int, k: int) -> Array:
        """The expectation E[y^i He_k(x); y > 0], or -E[y^i He_k(x); y < 0] where μ ≥ t."""
        if k > i:
            tail = factorial(i) * self._normal.density(k - i - 1)
        else:
            tail = perm(i, k) * self._normal.positive_moment(i - k)
        return tail if (i + k) % 2 else self._side * tail


def taylor(q: Polynomial, t: Any, i: int) -> Any:
    """The coefficient of (z - t)^i in a polynomial in z."""
    return sum(comb(j, i) * a * t ** (j - i) for j, a in enumerate(q) if j >= i)
