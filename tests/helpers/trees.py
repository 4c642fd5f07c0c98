"""The layers of order 3, kind tree, in the network's own units, as its tests read them."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from cumprop.estimators.cumulant import tree
from cumprop.estimators.cumulant.kinds import Scheme
from cumprop.estimators.cumulant.standardised import AffineMap, Standardised, input_of
from cumprop.estimators.cumulant.tree import sweeps
from cumprop.flops import counted

SCHEME = Scheme(3, "tree", edgeworth=True, edges="leading")


class Layer(NamedTuple):
    """Z_l: its variances, Wick coefficients, slices and sources with their sweeps; and X_l."""

    variance: Any
    w: tree.InUnits
    slices: Any
    sources: Any
    x: tree.Tracked


def as_it_is(affine, x, wanted="all"):
    """Z = W X + b in its own units, and its variances."""
    covariance = affine.covariance(affine.half(x.C))
    variance = covariance.diagonal().copy()
    mean = affine.mean(x.mean)
    known = covariance if wanted == "all" else None
    return Standardised(affine, mean, np.ones_like(mean), known), variance


def layers(network, rank_one=tree.RANK_ONE, edges="leading"):
    """Z_l and X_l, l = 1..L, all slices of pairs included; the last layer is one of the others."""
    x, scheme = tree.Tracked(*input_of(network)), replace(SCHEME, edges=edges)
    for weight, bias, phi in zip(
        network.weights, network.biases, network.activations, strict=False
    ):
        standard, variance = as_it_is(AffineMap(counted(weight), bias), x)
        weight = None if x.units is None else standard.weight * x.units
        slices, sources = tree.linear(x, standard, weight, "all")
        w = tree.InUnits.of(standard, phi.wick_table(standard.mean, variance))
        older = tree.activated(sources, w, rank_one)
        x = tree.nonlinear(x, standard, weight, w, "all", slices, older, scheme)
        yield Layer(variance, w, slices, sources, x)


def exact_edges(monkeypatch):
    """Let edges inside κ_4 have all of Cov X_m, not w1 C° w1 beside independent noise (exactC)."""
    covariances = {}

    def remembering(x, z, weight, w, wanted, slices, *others, nonlinear=tree.nonlinear):
        new = nonlinear(x, z, weight, w, wanted, slices, *others)
        w1, C = w(1, 1), slices[1, 1]
        # C has no diagonal, Cov X_m has that of v
        covariances[id(new.sources[-1].own)] = new.C - w1[:, None] * C * w1
        return new

    monkeypatch.setattr(tree, "nonlinear", remembering)
    monkeypatch.setattr(sweeps, "by_fresh_noise", lambda A, own: A @ covariances[id(own)])
