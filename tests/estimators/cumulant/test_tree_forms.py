"""Order 3, kind tree: sources, sweeps and slices against tensors and forms from definitions."""

import itertools
from dataclasses import is_dataclass, replace

import numpy as np
import pytest
from helpers.trees import SCHEME, layers
from hypothesis import given, settings
from hypothesis import strategies as st

import cumprop
from cumprop.estimators.cumulant.dense import PowerCumulants, slice_of_x
from cumprop.estimators.cumulant.kinds import EDGES
from cumprop.estimators.cumulant.propagation import KnownSlices
from cumprop.estimators.cumulant.symmetric_tensors import TracePart, diagonal
from cumprop.estimators.cumulant.tree import activated as tree_activated
from cumprop.estimators.cumulant.tree.pair_slices import slices_of_x
from cumprop.estimators.cumulant.tree.profiles import (
    ThroughProfile,
    profile,
    summed,
    through_profiles,
)
from cumprop.estimators.cumulant.tree.sources import (
    RankOne,
    carried,
    from_left,
    times_transpose,
    values,
)
from cumprop.flops import plain

STEP = 1e-30
"""Of complex derivatives, which have no rounding from differences."""


@pytest.fixture(scope="module", params=["square", "rectangular"])
def network(request):
    """With biases; the activations change from layer to layer."""
    widths = [9, 12, 10, 13, 11, 8] if request.param == "rectangular" else [10] * 6
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=(n, m)) * (2 / m) ** 0.5 for m, n in itertools.pairwise(widths)]
    biases = [0.3 * rng.normal(size=len(weight)) for weight in weights]
    return cumprop.MLP(weights, biases, ["relu", "gelu", "tanh", "relu"])


class Form:
    """κ_3 and κ_4 of all sources in Z_t as functions of a direction x in Z_t, from definitions."""

    def __init__(self, sources, first_C):
        self.sources = []
        edges, weight = plain(first_C), None
        for swept in sources:
            source, own = swept.reading.source, swept.reading.own
            own = plain_fields(own)
            if self.sources:
                weight = own.weight
                before = self.sources[-1][1]
                w1 = before.w1
                through = w1[:, None] * self.sources[-1][2] * w1 + np.diag(before.variance_x)
                if before.edges is not None:
                    y, dC_y = before.edges.y, before.edges.dC_y
                    through += np.outer(y, dC_y) + np.outer(dC_y, y) - (y @ dC_y) * np.outer(y, y)
                edges = weight @ through @ weight.T - np.diag(own.variance_z)
            legs = [plain(values(leg)) for leg in (source.P, source.U, source.V, source.D)]
            S = np.zeros_like(legs[0]) if source.S is None else plain(values(source.S))
            self.sources.append(((*legs, S), own, edges, weight))

    def third(self, x):
        """κ_3(x,x,x)."""
        total = 0
        for legs, own, _, _ in self.sources:
            p, u, v, d, s = (leg.T @ x for leg in legs)
            total = total + (
                3 * own.w2 * p * u**2 + 3 * own.tau * p**2 * u + own.d3 * p**3
                + 6 * p * u * v + p**2 * d + 3 * u**2 * s
            ).sum()  # fmt: skip
        return total

    def squares(self, x, fixed):
        """(q, ν, p, u, p², u²) of every source at x.

        ν_r = κ_3(x, x, Z_r) by older sources: directly, or through an edge at an older neuron,
        whose value at layer s is carried to Z_m map by map. What V and D add is that of `fixed`.
        """
        found, carried = [], None
        for legs, own, edges, weight in self.sources:
            p, u, *_ = (leg.T @ x for leg in legs)
            p0, u0, v0, d0, _ = (leg.T @ fixed for leg in legs)
            q = 2 * own.w2 * p * u + own.tau * p**2
            nu = np.zeros_like(q) if carried is None else weight @ carried
            found.append((q, nu, p, u))
            direct = own.w2 * u**2 + 2 * own.tau * p * u + own.d3 * p**2
            direct = direct + 2 * u0 * v0 + 2 / 3 * p0 * d0
            if own.edges is not None:
                direct = direct + 2 * values(own.edges.V) @ (p * u) + values(own.edges.D) @ p**2 / 3
            carried = own.w1 * (nu + edges @ q) + direct
        return found

    def fourth(self, x, fixed):
        """κ_4(x,x,x,x): paths of edges, and stars; d22 through the profile of P2."""
        total = 0
        for (q, nu, p, u), (legs, own, edges, _) in zip(
            self.squares(x, fixed), self.sources, strict=True
        ):
            total = total + 3 * q @ edges @ q + 6 * q @ nu
            total = total + (
                6 * own.rho * p**2 * u**2 + 4 * own.w3 * p * u**3 + 4 * own.delta * p**3 * u
                + own.d4 * p**4
            ).sum()  # fmt: skip
            total = total + 3 * (p**2) @ by_profile(legs[0] ** 2, own.d22) @ (p**2)
        return total

    def paths(self, i, j):
        """Of κ_iijj the paths from a pair at i to a pair at j, with no neuron between repeated."""
        eye = np.eye(len(self.sources[0][0][0]))
        (at_i, at_j) = (self.squares(eye[k], eye[k]) for k in (i, j))
        total = 0.0
        for (q, nu, *_), (q_j, nu_j, *_), (_, _, edges, _) in zip(
            at_i, at_j, self.sources, strict=True
        ):
            total += q @ edges @ q_j + q @ nu_j + nu @ q_j
        return total


def plain_fields(item):
    """A dataclass of plain arrays, nested ones included."""
    if is_dataclass(item):
        return type(item)(*map(plain_fields, vars(item).values()))
    return None if item is None else plain(item)


def by_profile(P2, d):
    """d between profiles: what the method keeps of it."""
    c = P2.mean(axis=0)
    c = np.outer(c, c) / (c @ c)
    return c @ d + d @ c - c @ d @ c


def readings(network, edges="leading"):
    """(slices, sources in Z_l, form) of the layers that have sources."""
    first = None
    for layer in layers(network, frozenset(), edges):
        if layer.sources:
            yield layer, Form(layer.sources, first)
        first = layer.x.first_C


@pytest.mark.thorough
@pytest.mark.parametrize("edges", EDGES)
def test_slices_are_derivatives_of_the_forms(network, edges):
    """κ_iii, κ_iij, κ_iiii, κ_iiij in every layer; κ_iiij but for what V and D add."""
    seen = 0
    for layer, form in readings(network, edges):
        n = len(layer.variance)
        eye, off = np.eye(n), 1 - np.eye(n)
        third = np.array([form.third(eye[i]) for i in range(n)])
        fourth = np.array([form.fourth(eye[i], eye[i]) for i in range(n)])
        k21, k31 = np.zeros((2, n, n))
        for i, j in itertools.permutations(range(n), 2):
            x = eye[i] + 1j * STEP * eye[j]
            k21[i, j] = form.third(x).imag / STEP / 3
            k31[i, j] = form.fourth(x, eye[i]).imag / STEP / 4
        for u, ours in {(3,): third, (2, 1): k21, (4,): fourth, (3, 1): k31}.items():
            tolerance = 1e-12 * np.abs(ours).max()
            assert np.abs(layer.slices[u] - ours).max() <= tolerance, u
            assert len(u) == 1 or not (layer.slices[u] * (1 - off)).any()
        seen += 1
    assert seen == 3


@pytest.mark.parametrize("edges", EDGES)
def test_pairs_of_pairs_are_polar_forms(network, edges):
    """κ_iijj: paths from the pair at i to that at j, and stars; through profiles when old."""
    for layer, form in readings(network, edges):
        n = len(layer.variance)
        k22 = np.zeros((n, n))
        for i, j in itertools.permutations(range(n), 2):
            k22[i, j] = form.paths(i, j)
        for (P, U, *_), own, _, _ in form.sources:
            P2, U2, G, Q = P**2, U**2, P * U, 2 * own.w2 * P * U + own.tau * P**2
            stars = P2 @ by_profile(P2, own.d22) @ P2.T
            if P is form.sources[-1][0][0]:
                half = G * 2 * own.rho @ G.T + U2 * 2 * own.w3 @ G.T
                half += (U2 * own.rho + P2 * own.d4 / 2 + G * 2 * own.delta) @ P2.T
                stars += half + half.T
            else:  # the paths repeat a neuron, which is a star too: by profiles, where P2 alone is
                stars += Q * own.variance_z @ Q.T
                stars += product(P2, own.d4 - own.tau**2 * own.variance_z, P2)
                stars += product(U2, own.rho, P2) + product(P2, own.rho, U2)
            k22 += stars * (1 - np.eye(n))
        assert np.abs(layer.slices[2, 2] - k22).max() <= 1e-12 * np.abs(k22).max()


@pytest.mark.parametrize("edges", EDGES)
def test_legs_answer_to_fourth_cumulants(network, edges):
    """What an activation adds to the legs of older sources is, in κ_3(x,x,x) and to first order,
    3/2 Σ_a w2_a x_a κ_4(a,a,x,x): paths and stars. V and S beside changed legs are one order more.
    """
    changed = 0
    for layer, form in readings(network, edges):
        w1, w2 = (plain(layer.w(k, 1)) for k in (1, 2))
        n, rows = len(w1), w1[:, None]
        eye, x = np.eye(n), np.random.default_rng(0).normal(size=n)
        at_x = form.squares(x, x)
        expected = ours = 0.0
        for a in range(n):
            at_a = form.squares(eye[a], eye[a])
            k22 = 0.0
            for (q, nu, p, u), (qx, nux, px, ux), (legs, own, pairs, _) in zip(
                at_a, at_x, form.sources, strict=True
            ):
                k22 += q @ pairs @ qx + q @ nux + nu @ qx
                k22 += own.rho @ (p**2 * ux**2 + u**2 * px**2 + 4 * p * u * px * ux)
                k22 += 2 * own.w3 @ (p * u * ux**2 + u**2 * px * ux)
                k22 += 2 * own.delta @ (p**2 * px * ux + p * u * px**2)
                k22 += own.d4 @ (p**2 * px**2)
                k22 += p**2 @ by_profile(legs[0] ** 2, own.d22) @ px**2
            expected += 1.5 * w2[a] * x[a] * k22
        older = tree_activated(layer.sources, layer.w, frozenset())
        for (qx, _, p, u), swept, source in zip(at_x, layer.sources, older, strict=True):
            before, own = swept.reading.source, plain_fields(swept.reading.own)
            dp, du, dv, dd, ds = (
                (plain(values(new)) - (0 if old is None else rows * plain(values(old)))).T @ x
                for new, old in zip(
                    (source.P, source.U, source.V, source.D, source.S),
                    (before.P, before.U, before.V, before.D, before.S), strict=True,
                )
            )  # fmt: skip
            v, d = (plain(values(leg)).T @ x for leg in (before.V, before.D))
            direct = own.w2 * u**2 + 2 * own.tau * p * u + own.d3 * p**2 + 2 * u * v + p * d * 2 / 3
            ours += 3 * (direct @ dp + qx @ du + 2 * (p * u) @ dv + p**2 @ dd / 3 + u**2 @ ds)
        assert ours == pytest.approx(expected, rel=1e-10)
        changed += 1
    assert changed == 3


def product(X, a, Y):
    """X diag(a) Yᵀ but for what fluctuates on both sides, by projections on the mean rows."""
    x, y = (np.outer(c, c) / (c @ c) for c in (X.mean(axis=0), Y.mean(axis=0)))
    return X @ (x * a + a[:, None] * y - x * a @ y) @ Y.T


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_products_through_profiles_are_projections(n, r, seed):
    rng = np.random.default_rng(seed)
    X, Y = rng.uniform(size=(2, n, r))
    a, d = rng.normal(size=r), rng.normal(size=(r, r))
    found = summed(through_profiles(X, profile(X), a, Y, profile(Y)))
    assert np.allclose(found, product(X, a, Y))
    through = ThroughProfile(X, profile(X), (d + d.T) @ profile(X))
    shared, dc, rest, c = through.factors
    assert np.allclose(shared * dc + rest * c, X @ by_profile(X, d + d.T))
    assert np.allclose(summed(through.times_transpose()), X @ by_profile(X, d + d.T) @ X.T)
    assert np.linalg.norm(profile(X)) == pytest.approx(1)
    assert not profile(0 * X).any()


class TestRankOne:
    def test_a_leg_keeps_what_lies_along_its_image_of_the_profile(self):
        """y is the unit vector along Xᵀ X c: a leg of rank one stays as it is, and changes of it
        are projected."""
        rng = np.random.default_rng(0)
        column, row = rng.normal(size=5), rng.normal(size=4)
        squares, change = rng.uniform(size=(2, 5, 4))
        leg = RankOne.along(np.outer(column, row), squares)
        assert np.allclose(values(leg), np.outer(column, row))
        y = row / np.linalg.norm(row)
        w1 = rng.normal(size=5)
        changed = values(carried(w1, leg, change))
        assert np.allclose(changed, np.outer(w1 * column, row) + np.outer(change @ y, y))
        assert np.allclose(carried(w1, squares, change), w1[:, None] * squares + change)
        map_, matrix = rng.normal(size=(6, 5)), rng.normal(size=(3, 4))
        assert np.allclose(values(from_left(map_, leg)), map_ @ values(leg))
        assert np.allclose(times_transpose(matrix, leg), matrix @ values(leg).T)


def distinct(n, order):
    return list(itertools.permutations(range(n), order))


def symmetrised(tensor):
    """The average over all orders of the axes."""
    orders = list(itertools.permutations(range(tensor.ndim)))
    return sum(np.transpose(tensor, order) for order in orders) / len(orders)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_the_first_source_has_the_cumulants_of_the_expansion(activation):
    """κ_3 and κ_4 of X_1, whose Z_1 is Gaussian, as tensors: all slices of κ_3, and of κ_4 the
    slices (4,), (2,2) and distinct neurons, are those of the dense expansion of order 4.

    But for loops, which trees leave out: C_ij C_jk C_ki in κ_3, and cycles of four in κ_4.
    """
    n = 6
    weights = cumprop.random_mlp(n, 2, 4, dtype="float64").weights
    layer = next(layers(cumprop.MLP(weights, [np.full(n, 0.2)] * 3, activation)))
    (source,) = layer.x.sources
    own = source.own
    P, C = np.eye(n), plain(layer.slices[1, 1])
    U, V, D = (plain(values(leg)) for leg in (source.U, source.V, source.D))
    w2, w3, tau, rho = (plain(getattr(own, k)) for k in ("w2", "w3", "tau", "rho"))
    third = symmetrised(
        3 * np.einsum("r,ir,jr,kr->ijk", w2, P, U, U)
        + 3 * np.einsum("r,ir,jr,kr->ijk", tau, P, P, U)
        + np.einsum("r,ir,jr,kr->ijk", plain(own.d3), P, P, P)
        + 6 * np.einsum("ir,jr,kr->ijk", P, U, V)
        + np.einsum("ir,jr,kr->ijk", P, P, D)
    )
    q = 2 * w2 * np.einsum("ir,jr->ijr", P, U) + tau * np.einsum("ir,jr->ijr", P, P)
    fourth = symmetrised(
        3 * np.einsum("ijr,rs,kls->ijkl", q, C, q)
        + 6 * np.einsum("r,ir,jr,kr,lr->ijkl", rho, P, P, U, U)
        + 4 * np.einsum("r,ir,jr,kr,lr->ijkl", w3, P, U, U, U)
        + 4 * np.einsum("r,ir,jr,kr,lr->ijkl", plain(own.delta), P, P, P, U)
        + np.einsum("r,ir,jr,kr,lr->ijkl", plain(own.d4), P, P, P, P)
        + 3 * np.einsum("ir,jr,rs,ks,ls->ijkl", P, P, plain(own.d22), P, P)
    )
    full = C + np.diag(plain(layer.variance))
    power = PowerCumulants({2: TracePart(full)}, layer.w, replace(SCHEME, kind="basic", order=4))
    dense3, dense4 = (slice_of_x(power, (1,) * order) for order in (3, 4))
    for i, j, k in distinct(n, 3):
        triangle = C[i, j] * C[j, k] * C[k, i] * w2[i] * w2[j] * w2[k]
        assert third[i, j, k] + triangle == pytest.approx(dense3[i, j, k], rel=1e-9, abs=1e-13)
    for index in distinct(n, 4):
        assert fourth[index] == pytest.approx(dense4[index], rel=1e-9, abs=1e-13)
    off = 1 - np.eye(n)
    for tensor, u in [(third, (3,)), (third, (2, 1)), (fourth, (4,))]:
        exact = slice_of_x(power, u)
        assert np.allclose(diagonal(tensor, u) * (off if len(u) > 1 else 1), exact, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(2, 6),
    st.integers(0, 99),
    st.sampled_from(["relu", "tanh", "sigmoid"]),
    st.booleans(),
)
def test_slices_of_x_are_those_of_power_cumulants(n, seed, activation, first):
    """§3.2 by polynomials of both neurons = by vector partitions; the first layer has C alone."""
    rng = np.random.default_rng(seed)
    off = 1 - np.eye(n)
    k22 = rng.normal(size=(n, n))
    known = {(1, 1): (k22 @ k22.T) * off * 0.1}
    if not first:
        known |= {
            (3,): rng.normal(size=n),
            (4,): rng.normal(size=n),
            (2, 1): rng.normal(size=(n, n)) * off,
            (3, 1): rng.normal(size=(n, n)) * off,
            (2, 2): (k22 + k22.T) * off,
        }
    mean, variance = rng.normal(size=n), rng.uniform(0.5, 2, size=n)
    w = cumprop.activations.get(activation).wick_table(mean, variance)
    x = slices_of_x(known, w, SCHEME, "all")
    orders = {sum(u) for u in known}
    z = {d: KnownSlices({u: s for u, s in known.items() if sum(u) == d}) for d in orders}
    power = PowerCumulants(z, w, SCHEME)
    assert set(x) == {(1,), (2,), (3,), (4,), (1, 1), (2, 1), (2, 2)}
    for u, found in x.items():
        plain_ = slice_of_x(power, u)
        assert np.allclose(found, plain_, rtol=1e-9, atol=1e-9 * np.abs(plain_).max())
    for wanted, of_wanted in {"mean": {(1,)}, "covariance": {(1,), (2,), (1, 1)}}.items():
        part = slices_of_x(known, w, SCHEME, wanted)
        assert set(part) == of_wanted
        for u, found in part.items():
            np.testing.assert_array_equal(found, x[u])
