"""A source: what one layer m adds to κ_3 and κ_4 of every layer after it (docs/tree.md §2).

A source has five *legs*, matrices (n_t, n_m) whose column r follows neuron r of layer m to layer t:
P and U of first order, V, D and S of one neuron. With p, u, v, d, s their rows at a neuron x,

    κ_3(x,x,x) = Σ_r 3 w2 p u² + 3 τ p² u + d3 p³ + 6 p u v + p² d + 3 u² s.

A linear map and an activation act on every leg alike, from the left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import symmetric_tensors
from .profiles import ThroughProfile, normalised, outer, profile

Array = NDArray[Any]


@dataclass(frozen=True)
class RankOne:
    """A leg as column · rowᵀ: `row`, of length 1, stays fixed, and the column is carried on."""

    column: Array
    row: Array

    @classmethod
    def along(cls, leg: Array, squares: Array) -> RankOne:
        """`leg` where it passes through what it makes of the profile of `squares`."""
        row = normalised(leg.T @ (leg @ profile(squares)))
        return cls(leg @ row, row)


Leg = Array | RankOne


def values(leg: Leg) -> Array:
    """All entries (n, R)."""
    return outer(leg.column, leg.row) if isinstance(leg, RankOne) else leg


def from_left(map_: Array, leg: Any) -> Any:
    """A matrix, or the diagonal of one, times the leg."""
    if isinstance(leg, RankOne):
        column = map_ @ leg.column if map_.ndim == 2 else map_ * leg.column
        return replace(leg, column=column)
    return symmetric_tensors.from_left(map_, leg)


def times_transpose(matrix: Array, leg: Leg) -> Array:
    """matrix · legᵀ."""
    if isinstance(leg, RankOne):
        return outer(matrix @ leg.row, leg.column)
    product: Array = matrix @ leg.T
    return product


def row_products(matrix: Array, leg: Leg) -> Array:
    """The diagonal of matrix · legᵀ, at n²."""
    products: Array = np.vecdot(matrix, values(leg))
    return products


def plus(leg: Any, change: Array) -> Any:
    """The sum, of which a leg of rank one keeps what lies along its row."""
    if isinstance(leg, RankOne):
        return replace(leg, column=leg.column + change @ leg.row)
    return leg + change


@dataclass(frozen=True)
class FullEdges:
    """Ends of edges of κ_4 in X_m that w1 C° w1 and independent noise leave out (§6).

    δC = C(X_m) − w1 C° w1 between different neurons, and the legs V and D at birth, each through a
    vector that holds most of it: δC through `y`, with `dC_y` = δC y.
    """

    y: Array
    dC_y: Array
    V: RankOne
    D: RankOne

    @classmethod
    def of(cls, dC: Array, V: Array, D: Array) -> FullEdges:
        y = RankOne.along(dC, dC * dC).row
        return cls(y, dC @ y, RankOne.along(V, V * V), RankOne.along(D, D * D))


@dataclass(frozen=True)
class Own:
    """The fixed numbers of a source's layer m, per neuron r: nonlinearity and exact slices.

    `tau`, `rho`, `delta` are the responses of Var X_r, to first and second order, and of κ_rrr(X)
    to the mean of Z_r; `variance_z` and `variance_x` those of Z_r and X_r; `d3`, `d4`, `d22` are
    the exact slices of κ(X) less those that all sources carry there. `weight` is the map to Z_m
    from the layer before, None in the first, before which there is no source. `edges` is None where
    edges are kept to leading order.
    """

    weight: Any
    w1: Array
    w2: Array
    w3: Array
    tau: Array
    rho: Array
    delta: Array
    d3: Array
    d4: Array
    d22: Array
    variance_z: Array
    variance_x: Array
    edges: FullEdges | None = None


@dataclass(frozen=True)
class Source:
    """The legs in X_t or Z_t, and what is fixed; P is None for I at birth, S for 0 until set."""

    own: Own
    P: Any
    U: Array
    V: Leg
    D: Array
    S: Any = None

    def transform(self, weight: Array) -> Source:
        """W on every leg."""
        return replace(
            self,
            P=weight if self.P is None else weight @ self.P,
            U=weight @ self.U,
            V=from_left(weight, self.V),
            D=weight @ self.D,
            S=None if self.S is None else from_left(weight, self.S),
        )

    def third_legs(self) -> tuple[Array, Array, Array]:
        """Three legs (n, R) whose products are κ_3(x,x,x) above."""
        own, P, U = self.own, self.P, self.U
        first = [3 * own.w2 * U + 6 * values(self.V), 3 * own.tau * U + own.d3 * P + self.D]
        second, last = [P, P], [U, P]
        if self.S is not None:
            first, second, last = [*first, 3 * values(self.S)], [*second, U], [*last, U]
        return np.hstack(first), np.hstack(second), np.hstack(last)


class Reading:
    """A source in Z_t: products of its legs that slices and sweeps share.

    Q_ir is what κ_ii changes with the mean of Z_r, SP and SU a third of the derivatives of
    κ_3(i,i,i) in P and U.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.own = source, source.own
        self.P, self.U, own = source.P, source.U, source.own
        self.G, self.P2, self.U2 = self.P * self.U, self.P * self.P, self.U * self.U
        self.Q = self.G * (2 * own.w2) + self.P2 * own.tau
        self.SP = self.U2 * own.w2 + self.G * (2 * own.tau) + self.P2 * own.d3
        self.SP += 2 * (self.U * values(source.V)) + (2 / 3) * (self.P * source.D)

    @cached_property
    def at_birth(self) -> Array:
        """κ(Z_i, Z_i, X_r) of this source, but for what comes through its leg U."""
        SP, edges = self.SP, self.own.edges
        if edges is not None:
            SP = SP + times_transpose(2 * self.G, edges.V)
            SP += times_transpose(self.P2 * (1 / 3), edges.D)
        at_birth: Array = SP
        return at_birth

    @property
    def is_new(self) -> bool:
        """Whether its layer is the one before: age 1."""
        return self.source.S is None

    @property
    def SU(self) -> Array:
        SU: Array = self.Q + 2 * (self.P * values(self.source.V))
        return SU if self.is_new else SU + 2 * (self.U * values(self.source.S))

    @cached_property
    def R22(self) -> ThroughProfile:
        return ThroughProfile.of(self.P2, self.own.d22)

    def activate(
        self, w1: Array, w2: Array, A: Array | None, K: Any, rank_one: frozenset[str]
    ) -> Source:
        """Legs in X_t: diag(w1), and what ½ w2_a κ_aa·· adds to κ_3 (docs/tree.md §5).

        The legs named in `rank_one` are compressed in the first activation after birth.
        """
        own, source = self.own, self.source
        once, half = w2[:, None], (0.5 * w2)[:, None]
        in_V = self.G * own.rho + self.U2 * (0.5 * own.w3) + self.P2 * (0.5 * own.delta)
        in_D = self.U2 * own.rho + self.P2 * own.d4 + self.G * (2 * own.delta) + self.R22.matrix()
        in_S = self.P2 * (0.5 * own.rho) + self.G * own.w3
        P, V, S = from_left(w1, self.P), plus(from_left(w1, source.V), once * in_V), once * in_S
        if source.S is not None:
            S = plus(from_left(w1, source.S), S)
        elif "S" in rank_one:
            S = RankOne.along(S, self.P2)
        if source.S is None and "V" in rank_one:
            V = RankOne.along(V, self.U2)
        if A is not None and own.edges is not None:
            V = plus(V, half * values(from_left(A, own.edges.V)))
            in_D = in_D + values(from_left(A, own.edges.D)) * (1 / 3)
        return Source(
            own,
            P=P if A is None else P + half * A,
            U=from_left(w1, self.U) + half * K,
            V=V,
            D=from_left(w1, source.D) + 3 * half * in_D,
            S=S,
        )
