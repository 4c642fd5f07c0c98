"""Order 3, kind tree: reference numbers, symmetries, and what it costs."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers.plain_layers import layers as plain_layers
from helpers.trees import exact_edges, layers

import cumprop
from cumprop.errors import CumpropError
from cumprop.estimators.cumulant import Cumulant
from cumprop.estimators.cumulant.kinds import EDGES, Scheme
from cumprop.estimators.cumulant.tree import edges_of
from cumprop.flops import plain
from cumprop.networks import Shape

GOLDENS = sorted((Path(__file__).parents[2] / "goldens").glob("sweep_*.npz"))
VARIANTS = {"matrix": frozenset(), "rank1": frozenset("VS")}
SLICES = {"s3": (3,), "s4": (4,), "S21": (2, 1), "S22": (2, 2), "S31": (3, 1)}


def load(path):
    with np.load(path, allow_pickle=False) as data:
        arrays = dict(data)
    maps = range(sum(re.fullmatch(r"W\d+", key) is not None for key in arrays))
    network = cumprop.MLP(
        [arrays[f"W{i}"] for i in maps],
        [arrays[f"b{i}"] for i in maps] if "b0" in arrays else None,
        input_mean=arrays.get("mu0"),
        input_cov=arrays.get("S0"),
    )
    return network, arrays


def close(ours, golden, scale):
    """To 1e-9 of the output's scale, as everywhere."""
    return np.abs(plain(ours) - golden).max() <= 1e-9 * max(scale, np.abs(golden).max())


def output(network, x):
    bias = network.biases[-1]
    return network.weights[-1] @ plain(x.mean) + (0 if bias is None else bias)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_goldens(path, variant):
    """In the units of the network, as the reference has them: profiles weigh neurons by these."""
    network, golden = load(path)
    scale, compared = np.sqrt(golden[f"var_1_{variant}"].mean()), set()
    for number, layer in enumerate(layers(network, VARIANTS[variant]), start=1):
        known = {"mu": layer.x.mean, "var": layer.variance}
        zero = np.zeros(len(layer.variance))
        known |= {name: layer.slices.get(u, zero) for name, u in SLICES.items()}
        for name, ours in known.items():
            key = f"{name}_{number}_{variant}"
            if key in golden:
                compared.add(name)
                assert close(ours, golden[key], scale), key
    assert compared == {"mu", "var", *SLICES}
    assert close(output(network, layer.x), golden[f"mean_{variant}"], scale)


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_exact_covariances_in_the_edges_of_fourth_cumulants(path, monkeypatch):
    """What the sweeps leave out of edges inside κ_4, put back: their reference `exactC`."""
    network, golden = load(path)
    exact_edges(monkeypatch)
    *_, last = layers(network, VARIANTS["matrix"])
    scale = np.sqrt(golden["var_1_matrix"].mean())
    assert close(output(network, last.x), golden["mean_exactC"], scale)
    assert not close(golden["mean_exactC"], golden["mean_matrix"], scale)


@pytest.mark.parametrize("edges", EDGES)
def test_neurons_may_be_permuted_and_relu_layers_rescaled(edges):
    """P f(x) = f after permuting hidden neurons; weights a and 1/a around a ReLU cancel."""
    network = cumprop.random_mlp(10, 5, 3, dtype="float64")
    rng = np.random.default_rng(0)
    weights = [w.copy() for w in network.weights]
    for layer in range(5):
        order, scale = rng.permutation(10), rng.uniform(0.5, 2, size=(10, 1))
        weights[layer] = (weights[layer] * scale)[order]
        weights[layer + 1] = (weights[layer + 1] / scale.T)[:, order]
    tree = Cumulant(3, "tree", edges=edges)
    one, other = (tree.estimate(mlp).mean for mlp in (network, cumprop.MLP(weights)))
    assert np.allclose(one, other, rtol=1e-10, atol=1e-12)


def test_a_gaussian_input_is_another_first_map():
    """x = S g + μ: the same network with W_1 S and b_1 + W_1 μ under N(0, I)."""
    network = cumprop.random_mlp(8, 4, 1, dtype="float64")
    rng = np.random.default_rng(2)
    root, mean = rng.normal(size=(8, 8)), rng.normal(size=8)
    first, *others = network.weights
    given = cumprop.MLP(network.weights, input_mean=mean, input_cov=root @ root.T)
    biases = [first @ mean, *(np.zeros(len(w)) for w in others)]
    absorbed = cumprop.MLP([first @ root, *others], biases)
    one, other = (Cumulant(3, "tree").estimate(mlp, cov=True) for mlp in (given, absorbed))
    assert np.allclose(one.mean, other.mean, rtol=1e-10)
    assert np.allclose(one.cov, other.cov, rtol=1e-9, atol=1e-12)


def test_edges_are_full_where_all_layers_are_wide():
    assert edges_of([512] * 8) == edges_of([2048, 1024]) == "full"
    assert {edges_of(hidden) for hidden in ([], [256] * 4, [512] * 9, [2048, 511])} == {"leading"}
    network = cumprop.random_mlp(6, 4, 0, dtype="float64")
    means = {e: Cumulant(3, "tree", edges=e).estimate(network).mean for e in (None, *EDGES)}
    assert (means[None] == means["leading"]).all()
    assert np.abs(means["full"] - means["leading"]).max() > 1e-6


class TestEdgeworth:
    def test_it_is_the_square_of_kappa3_in_single_neurons(self):
        """At depth 2 only E[φ(Z_2)] knows of it: Δ E[X_i] = κ_iii²/72 w(6,0→1)."""
        network = cumprop.random_mlp(6, 2, 0, dtype="float64")
        second = list(plain_layers(network, Scheme(4)))[1].z
        dense_w = network.activations[1].wick_table(second[1].core, second[2].slice((2,)))
        tree_second = list(layers(network))[1]
        for parameters, w, k3 in [
            ({"order": 4}, dense_w, second[3].slice((3,))),
            ({"kind": "tree"}, tree_second.w, tree_second.slices[3,]),
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


def products(depth, edges):
    """The n³ coefficient of the FLOPs, an exact cubic in n (W_1 W_1ᵀ is half a product)."""
    widths = np.array([320, 384, 448, 512])
    shapes = (Shape((int(n),) * (depth + 2), ("relu",) * depth) for n in widths)
    flops = [Cumulant(3, "tree", edges=edges).predict_cost(shape).flops for shape in shapes]
    return np.polynomial.Polynomial.fit(widths, flops, 3).convert().coef[3] / 2


@pytest.mark.slow
@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize(("depth", "known"), [(2, 6), (4, 59), (8, 321), (16, 1469)])
def test_products_are_those_of_the_sweeps(depth, known, edges):
    """A layer with M sources takes 11 M + 4, the last one 4 M + 1; V is a matrix, which takes two
    more for every source read a second time, one in the last layer: a square in the depth."""
    sources, last = np.arange(1, depth - 1), depth - 1
    by_hand = 1 + (11 * sources + 4 + 2 * (sources - 1)).sum() + (4 * last + 1) + (last - 1)
    assert by_hand == known
    assert products(depth, edges) == pytest.approx(by_hand - 0.5, rel=1e-7)


def test_what_trees_are_for_is_checked():
    for parameters, message in [
        ({"order": 4, "kind": "tree"}, "exists for order 3"),
        ({"kind": "tree", "metric": "average"}, "metric exact"),
        ({"kind": "tree", "algorithm": "dense"}, "algorithm dense has no order 3 tree"),
        ({"edgeworth": True}, "kind tree and to order 4"),
        ({"edges": "full"}, "belong to kind tree"),
        ({"kind": "tree", "edges": "all"}, "choose one of leading, full"),
    ]:
        with pytest.raises(CumpropError, match=message):
            Cumulant(**parameters)
