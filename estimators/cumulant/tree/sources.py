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

from ..entrywise import entrywise
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
Factors = tuple[Any, Array | None]


def values(leg: Leg) -> Array:
    """All entries (n, R)."""
    return outer(leg.column, leg.row) if isinstance(leg, RankOne) else leg


def factors(leg: Leg | None) -> Factors:
    """A leg as two arguments of a formula, whose `product` are its entries."""
    return (leg.column[:, None], leg.row) if isinstance(leg, RankOne) else (leg, None)


def product(leg: Any, row: Any) -> Any:
    """The entries of a leg from its `factors`."""
    return leg if row is None else leg * row


def from_left(map_: Array, leg: Any) -> Any:
    """A matrix times the leg."""
    return replace(leg, column=map_ @ leg.column) if isinstance(leg, RankOne) else map_ @ leg


def times_transpose(matrix: Array, leg: Leg) -> Array:
    """matrix · legᵀ."""
    if isinstance(leg, RankOne):
        return outer(matrix @ leg.row, leg.column)
    product: Array = matrix @ leg.T
    return product


def carried(w1: Array, leg: Any, change: Array) -> Any:
    """diag(w1) times the leg, and a change, of which a leg of rank one keeps what lies along its
    row."""
    if isinstance(leg, RankOne):
        return replace(leg, column=w1 * leg.column + change @ leg.row)
    return w1[:, None] * leg + change


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
        along = RankOne.along(dC, dC * dC)
        return cls(along.row, along.column, RankOne.along(V, V * V), RankOne.along(D, D * D))


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


def through_edges(A: Array | None, own: Own) -> tuple[Any, ...]:
    """The `factors` of A times the legs V and D at birth, None with edges to leading order."""
    if A is None or own.edges is None:
        return (None,) * 4
    V, D = (factors(from_left(A, leg)) for leg in (own.edges.V, own.edges.D))
    return *V, *D


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

    Q_ir is what κ_ii changes with the mean of Z_r, SP a third of the derivative of κ_3(i,i,i) in P.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.own = source, source.own
        self.P, self.U, own = source.P, source.U, source.own
        self.P2, self.Q, self.SP = _products(
            self.P, self.U, source.D, *factors(source.V), own.w2, own.tau, own.d3
        )

    @cached_property
    def G(self) -> Array:
        product: Array = self.P * self.U
        return product

    @cached_property
    def U2(self) -> Array:
        product: Array = self.U * self.U
        return product

    @cached_property
    def at_birth(self) -> Array:
        """κ(Z_i, Z_i, X_r) of this source, but for what comes through its leg U."""
        edges = self.own.edges
        if edges is None:
            return self.SP
        V, D = edges.V, edges.D
        by_V, by_D = 2 * (self.G @ V.row), (self.P2 @ D.row) * (1 / 3)
        at_birth: Array = _and_outer(self.SP, by_V[:, None], V.column, by_D[:, None], D.column)
        return at_birth

    @property
    def is_new(self) -> bool:
        """Whether its layer is the one before: age 1."""
        return self.source.S is None

    def derivatives(self) -> tuple[Array, Array, Array]:
        """A third of the derivatives of κ_3(i,i,i) in U, V and D."""
        source = self.source
        found: tuple[Array, Array, Array] = _in_U_V_and_D(
            self.Q, self.P, self.U, *factors(source.V), *factors(source.S)
        )
        return found

    def third_alone(self) -> Array:
        """κ_3(i,i,i) of this source."""
        source, own = self.source, self.own
        shares = _third(
            source.P, source.U, source.D, *factors(source.V), *factors(source.S),
            3 * own.w2, 3 * own.tau, own.d3,
        )  # fmt: skip
        third: Array = shares.sum(axis=-1)
        return third

    @cached_property
    def R22(self) -> ThroughProfile:
        return ThroughProfile(self.P2, self.profile, self.own.d22 @ self.profile)

    @cached_property
    def profile(self) -> Array:
        """The profile of P2."""
        return profile(self.P2)

    def activate(
        self, w1: Array, w2: Array, A: Array | None, K: Any, rank_one: frozenset[str]
    ) -> Source:
        """Legs in X_t: diag(w1), and what ½ w2_a κ_aa·· adds to κ_3 (docs/tree.md §5).

        The legs named in `rank_one` are compressed in the first activation after birth.
        """
        own, source = self.own, self.source
        P, U, D, V, in_S = _activated(
            source.P, source.U, source.D, *factors(source.V), A, K, *through_edges(A, own),
            own.rho, own.w3, own.delta, own.d4, *self.R22.factors, w1[:, None], 0.5 * w2[:, None],
        )  # fmt: skip
        if isinstance(source.V, RankOne):
            V = carried(w1, source.V, V)
        if source.S is not None:
            S = carried(w1, source.S, in_S)
        else:
            S = RankOne.along(in_S, self.P2) if "S" in rank_one else in_S
            V = RankOne.along(V, self.U2) if "V" in rank_one else V
        return Source(own, P, U, V, D, S)


@entrywise
def _products(
    P: Array, U: Array, D: Array, V: Array, V_row: Array | None, w2: Array, tau: Array, d3: Array
) -> tuple[Array, Array, Array]:
    G, P2, U2 = P * U, P * P, U * U
    Q = G * (2 * w2) + P2 * tau
    SP = U2 * w2 + G * (2 * tau) + P2 * d3
    return P2, Q, SP + (2 * (U * product(V, V_row)) + (2 / 3) * (P * D))


@entrywise
def _in_U_V_and_D(
    Q: Array, P: Array, U: Array, V: Array, V_row: Array | None, S: Any, S_row: Array | None
) -> tuple[Array, Array, Array]:
    in_U = Q + 2 * (P * product(V, V_row))
    in_U = in_U if S is None else in_U + 2 * (U * product(S, S_row))
    return in_U, 2 * (P * U), (P * P) * (1 / 3)


@entrywise
def _third(
    P: Array, U: Array, D: Array, V: Array, V_row: Array | None, S: Any, S_row: Array | None,
    w2: Array, tau: Array, d3: Array,
) -> Any:  # fmt: skip
    """The share in κ_iii of each neuron r of the source, given 3 w2 and 3 τ."""
    third = P * (U * (U * w2 + P * tau + 6 * product(V, V_row)) + P * (P * d3 + D))
    return third if S is None else third + 3 * (U * U * product(S, S_row))


@entrywise
def _and_outer(matrix: Array, a: Array, a_row: Array, b: Array, b_row: Array) -> Any:
    return matrix + a * a_row + b * b_row


@entrywise
def _activated(
    P: Array, U: Array, D: Array, V: Array, V_row: Array | None, A: Any, K: Array,
    edge_V: Any, edge_V_row: Array | None, edge_D: Any, edge_D_row: Array | None,
    rho: Array, w3: Array, delta: Array, d4: Array,
    shared: Array, dc: Array, rest: Array, c: Array, w1: Array, half: Array,
) -> tuple[Any, ...]:  # fmt: skip
    """P, U, D and V in X, or of a V of rank one the change, and the change of S, given ½ w2."""
    G, P2, U2 = P * U, P * P, U * U
    in_D = 3 * (U2 * rho + P2 * d4 + G * (2 * delta) + (shared * dc + rest * c))
    in_V = G * (2 * rho) + U2 * w3 + P2 * delta
    if edge_V is not None:
        in_D, in_V = in_D + product(edge_D, edge_D_row), in_V + product(edge_V, edge_V_row)
    in_D, in_V, in_S = half * in_D, half * in_V, half * (P2 * rho + G * (2 * w3))
    P = w1 * P if A is None else w1 * P + half * A
    V = w1 * V + in_V if V_row is None else in_V
    return P, w1 * U + half * K, w1 * D + in_D, V, in_S
