"""The layers of order 3, kind tree, as its tests read them."""

from cumprop.estimators.cumulant import tree
from cumprop.estimators.cumulant.engine import AffineMap, wick_coefficients
from cumprop.estimators.cumulant.kinds import Scheme
from cumprop.flops import counted

SCHEME = Scheme(3, "tree", edgeworth=True)


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
