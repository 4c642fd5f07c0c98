"""What separates trees from order 4: the loops, put back here at n⁴ (docs/tree.md)."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.trees import as_it_is

import cumprop
from cumprop.estimators.cumulant import order4, tree
from cumprop.estimators.cumulant.births import Window, total
from cumprop.estimators.cumulant.kinds import Scheme
from cumprop.estimators.cumulant.legs import Legs
from cumprop.estimators.cumulant.standardised import AffineMap, input_of
from cumprop.estimators.cumulant.symmetric_tensors import (
    diagonal,
    off_diagonal,
    transform_legs,
    zero_coincidences,
)
from cumprop.flops import counted, plain

pytestmark = pytest.mark.verify

TREE = Scheme(3, "tree", edgeworth=True)
SEEDS = range(3)


class FourWithPairs(Scheme):
    """Order 4 with the same terms of κ_3² that trees have."""

    def diagrams(self, powers):
        return TREE.diagrams(powers)


def bare(legs):
    return type(legs)(*map(plain, legs))


def kappa3(now, then, i):
    """κ_3(i, j, r) as a matrix (j, r): i and j with the legs `now`, r with `then`."""
    at_i = Legs(*(leg[i] for leg in now))
    return now.hessian(at_i).dot(then)


def loops_of(birth, reading, births, i):
    """κ_iijk of a birth as a matrix (j, k), without its trees: i meets j, and i meets k."""
    P, U = plain(birth.legs.P), plain(birth.legs.U)
    form = type(reading.quartic)(*map(plain, vars(reading.quartic).values()))
    q = (P[i] * U + U[i] * P) * form.w2 + (P[i] * P) * form.tau
    loops = q @ form.O @ q.T + (P[i] * P) @ form.d22 @ (P[i] * P).T
    for source, older in zip(births, birth.older, strict=False):
        mixed = q @ kappa3(bare(source.legs), bare(older), i).T
        loops += mixed + mixed.T
    return 2 * loops


def add_to_all(tensor, i, matrix):
    tensor[i] += matrix
    tensor[:, i] += matrix
    tensor[:, :, i] += matrix


def loops(z, w):
    """The loops of one activation: what they add to κ_3(X), and κ_iijj of Z.

    Of κ_3: the response ½ w2_i κ_iijk, double edges C_ij κ_ijk, and triangles C_ij C_jk C_ki.
    """
    w1, w2, C = plain(w(1, 1)), plain(w(2, 1)), plain(z.C)
    n = len(w1)
    k22, response, distinct = np.zeros((n, n)), np.zeros((n, n, n)), np.zeros((n, n, n))
    heavy = C * w2[:, None] * w2
    for i in range(n):
        edge = heavy[i][:, None] * w1
        edge = edge + edge.T + w1[i] * heavy
        distinct[i] = w2[i] * np.outer(C[i] * w2, C[i] * w2) * C
        for birth, reading in zip(z.births, z.readings, strict=True):
            distinct[i] += edge * kappa3(bare(birth.legs), bare(birth.legs), i)
            found = loops_of(birth, reading, z.births, i)
            k22[i] += np.diag(found)
            add_to_all(response, i, 0.5 * w2[i] * w1[:, None] * w1 * found)
    return response + zero_coincidences(distinct), zero_coincidences(k22)


def with_loops(network):
    """E[Y] by trees, with loops carried in a dense κ_3 beside the legs; the last layer has none."""
    x, window = tree.Tracked(*input_of(network)), Window()
    extra = np.zeros((network.widths[0],) * 3)
    for layer, phi in enumerate(network.activations):
        weight, wanted = network.weights[layer], "all" if layer + 1 < network.depth else "mean"
        standard, variance = as_it_is(AffineMap(counted(weight), None), x, wanted)
        z = tree.linear(x, standard, window, wanted)
        w = phi.wick_table(standard.mean, variance)
        extra = transform_legs(extra, weight)
        found = {(3,): diagonal(extra, (3,)), (2, 1): off_diagonal(diagonal(extra, (2, 1)))}
        read, born = replace(z.read, response=total([z.read.response, found])), 0
        if wanted == "all":
            born, k22 = loops(z, w)
            if z.births:
                read = replace(read, fourth=total([read.fourth, {(2, 2): k22}]))
        x = tree.nonlinear(replace(z, read=read), w, TREE, window, wanted)
        w1 = plain(w(1, 1))
        extra = extra * w1[:, None, None] * w1[:, None] * w1 + born
    return network.weights[-1] @ plain(x.mean)


def test_loops_are_what_order_four_has_beyond_trees(record):
    left, apart = [], []
    for seed in SEEDS:
        network = cumprop.random_mlp(96, 4, seed, dtype="float64")
        trees = cumprop.estimate(network, "cumulant", order=3, kind="tree").mean
        four = order4.run(network, FourWithPairs(4), "exact", False).mean
        left.append(np.sum((four - with_loops(network)) ** 2))
        apart.append(np.sum((four - trees) ** 2))
    ratio = np.sum(left) / np.sum(apart)
    record("(order 4 − trees with all their loops)² over (order 4 − trees)², n=96, L=4, 3 networks",
           f"{ratio:.2f}", "≤ 0.3", ratio <= 0.3)  # fmt: skip
