"""Products and quotients of two tensors that are activations: x·sigmoid(x), GELU, x·x, …"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np

from cumprop.networks.importers.onnx.affine import Affine, Array, replaced, widened
from cumprop.networks.importers.onnx.neurons import INPUT, SUM, Neurons

TIMES_ITSELF = {"sigmoid": "silu", "square": "cube", "cube": "power(4)"}
"""The activations ψ(z) = z φ(z), by φ."""

ROUNDING = 1e-5
"""Relative difference of tensors that are taken to be equal."""

CONSTANTS = 2e-3
"""Relative difference of √(2/π) and 0.044715 from those in a file, which may be float16."""


@dataclass(frozen=True, eq=False)
class Single:
    """A tensor `scale` · φ(`argument`) + `shift`, with one neuron in each entry."""

    scale: Array
    shift: Array
    name: str
    argument: Affine


def single(neurons: Neurons, b: Affine) -> Single | None:
    """The tensor as single neurons of one activation, or None where it is none."""
    if (np.diff(b.matrix.indptr) != 1).any() or not b.constant.size:
        return None
    variables, which = np.unique(b.matrix.indices, return_inverse=True)
    names = set(neurons.names[variables])
    if len(names) != 1 or names & {INPUT, SUM}:
        return None
    argument = neurons.definitions(variables).take(which.reshape(b.shape))
    return Single(
        b.matrix.data.reshape(b.shape), b.constant.reshape(b.shape), names.pop(), argument
    )


def multiple(a: Affine, z: Affine) -> tuple[Array, Array] | None:
    """The α and γ with a = α z + γ, entry by entry, or None where there are none."""
    if a.shape != z.shape:
        return None
    n = max(a.matrix.shape[1], z.matrix.shape[1])
    left, right = widened(a.matrix, n), widened(z.matrix, n)
    squares = np.asarray(right.multiply(right).sum(axis=1)).ravel()
    if not squares.all():
        return None
    alpha = np.asarray(left.multiply(right).sum(axis=1)).ravel() / squares
    rest = a - z * alpha.reshape(z.shape)
    error = np.sqrt(np.asarray(rest.matrix.multiply(rest.matrix).sum(axis=1)).ravel())
    if (error > ROUNDING * np.abs(alpha) * np.sqrt(squares)).any():
        return None
    size = np.abs(a.constant) + np.abs(alpha * z.constant)
    gamma = np.where(np.abs(rest.constant) <= ROUNDING * size, 0.0, rest.constant)
    return alpha.reshape(a.shape), gamma.reshape(a.shape)


def product(neurons: Neurons, a: Affine, b: Affine) -> Affine | None:
    """a · b as activations, or None where it is no known one."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    a, b = a.broadcast(shape), b.broadcast(shape)
    both = a.varying & b.varying
    if not both.all():  # the border that a Pad has put around a tensor, for one
        inner = product(neurons, a.take(np.flatnonzero(both)), b.take(np.flatnonzero(both)))
        if inner is None:
            return None
        linear = a * np.where(a.varying, b.constant, 0).reshape(shape)
        linear += b * np.where(a.varying, 0, a.constant).reshape(shape)
        return linear * (~both).astype(float).reshape(shape) + inner.spread(both, shape)
    for x, y in ((a, b), (b, a)):
        gate = single(neurons, y)
        found = None if gate is None else _gated(neurons, x, gate)
        if found is not None:
            return found
    factors = multiple(a, b)
    if factors is None:
        return None
    alpha, gamma = factors  # (α b + γ) b
    return neurons.apply("square", b) * alpha + b * gamma


def _gated(neurons: Neurons, a: Affine, gate: Single) -> Affine | None:
    """a · (s φ(z) + t) where a = α z + γ."""
    s, t, z = gate.scale, gate.shift, gate.argument
    if gate.name == "tanh":
        return _mish(neurons, a, gate) or _gelu_tanh(neurons, a, gate)
    factors = multiple(a, z)
    if factors is None:
        return None
    alpha, gamma = factors
    if gate.name in TIMES_ITSELF:
        found = neurons.apply(TIMES_ITSELF[gate.name], z) * (alpha * s) + a * t
        if gamma.any():
            found = found + neurons.apply(gate.name, z) * (gamma * s)
        return found
    if gate.name == "erf" and not gamma.any() and _close(s, t):
        return neurons.apply("gelu", z * np.array(sqrt(2))) * (alpha * s * sqrt(2))
    if gate.name.startswith(("relu6", "hard_sigmoid(")) and not t.any():
        return _hard_swish(neurons, gate, alpha, gamma)
    return None


def _hard_swish(neurons: Neurons, gate: Single, alpha: Array, gamma: Array) -> Affine | None:
    """x relu6(x + 3) / 6, or x times a hard sigmoid of slope 1/6 at 1/2."""
    z, s = gate.argument, gate.scale
    if gate.name.startswith("hard_sigmoid("):
        slope, middle = map(float, gate.name[13:-1].split(":"))
        if gamma.any() or not _close(slope, 1 / 6) or not _close(middle, 0.5):
            return None
        return neurons.apply("hard_swish", z) * (alpha * s)
    if not _close(gamma, -3 * alpha):
        return None
    return neurons.apply("hard_swish", z - np.array(3.0)) * (6 * alpha * s)


def _mish(neurons: Neurons, a: Affine, gate: Single) -> Affine | None:
    """x tanh(softplus(x))."""
    inner = single(neurons, gate.argument)
    if inner is None or inner.name != "softplus":
        return None
    if gate.shift.any() or inner.shift.any() or not _close(inner.scale, 1.0):
        return None
    factors = multiple(a, inner.argument)
    if factors is None or factors[1].any():
        return None
    return neurons.apply("mish", inner.argument) * (factors[0] * gate.scale)


def _gelu_tanh(neurons: Neurons, a: Affine, gate: Single) -> Affine | None:
    """x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2."""
    if not _close(gate.scale, gate.shift):
        return None
    argument = gate.argument
    cubes = neurons.names[argument.matrix.indices] == "cube"
    nothing = np.zeros(len(argument.constant))
    part = replaced(argument.matrix, argument.matrix.data * cubes)
    cubed = Affine(argument.shape, part, nothing)
    cube = single(neurons, cubed)
    if cube is None:
        return None
    x = cube.argument
    line, factors = multiple(argument - cubed, x), multiple(a, x)
    if line is None or factors is None or line[1].any() or factors[1].any():
        return None
    # x = δ y, where y is the argument of GELU: line = √(2/π)/δ, cube.scale = √(2/π) 0.044715/δ³
    delta = sqrt(2 / pi) / line[0]
    if not _close(cube.scale * delta**3, sqrt(2 / pi) * 0.044715):
        return None
    y = x * (1 / delta)
    return neurons.apply("gelu_tanh", y) * (2 * factors[0] * delta * gate.scale)


def quotient(neurons: Neurons, a: Affine, b: Affine) -> Affine | None:
    """a / b as activations: x / (1 + |x|) is softsign; None where it is no known one."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    a, b = a.broadcast(shape), b.broadcast(shape)
    below = single(neurons, b)
    if below is None or below.name != "abs" or not (below.scale * below.shift > 0).all():
        return None
    ratio = below.scale / below.shift
    factors = multiple(a, below.argument)
    if factors is None or factors[1].any():
        return None
    found = neurons.apply("softsign", below.argument * ratio)
    return found * (factors[0] / below.scale)


def _close(a: Array | float, b: Array | float) -> bool:
    return bool(np.allclose(a, b, rtol=CONSTANTS, atol=0.0))
