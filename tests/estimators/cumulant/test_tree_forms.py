"""Order 3, kind tree: the forms of births and pairs of neurons against plain tensors."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from helpers.trees import SCHEME, layers
from hypothesis import given, settings
from hypothesis import strategies as st

import cumprop
from cumprop.estimators.cumulant import births
from cumprop.estimators.cumulant.dense import PowerCumulants, slice_of_x
from cumprop.estimators.cumulant.legs import Legs
from cumprop.estimators.cumulant.pairs import SlicesOfX
from cumprop.estimators.cumulant.propagation import KnownSlices
from cumprop.estimators.cumulant.quartic import Quartic, Reading, Squares
from cumprop.estimators.cumulant.symmetric_tensors import TracePart, diagonal
from cumprop.flops import plain


def symmetrised(tensor):
    """The average over all orders of the legs."""
    orders = list(itertools.permutations(range(tensor.ndim)))
    return sum(np.transpose(tensor, order) for order in orders) / len(orders)


def kappa3(legs):
    """κ_3 of legs (n, R), as a full tensor."""
    P, U, Y, D = map(plain, legs)
    return symmetrised(
        3 * np.einsum("ir,jr,kr->ijk", P, U, Y) + np.einsum("ir,jr,kr->ijk", D, P, P)
    )


def full_kappa4(quartic, legs, sources):
    """κ_4 of a birth from the diagrams of docs/tree.md, as a full tensor.

    `sources` are older births: legs in this layer, and where this one was born.
    """
    P, U = plain(legs.P), plain(legs.U)
    quartic = Quartic(*map(plain, vars(quartic).values()))
    q = quartic.w2 * np.einsum("ir,jr->ijr", P, U) * 2 + quartic.tau * np.einsum("ir,jr->ijr", P, P)
    tensor = 3 * np.einsum("ijr,rs,kls->ijkl", q, quartic.O, q)
    for now, then in sources:
        both = kappa3(
            Legs(*(np.vstack([*map(plain, pair)]) for pair in zip(now, then, strict=True)))
        )
        n = len(P)
        tensor += 6 * np.einsum("ijr,rkl->ijkl", q, both[n:, :n, :n])
    tensor += 6 * np.einsum("r,ir,jr,kr,lr->ijkl", quartic.rho, P, P, U, U)
    tensor += 4 * np.einsum("r,ir,jr,kr,lr->ijkl", quartic.w3, P, U, U, U)
    tensor += 3 * np.einsum("ir,jr,rs,ks,ls->ijkl", P, P, quartic.d22, P, P)
    tensor += 4 * np.einsum("ir,jr,kr,rs,ls->ijkl", P, P, P, quartic.d31, P)
    tensor += np.einsum("r,ir,jr,kr,lr->ijkl", quartic.d4, P, P, P, P)
    return symmetrised(tensor)


@pytest.fixture(scope="module")
def example():
    """A birth with two older ones, in a layer of other width: all coefficients random."""
    rng = np.random.default_rng(5)
    n, r = 5, 4
    hollow = [rng.normal(size=(r, r)) * (1 - np.eye(r)) for _ in range(3)]
    O, d22 = (a + a.T for a in hollow[:2])  # noqa: E741
    vectors = rng.normal(size=(5, r))
    quartic = Quartic(O, *vectors, d22, hollow[2])
    legs = Legs(*rng.normal(size=(4, n, r)))
    sources = [
        (Legs(*rng.normal(size=(4, n, s))), Legs(*rng.normal(size=(4, r, s)))) for s in (3, 6)
    ]
    return quartic, legs, sources


def fourth(example, mixed=True):
    quartic, legs, sources = example
    older = [births.Birth(now, quartic, ()) for now, _ in sources]
    birth = births.Birth(legs, quartic, tuple(then for _, then in sources))
    nu = sum(now.gradient().dot(then) for now, then in sources)
    reading = Reading.of(quartic, legs, nu)
    return reading, births.fourth_slices(birth, reading, older, mixed, pairs=True)


class TestQuarticForm:
    """The form is a short way to slices of a tensor that its definition gives in full."""

    def test_slices(self, example):
        tensor = full_kappa4(*example)
        _, slices = fourth(example)
        off = 1 - np.eye(5)
        assert np.allclose(slices[4,], diagonal(tensor, (4,)))
        assert np.allclose(slices[3, 1], diagonal(tensor, (3, 1)) * off)

    def test_without_mixed_only_the_older_births_miss(self, example):
        quartic, legs, _ = example
        _, with_none = fourth(
            (quartic, legs, [(Legs(*np.zeros((4, 5, 1))), Legs(*np.zeros((4, 4, 1))))]), mixed=False
        )
        tensor = full_kappa4(quartic, legs, [])
        assert np.allclose(with_none[3, 1], diagonal(tensor, (3, 1)) * (1 - np.eye(5)))

    def test_pairs_miss_the_loops_alone(self, example):
        """What κ_iijj lacks are edges between two squares (i, j): ½ of the form's edges there."""
        quartic, legs, sources = example
        zero = np.zeros(4)
        edges = replace(quartic, w3=zero, rho=zero, d4=zero)

        def squares(x):
            at_x = Legs(*(x @ leg for leg in legs))
            nu = sum(Legs(*(x @ leg for leg in now)).gradient().dot(then) for now, then in sources)
            return Reading.of(quartic, at_x, nu).squares

        loops = np.zeros((5, 5))
        for i, j in itertools.permutations(np.eye(5)[:, None], 2):
            plus, minus = squares(i + j), squares(i - j)  # four squares (i, j) apart
            G, P2, U2, _, N = ((a - b) / 2 for a, b in zip(plus, minus, strict=True))
            pair = Squares(G, P2, U2, None, N)
            loops += edges.gradient(pair, edges.edges(pair)).row_dot(pair)[0] / 2 * (i.T @ j)
        exact = diagonal(full_kappa4(*example), (2, 2)) * (1 - np.eye(5))
        assert np.abs(loops).max() > 1
        assert np.allclose(fourth(example)[1][2, 2] + loops, exact)

    def test_responses_are_the_form_with_two_legs_fixed(self, example):
        """κ_3 = 3/2 Sym Σ_a b_a κ_4(a, a, ·, ·), loops left out: B(Σ_a b_a s_a, x²)."""
        quartic, legs, _ = example
        reading, _ = fourth(
            (quartic, legs, [(Legs(*np.zeros((4, 5, 1))), Legs(*np.zeros((4, 4, 1))))])
        )
        weights = np.random.default_rng(1).normal(size=(5, 5))
        response = reading.squares.scaled(weights)
        slices = births.response_slices(response, reading, pairs=True)

        def form(x):
            at_x = Legs(*(x[None] @ leg for leg in legs))
            nu = np.zeros((1, 4))
            squares = Reading.of(quartic, at_x, nu).squares
            b = response.scaled(x[None])
            return 1.5 * quartic.gradient(b, quartic.edges(b)).row_dot(squares)[0]

        unit = np.eye(5)
        for i, j in itertools.permutations(range(5), 2):
            k3 = form(unit[i])
            assert slices[3,][i] == pytest.approx(k3)
            # a cubic's coefficient of x_i² x_j, over 3
            values = [form(unit[i] + t * unit[j]) for t in (1, -1)]
            k21 = ((values[0] - values[1]) / 2 - form(unit[j])) / 3
            assert slices[2, 1][i, j] == pytest.approx(k21)

    def test_trace(self, example):
        """Σ_k c_k κ_kkij without loops is quadratic in i and j: B(Σ c s, s_i) on the diagonal."""
        quartic, _, sources = example
        reading, _ = fourth(example)
        weights = np.random.default_rng(2).normal(size=5)
        older = [births.Birth(now, quartic, ()) for now, _ in sources]
        contraction = births.contraction(older, tuple(then for _, then in sources))
        trace = reading.trace(weights, contraction)
        # at i = j it is B(c, s_i), but for e: the trace leaves that square out
        s = reading.squares
        traced = Squares(s.G, s.P2, s.U2, None, s.N).scaled(weights[None])
        expected = quartic.gradient(traced, quartic.edges(traced)).row_dot
        assert np.allclose(trace, trace.T)
        assert np.allclose(np.diag(trace), [
            expected(Squares(*(m[i : i + 1] for m in s)))[0] for i in range(5)
        ])  # fmt: skip


def test_births_are_the_kappa4_of_order_four():
    """Given the same cumulants of Z, the dense expansion of order 4 is the births' κ_4.

    All slices but (2,1,1), where the dense engine has triangles and double edges.
    """
    weights = cumprop.random_mlp(6, 3, 4, dtype="float64").weights
    network = cumprop.MLP(weights, [np.full(6, 0.2)] * 4, "gelu")
    identity = np.eye(6)
    for variance, w, z, x in itertools.islice(layers(network, births.Window()), 2):
        slices = {2: TracePart(z.C + np.diag(variance))}
        if z.births:
            (old,) = z.births
            slices[3] = TracePart(kappa3(old.legs))
            slices[4] = KnownKappa4(z.read.fourth, full_kappa4(old.quartic, old.legs, []))
        power = PowerCumulants(slices, w, replace(SCHEME, kind="basic", order=4))
        *older, new = x.births
        legs = replace(new.legs, P=identity)
        sources = [(birth.legs, then) for birth, then in zip(older, new.older, strict=True)]
        ours = full_kappa4(new.quartic, legs, sources)
        ours += sum(full_kappa4(birth.quartic, birth.legs, []) for birth in older)
        distinct = list(itertools.permutations(range(6), 4))
        dense = slice_of_x(power, (1, 1, 1, 1))
        for index in distinct:
            assert ours[index] == pytest.approx(dense[index], rel=1e-9, abs=1e-12)
        # these include the two-neuron terms of κ_3², which only trees have
        exact = PowerCumulants(slices, w, SCHEME)
        assert np.allclose(diagonal(ours, (4,)), slice_of_x(exact, (4,)), rtol=1e-9)
        k31 = diagonal(ours, (3, 1)) * (1 - identity)
        assert np.allclose(k31, slice_of_x(exact, (3, 1)), rtol=1e-9, atol=1e-12)
        k22 = tree_half(new.quartic, legs, sources)
        k22 += sum(tree_half(birth.quartic, birth.legs, []) for birth in older)
        assert np.allclose(k22, slice_of_x(exact, (2, 2)), rtol=1e-9, atol=1e-12)


def tree_half(quartic, legs, sources):
    """κ_iijj without loops, i ≠ j."""
    nu = sum(now.gradient().dot(then) for now, then in sources) if sources else None
    reading = Reading.of(quartic, legs, nu)
    return reading.slice_22(quartic.edges(reading.squares)) * (1 - np.eye(len(legs.P)))


class KnownKappa4:
    """κ_4 by the slices a tree reads, and in full for four neurons."""

    def __init__(self, known, tensor):
        self._known, self._tensor = KnownSlices(known), tensor

    def slice(self, u):
        return self._tensor if u == (1, 1, 1, 1) else self._known.slice(u)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(0, 99), st.sampled_from(["relu", "tanh", "sigmoid"]))
def test_slices_of_pairs_are_those_of_power_cumulants(n, seed, activation):
    """§3.2 by polynomials of both neurons = by vector partitions."""
    rng = np.random.default_rng(seed)
    off = 1 - np.eye(n)
    k22 = rng.normal(size=(n, n))
    known = {
        (3,): rng.normal(size=n),
        (4,): rng.normal(size=n),
        (1, 1): (k22 @ k22.T) * off * 0.1,
        (2, 1): rng.normal(size=(n, n)) * off,
        (3, 1): rng.normal(size=(n, n)) * off,
        (2, 2): (k22 + k22.T) * off,
    }
    mean, variance = rng.normal(size=n), rng.uniform(0.5, 2, size=n)
    w = cumprop.activations.get(activation).wick_table(mean, variance)
    x = SlicesOfX(known, w, SCHEME)
    z = {d: KnownSlices({u: s for u, s in known.items() if sum(u) == d}) for d in (2, 3, 4)}
    power = PowerCumulants(z, w, SCHEME)
    for u, ours in [((1, 1), x.C), ((2, 1), x.k21), ((3, 1), x.k31), ((2, 2), x.k22)]:
        plain = slice_of_x(power, u)
        assert np.allclose(ours, plain, rtol=1e-9, atol=1e-9 * np.abs(plain).max())
