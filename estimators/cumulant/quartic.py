"""κ_4 of one birth, its trees alone: a bilinear form in squares of legs (docs/tree.md).

With p, u the values of a birth's legs P, U along a direction x, h = d31 p, and ν_r = κ_3(x, x, r)
of the older births, the form is quadratic in the *squares* s = (g, p², u², e, ν), g = 2 p u,
e = 2 p h:

    B(s, s) = q O q + 2 q ν + p² d22 p² + Σ_r [ρ g² + 2 ρ p² u² + 2 w3 g u² + d4 p⁴ + 2 p² e],

q = w2 g + τ p². It is the part of κ_iijj in which i and j each close a pair; κ_4(x, x, x, x) has
the edges O, ν and d22 three times. All slices, traces and responses are B, its gradient, and the
gradient of the squares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from .legs import Columns, Legs

Array = NDArray[Any]


@dataclass(frozen=True)
class Squares(Columns):
    """g, p², u², e and ν, each (n, R); e and ν may be None, for zeros."""

    G: Array
    P2: Array
    U2: Array
    E: Any
    N: Any


class Edges(NamedTuple):
    """q, q O and p² d22 of some squares: the products that a gradient of B takes."""

    Q: Array
    QO: Array
    R22: Array


@dataclass(frozen=True)
class Quartic:
    """The coefficients of B, fixed at birth: vectors (R,), matrices (R, R)."""

    O: Array  # noqa: E741  (the covariance of Z where the form was born, zero diagonal)
    w2: Array
    w3: Array
    tau: Array
    rho: Array
    d4: Array
    d22: Array
    d31: Array

    def edges(self, s: Squares) -> Edges:
        Q = s.G * self.w2 + s.P2 * self.tau
        return Edges(Q, Q @ self.O, s.P2 @ self.d22)

    def heavy_gradient(
        self, s: Squares, edges: Edges, times: float = 1, light: float = 1
    ) -> tuple[Array, Array]:
        """∂B(s, ·) in g and p²; the edges O, ν, d22 count `times`, and u², e, ν `light` times."""
        X = edges.QO if s.N is None else edges.QO + (s.N if light == 1 else s.N * light)
        by_G = s.G * self.rho
        by_G += s.U2 * (light * self.w3)
        by_G += X * (times * self.w2)
        by_P2 = s.U2 * (light * self.rho)
        by_P2 += s.P2 * self.d4
        by_P2 += X * (times * self.tau)
        by_P2 += edges.R22 if times == 1 else edges.R22 * times
        if s.E is not None:
            by_P2 += s.E if light == 1 else s.E * light
        return by_G, by_P2

    def gradient(self, s: Squares, edges: Edges, times: float = 1) -> Squares:
        """∂B(s, ·) in all squares: B(s, t) = `gradient(s).dot(t)`."""
        by_U2 = s.P2 * self.rho
        by_U2 += s.G * self.w3
        by_N = edges.Q if times == 1 else edges.Q * times
        return Squares(*self.heavy_gradient(s, edges, times), by_U2, s.P2, by_N)


@dataclass(frozen=True)
class Reading:
    """A birth's quartic form at the neurons of one layer: its legs there, H = P d31ᵀ, squares."""

    quartic: Quartic
    legs: Legs
    H: Array
    squares: Squares

    @classmethod
    def of(cls, quartic: Quartic, legs: Legs, N: Array | None) -> Reading:
        P, U = legs.P, legs.U
        H = P @ quartic.d31.T
        twice = P * 2
        squares = Squares(twice * U, P * P, U * U, twice * H, N)
        return cls(quartic, legs, H, squares)

    def slice_22(self, edges: Edges) -> Array:
        """B(s_i, s_j): u², e and ν only meet g and p², whose products they may thus share."""
        s = self.squares
        by_G, by_P2 = self.quartic.heavy_gradient(s, edges, light=2)
        half: Array = by_G @ s.G.T
        half += by_P2 @ s.P2.T
        return (half + half.T) * 0.5

    def pulled(self, gradient: Squares) -> Array:
        """Half the derivative along x_j of a form with this gradient at s_i, ν aside."""
        (P, U, *_), H = self.legs, self.H
        by_G, by_P2, by_U2, by_E, _ = gradient
        by_p = by_G * U
        by_p += by_P2 * P
        by_p += by_E * H
        by_u = by_G * P
        by_u += by_U2 * U
        total: Array = by_p @ P.T
        total += by_u @ U.T
        total += (by_E * P) @ H.T
        return total

    def trace(self, weights: Array, kappa3: Callable[[Array], Array] | None) -> Array:
        """Σ_k weights_k κ_kkij, loops left out; kappa3(v) is Σ_r v_r κ_3(r, i, j) of older births.

        A loop would be the trace of e, whose d31 joins k to itself.
        """
        s, (P, U, *_) = self.squares, self.legs
        traced = Squares(s.G, s.P2, s.U2, None, s.N).scaled(weights[None])
        g = self.quartic.gradient(traced, self.quartic.edges(traced))
        half: Array = (P * g.P2) @ P.T
        half += (U * g.U2 + P * (2 * g.G)) @ U.T
        half += (P * (2 * g.E)) @ self.H.T
        total: Array = (half + half.T) * 0.5
        return total if kappa3 is None else total + kappa3(g.N)
