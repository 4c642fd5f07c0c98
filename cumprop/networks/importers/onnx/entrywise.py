"""Entrywise operators: each is an activation of cumprop, some with factors around it."""

from __future__ import annotations

import numpy as np

from cumprop.networks.importers.onnx.affine import Affine
from cumprop.networks.importers.onnx.neurons import UNBOUNDED, Neurons
from cumprop.networks.importers.onnx.nodes import Node, Operators

NAMES = {
    "Relu": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "Abs": "abs", "Sign": "sign",
    "Softplus": "softplus", "Softsign": "softsign", "Erf": "erf", "Sin": "sin", "Cos": "cos",
    "Exp": "exp", "Mish": "mish", "HardSwish": "hard_swish",
}  # fmt: skip
"""Operators without parameters, and the activations that they are."""

POWERS = {1: "identity", 2: "square", 3: "cube"}


def number(value: float) -> str:
    """The shortest decimal of a float32: 0.2, not 0.20000000298."""
    return str(np.float32(value)) if np.float32(value) == value else repr(float(value))


def plain(neurons: Neurons, node: Node) -> Affine:
    """An activation without parameters."""
    return neurons.apply(NAMES[node.op], node.tensor())


def leaky_relu(neurons: Neurons, node: Node) -> Affine:
    """max(x, 0) + α min(x, 0)."""
    return neurons.apply(f"leaky_relu({number(node.number('alpha', 0.01))})", node.tensor())


def prelu(neurons: Neurons, node: Node) -> Affine:
    """max(x, 0) + α min(x, 0), with slopes α that broadcast to the tensor."""
    x, slopes = node.tensor(), node.constant(1)
    values, which = np.unique(np.broadcast_to(slopes, x.shape), return_inverse=True)
    names = np.array([f"leaky_relu({number(slope)})" for slope in values], dtype=object)
    return neurons.apply(names[which.ravel()], x)


def elu(neurons: Neurons, node: Node) -> Affine:
    """x for x > 0, α (exp(x) - 1) below."""
    alpha = node.number("alpha", 1.0)
    return neurons.apply("elu" if alpha == 1 else f"elu({number(alpha)})", node.tensor())


def celu(neurons: Neurons, node: Node) -> Affine:
    """x for x > 0, α (exp(x/α) - 1) below."""
    alpha = node.number("alpha", 1.0)
    return neurons.apply("celu" if alpha == 1 else f"celu({number(alpha)})", node.tensor())


def selu(neurons: Neurons, node: Node) -> Affine:
    """selu(x) = γ elu_α(x); with the usual α and γ it has a name."""
    alpha, gamma = node.number("alpha", 1.6732632), node.number("gamma", 1.0507010)
    if np.allclose((alpha, gamma), (1.6732632, 1.0507010), rtol=1e-4):
        return neurons.apply("selu", node.tensor())
    return neurons.apply(f"elu({number(alpha)})", node.tensor()) * np.array(gamma)


def swish(neurons: Neurons, node: Node) -> Affine:
    """x sigmoid(αx) = silu(αx) / α."""
    alpha = np.array(node.number("alpha", 1.0))
    if not alpha:
        return node.tensor() * np.array(0.5)
    return neurons.apply("silu", node.tensor() * alpha) * (1 / alpha)


def gelu(neurons: Neurons, node: Node) -> Affine:
    """x Φ(x), or the form of it with a tanh."""
    form = {"none": "gelu", "tanh": "gelu_tanh"}.get(node.text("approximate", "none"))
    if form is None:
        raise node.refused("is a GELU of unknown form; give approximate='none' or 'tanh'")
    return neurons.apply(form, node.tensor())


def hard_sigmoid(neurons: Neurons, node: Node) -> Affine:
    """αx + β between 0 and 1."""
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    return neurons.apply(f"hard_sigmoid({number(alpha)}:{number(beta)})", node.tensor())


def thresholded_relu(neurons: Neurons, node: Node) -> Affine:
    """x where it is greater than α, else 0."""
    alpha = number(node.number("alpha", 1.0))
    return neurons.apply(f"thresholded_relu({alpha})", node.tensor())


def clip(neurons: Neurons, node: Node) -> Affine:
    """max(low, min(x, high)); a bound alone is a ReLU with sums around it."""
    x = node.tensor()
    bounds = node.constant(1, -UNBOUNDED), node.constant(2, UNBOUNDED)
    if any(bound.size != 1 or np.isnan(bound).any() for bound in bounds):
        raise node.refused("has bounds that are no numbers; give one number each")
    low, high = (float(bound.ravel()[0]) for bound in bounds)
    if low > high:
        raise node.refused(f"clips to at least {low} and at most {high}; exchange the bounds")
    if low == high:
        return x * np.array(0.0) + np.array(low)
    if low > -UNBOUNDED and high < UNBOUNDED:
        return neurons.apply(f"clip({number(low)}:{number(high)})", x)
    if low > -UNBOUNDED:
        return neurons.apply("relu", x - np.array(low)) + np.array(low)
    if high < UNBOUNDED:
        return -neurons.apply("relu", -x + np.array(high)) + np.array(high)
    return x


def power(neurons: Neurons, node: Node) -> Affine:
    """x to a whole power."""
    exponent = node.constant(1)
    n = float(exponent.ravel()[0]) if exponent.size == 1 else -1.0
    if n != int(n) or not 0 <= n <= 8:
        raise node.refused("is no power 0 to 8; other powers have no moments that can be computed")
    shape = np.broadcast_shapes(node.tensor().shape, exponent.shape)
    x = node.tensor().broadcast(shape)
    if n < 2:
        return x if n else x * np.array(0.0) + np.array(1.0)
    return neurons.apply(POWERS.get(int(n), f"power({int(n)})"), x)


OPERATORS: Operators = {
    **dict.fromkeys(NAMES, plain), "LeakyRelu": leaky_relu, "PRelu": prelu, "Elu": elu,
    "Celu": celu, "Selu": selu, "Swish": swish, "Gelu": gelu, "HardSigmoid": hard_sigmoid,
    "ThresholdedRelu": thresholded_relu, "Clip": clip, "Pow": power,
}  # fmt: skip
