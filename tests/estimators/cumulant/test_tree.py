"""Order 3, kind tree: reference numbers, symmetries, windows, and what it costs."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers.plain_layers import layers as plain_layers
from helpers.trees import layers

import cumprop
from cumprop.errors import CumpropError
from cumprop.estimators.cumulant import Cumulant, births
from cumprop.estimators.cumulant.kinds import Scheme
from cumprop.estimators.cumulant.symmetric_tensors import Metric, TracePart
from cumprop.networks import Shape

GOLDENS = sorted((Path(__file__).parents[2] / "goldens").glob("tree_*.npz"))
WINDOWED = re.compile(r"(?P<what>mean|mu_\d|k3_\d|k4_\d)_w(?P<window>\d)_(?P<response>\d|inf)")


def load(path):
    with np.load(path, allow_pickle=False) as data:
        arrays = dict(data)
    n_maps = sum(re.fullmatch(r"W\d+", key) is not None for key in arrays)
    return cumprop.MLP([arrays[f"W{i}"] for i in range(n_maps)]), arrays


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
        for layer, (variance, _, z, _) in enumerate(layers(network, births.Window()), start=1):
            assert close(variance, golden[f"var_{layer}"], scale)
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
                z = list(layers(network, births.Window(*windows.values())))[int(layer) - 1].z
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
    rounding = 1e-12 * np.abs(full.mean).max()
    np.testing.assert_allclose(windowed.mean, full.mean, rtol=0, atol=rounding)
    assert full.flops.total == windowed.flops.total


class TestEdgeworth:
    def test_it_is_the_square_of_kappa3_in_single_neurons(self):
        """At depth 2 only E[φ(Z_2)] knows of it: Δ E[X_i] = κ_iii²/72 w(6,0→1)."""
        network = cumprop.random_mlp(6, 2, 0, dtype="float64")
        second = list(plain_layers(network, Scheme(4)))[1].z
        dense_w = network.activations[1].wick_table(second[1].core, second[2].slice((2,)))
        _, tree_w, tree_second, _ = list(layers(network, births.Window()))[1]
        for parameters, w, k3 in [
            ({"order": 4}, dense_w, second[3].slice((3,))),
            ({"kind": "tree"}, tree_w, tree_second.read.legs[3,]),
        ]:
            with_it, without = (
                Cumulant(edgeworth=edgeworth, **parameters).estimate(network).mean
                for edgeworth in (True, False)
            )
            expected = network.weights[2] @ (k3**2 / 72 * w(6, 1))
            assert np.abs(expected).max() > 1e-4
            assert np.allclose(with_it - without, expected, rtol=1e-8, atol=1e-14)

    def test_both_algorithms_of_order_four_have_it(self):
        network = cumprop.random_mlp(6, 4, 1, dtype="float64")
        one, other = (
            Cumulant(4, edgeworth=True, algorithm=algorithm).estimate(network, cov=True)
            for algorithm in ("dense", "structured")
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


@pytest.mark.slow
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
        ({"kind": "tree", "algorithm": "dense"}, "algorithm dense has no order 3 tree"),
        ({"kind": "tree", "window": 0}, "choose 1 or more"),
        ({"kind": "tree", "response_window": 3}, "choose more than window"),
        ({"kind": "tree", "window": 3, "response_window": 3}, "choose more than window"),
        ({"window": 3}, "belong to kind tree"),
        ({"edgeworth": True}, "kind tree and to order 4"),
    ]:
        with pytest.raises(CumpropError, match=message):
            Cumulant(**parameters)


def test_trace_part_of_the_core_is_read_like_any_other():
    """Sym(B ⊗ M) in the next layer, from the same class that the dense algorithm uses."""
    network = cumprop.random_mlp(8, 4, 0, dtype="float64")
    window = births.Window(1)
    _, (*_, second), (*_, z, _), _ = layers(network, window)
    weight = network.weights[2]
    part = TracePart(weight @ second.core @ weight.T, 1, Metric(weight))
    assert np.allclose(z.read.core[4,], part.slice((4,)))
    assert np.abs(np.diag(second.core)).max() == 0
