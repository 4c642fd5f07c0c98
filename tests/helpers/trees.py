"""The layers of order 3, kind tree, in the network's own units, as its tests read them."""

from typing import Any, NamedTuple

import numpy as np

from cumprop.activations.wick import WickTable
from cumprop.estimators.cumulant import tree
from cumprop.estimators.cumulant.kinds import Scheme
from cumprop.estimators.cumulant.standardised import AffineMap, Standardised, input_of
from cumprop.flops import counted

SCHEME = Scheme(3, "tree", edgeworth=True)


class Layer(NamedTuple):
    """Z_l with its variances and Wick coefficients, X_{l-1} and X_l."""

    variance: Any
    w: WickTable
    before: tree.Tracked
    z: tree.PreActivation
    x: tree.Tracked


def as_it_is(affine, x, wanted="all"):
    """Z = W X + b in its own units, and its variances."""
    covariance = affine.covariance(affine.half(x.C))
    variance = covariance.diagonal().copy()
    mean = affine.mean(x.mean)
    known = covariance if wanted == "all" else None
    return Standardised(affine, mean, np.ones_like(mean), known), variance


def layers(network, rank_one=tree.RANK_ONE):
    """Z_l and X_l, l = 1..L, all slices of pairs included; the last layer is one of the others."""
    x = tree.Tracked(*input_of(network))
    for weight, bias, phi in zip(
        network.weights, network.biases, network.activations, strict=False
    ):
        standard, variance = as_it_is(AffineMap(counted(weight), bias), x)
        z = tree.linear(x, standard, "all")
        w = phi.wick_table(standard.mean, variance)
        before, x = x, tree.nonlinear(x, standard, z, w, "all", SCHEME, rank_one)
        yield Layer(variance, w, before, z, x)
