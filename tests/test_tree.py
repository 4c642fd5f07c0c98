"""Order 3, kind tree: reference numbers, the forms against plain tensors, and what it costs."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cumprop
from cumprop.cumulants import TracePart, diagonal
from cumprop.errors import CumpropError
from cumprop.estimator import Shape
from cumprop.estimators.cumulant import Cumulant, births, tree
from cumprop.estimators.cumulant.dense import PowerCumulants, propagate, slice_of_x
from cumprop.estimators.cumulant.engine import AffineMap, KnownSlices, wick_coefficients
from cumprop.estimators.cumulant.kinds import Scheme
from cumprop.estimators.cumulant.legs import Legs
from cumprop.estimators.cumulant.pairs import SlicesOfX
from cumprop.estimators.cumulant.quartic import Quartic, Reading, Squares
from cumprop.flops import counted, plain

GOLDENS = sorted((Path(__file__).parent / "goldens").glob("tree_*.npz"))
WINDOWED = re.compile(r"(?P<what>mean|mu_\d|k3_\d|k4_\d)_w(?P<window>\d)_(?P<response>\d|inf)")
SCHEME = Scheme(3, "tree", edgeworth=True)


def load(path):
    with np.load(path, allow_pickle=False) as data:
        arrays = dict(data)
    n_maps = sum(re.fullmatch(r"W\d+", key) is not None for key in arrays)
    return cumprop.MLP([arrays[f"W{i}"] for i in range(n_maps)]), arrays


def layers(network, window):
    """Z_l and X_l, l = 1..L, all slices of pairs included; the last layer is one of the others."""
    x = tree.Tracked(*tree.input_of(network))
    for weight, bias, phi in zip(
        network.weights, network.biases, network.activations, strict=False
    ):
        z = tree.linear(x, AffineMap(counted(weight), bias), window, "all")
        w, _ = wick_coefficients(phi, z.mean, z.variance)
        x = tree.nonlinear(z, w, SCHEME, window, "all")
        yield z, x


def close(ours, golden, scale):
    """To 1e-9 of the output's scale, as everywhere."""
    return np.abs(np.asarray(ours) - golden).max() <= 1e-9 * max(scale, np.abs(golden).max())


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
class TestGoldens:
    def test_means(self, path):
        network, golden = load(path)
        scale = np.sqrt(golden["var_1"].mean())
        for edgeworth, key in ((True, "mean"), (False, "mean_noedgeworth")):
            estimate = Cumulant(3, "tree", edgeworth=edgeworth).estimate(network)
            assert close(estimate.mean, golden[key], scale)
        for layer, mean in enumerate(Cumulant(3, "tree").estimate(network).layer_means, start=1):
            assert close(mean, golden[f"mu_{layer}"], scale)

    def test_slices_of_every_layer(self, path):
        network, golden = load(path)
        scale = np.sqrt(golden["var_1"].mean())
        for layer, (z, _) in enumerate(layers(network, births.Window()), start=1):
            assert close(z.variance, golden[f"var_{layer}"], scale)
            third = births.total([z.read.legs, z.read.response])
            assert close(third.get((3,), 0.0), golden[f"k3_{layer}"], scale)
            assert close(z.read.fourth.get((4,), 0.0), golden[f"k4_{layer}"], scale)

    def test_windows(self, path):
        network, golden = load(path)
        scale = np.sqrt(golden["var_1"].mean())
        for key, array in golden.items():
            if (match := WINDOWED.fullmatch(key)) is None:
                continue
            response = None if match["response"] == "inf" else int(match["response"])
            windows = {"window": int(match["window"]), "response_window": response}
            what, _, layer = match["what"].partition("_")
            if what == "mean":
                ours = Cumulant(3, "tree", **windows).estimate(network).mean
            elif what == "mu":
                ours = Cumulant(3, "tree", **windows).estimate(network).layer_means[int(layer) - 1]
            else:
                (z, _) = list(layers(network, births.Window(*windows.values())))[int(layer) - 1]
                parts = [z.read.legs, z.read.response, z.read.response_leaves]
                parts = (
                    parts if what == "k3" else [z.read.fourth, z.read.fourth_leaves, z.read.core]
                )
                ours = births.total(parts).get((int(what[1]),), 0.0)
            assert close(ours, array, scale), key


def test_the_goldens_hold_windows():
    """The test above is only as good as the keys it finds."""
    found = [WINDOWED.fullmatch(key) for path in GOLDENS for key in load(path)[1]]
    kinds = {(m["what"][:2], m["window"], m["response"]) for m in found if m}
    assert {(what, "3", w) for what in ("me", "mu", "k3", "k4") for w in ("6", "inf")} <= kinds
    assert {path.stem for path in GOLDENS} >= {"tree_n10_L1", "tree_rect", "tree_n24_L8"}


@pytest.mark.parametrize("windows", [(None, None), (1, None), (2, 3)])
def test_neurons_may_be_permuted_and_relu_layers_rescaled(windows):
    """P f(x) = f after permuting hidden neurons; weights a and 1/a around a ReLU cancel."""
    network = cumprop.random_mlp(10, 5, 3, dtype="float64")
    rng = np.random.default_rng(0)
    weights = [w.copy() for w in network.weights]
    for layer in range(5):
        order, scale = rng.permutation(10), rng.uniform(0.5, 2, size=(10, 1))
        if windows[0] is not None:  # the core weighs the neurons of a layer alike
            scale = np.ones((10, 1))
        weights[layer] = (weights[layer] * scale)[order]
        weights[layer + 1] = (weights[layer + 1] / scale.T)[:, order]
    kind = Cumulant(3, "tree", window=windows[0], response_window=windows[1])
    one, other = (kind.estimate(mlp).mean for mlp in (network, cumprop.MLP(weights)))
    assert np.allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("depth", [2, 5])
def test_wide_windows_are_the_full_variant(depth):
    network = cumprop.random_mlp(9, depth, 1, dtype="float64")
    full = Cumulant(3, "tree").estimate(network)
    windowed = Cumulant(3, "tree", window=depth - 1, response_window=depth).estimate(network)
    assert np.array_equal(full.mean, windowed.mean)
    assert full.flops.total == windowed.flops.total


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
    for z, x in itertools.islice(layers(network, births.Window()), 2):
        w, _ = wick_coefficients(network.activations[0], z.mean, z.variance)
        slices = {2: TracePart(z.C + np.diag(z.variance))}
        if z.births:
            (old,) = z.births
            slices[3] = TracePart(kappa3(old.legs))
            slices[4] = KnownKappa4(z.read.fourth, full_kappa4(old.quartic, old.legs, []))
        power = PowerCumulants(z.mean, slices, w, replace(SCHEME, kind="basic", order=4))
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
        exact = PowerCumulants(z.mean, slices, w, SCHEME)
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
    w, _ = wick_coefficients(cumprop.activations.get(activation), mean, variance)
    x = SlicesOfX(mean, known, w, SCHEME)
    z = {d: KnownSlices({u: s for u, s in known.items() if sum(u) == d}) for d in (2, 3, 4)}
    power = PowerCumulants(mean, z, w, SCHEME)
    for u, ours in [((1, 1), x.C), ((2, 1), x.k21), ((3, 1), x.k31), ((2, 2), x.k22)]:
        plain = slice_of_x(power, u)
        assert np.allclose(ours, plain, rtol=1e-9, atol=1e-9 * np.abs(plain).max())


class TestEdgeworth:
    def test_it_is_the_square_of_kappa3_in_single_neurons(self):
        """At depth 2 only E[φ(Z_2)] knows of it: Δ E[X_i] = κ_iii²/72 w(6,0→1)."""
        network = cumprop.random_mlp(6, 2, 0, dtype="float64")
        second = list(propagate(network, Scheme(4)))[1].z
        tree_second, _ = list(layers(network, births.Window()))[1]
        for parameters, mean, variance, k3 in [
            ({"order": 4}, second[1].core, second[2].slice((2,)), second[3].slice((3,))),
            ({"kind": "tree"}, tree_second.mean, tree_second.variance, tree_second.read.legs[3,]),
        ]:
            w, _ = wick_coefficients(network.activations[1], mean, variance)
            with_it, without = (
                Cumulant(edgeworth=edgeworth, **parameters).estimate(network).mean
                for edgeworth in (True, False)
            )
            expected = network.weights[2] @ (k3**2 / 72 * w(6, 1))
            assert np.abs(expected).max() > 1e-4
            assert np.allclose(with_it - without, expected, rtol=1e-8, atol=1e-14)

    def test_both_engines_of_order_four_have_it(self):
        network = cumprop.random_mlp(6, 4, 1, dtype="float64")
        one, other = (
            Cumulant(4, edgeworth=True, engine=engine).estimate(network, cov=True)
            for engine in ("dense", "structured")
        )
        assert np.allclose(one.mean, other.mean, rtol=1e-10)
        assert np.allclose(one.cov, other.cov, rtol=1e-9, atol=1e-12)


# products of n×n: (depth, window, response window, mixed) and TREE's count, which ours may undercut
COUNTS = [
    (2, None, None, True, 9),
    (4, None, None, True, 125),
    (4, None, None, False, 117),
    (8, None, None, True, 1159),
    (8, None, None, False, 879),
    (8, 3, None, True, 1076),
    (8, 3, None, False, 828),
    (16, None, None, True, 9131),
    (16, 3, None, False, 4076),
    (16, 3, 6, True, 5325),
    (16, 3, 6, False, 3445),
    (16, 2, 3, False, 2580),
]


@pytest.mark.parametrize(("depth", "window", "response", "mixed", "most"), COUNTS)
def test_products_are_no_more_than_known(depth, window, response, mixed, most):
    """The n³ coefficient of the FLOPs, an exact cubic in n (W Wᵀ is half a product)."""
    kind = Cumulant(3, "tree", window=window, response_window=response, mixed=mixed)
    widths = np.array([64, 128, 192, 256])
    flops = [
        kind.predict_cost(Shape((int(n),) * (depth + 2), ("relu",) * depth)).flops for n in widths
    ]
    products = np.polynomial.Polynomial.fit(widths, flops, 3).convert().coef[3] / 2
    assert most * 0.8 <= products <= most


@pytest.mark.parametrize(("depth", "windows"), [(8, {}), (9, {"window": 3, "response_window": 6})])
def test_the_automatic_window_depends_on_the_depth(depth, windows):
    network = cumprop.random_mlp(5, depth, 0, dtype="float64")
    automatic, chosen = (
        Cumulant(3, "tree", **parameters).estimate(network)
        for parameters in ({"window": "auto"}, windows)
    )
    assert np.array_equal(automatic.mean, chosen.mean)


def test_windows_and_terms_are_checked():
    for parameters, message in [
        ({"order": 4, "kind": "tree"}, "exists for order 3"),
        ({"kind": "tree", "engine": "dense"}, "engine dense has no order 3 tree"),
        ({"kind": "tree", "window": 0}, "choose 1 or more"),
        ({"kind": "tree", "response_window": 3}, "choose more than window"),
        ({"kind": "tree", "window": 3, "response_window": 3}, "choose more than window"),
        ({"window": 3}, "belong to kind tree"),
        ({"edgeworth": True}, "kind tree and to order 4"),
    ]:
        with pytest.raises(CumpropError, match=message):
            Cumulant(**parameters)


def test_trace_part_of_the_core_is_read_like_any_other():
    """Sym(B ⊗ M) in the next layer, from the same class that the dense engine uses."""
    network = cumprop.random_mlp(8, 4, 0, dtype="float64")
    window = births.Window(1)
    (_, _), (_, second), (z, _), _ = layers(network, window)
    weight = network.weights[2]
    part = TracePart(weight @ second.core @ weight.T, 1, AffineMap(weight, None).metric)
    assert np.allclose(z.read.core[4,], part.slice((4,)))
    assert np.abs(np.diag(second.core)).max() == 0
