"""Linear operators: sums and products with constants, matrices, means, batch normalisation."""

from __future__ import annotations

from functools import reduce
from math import prod

import numpy as np

from cumprop.networks.importers.onnx import patterns
from cumprop.networks.importers.onnx.affine import Affine, Array, check_shape, constant
from cumprop.networks.importers.onnx.neurons import Neurons
from cumprop.networks.importers.onnx.nodes import Node, Operators, Value


def as_affine(value: Value) -> Affine:
    """A value as a tensor, though it depends on no variable."""
    return value if isinstance(value, Affine) else constant(value)


def add(neurons: Neurons, node: Node) -> Affine:
    """The sum of all inputs."""
    terms = [as_affine(node.value(i)) for i in range(len(node.inputs))]
    return reduce(Affine.__add__, terms)


def mean(neurons: Neurons, node: Node) -> Affine:
    """The mean of all inputs, entry by entry."""
    return add(neurons, node) * np.array(1 / len(node.inputs))


def subtract(neurons: Neurons, node: Node) -> Affine:
    """a - b."""
    return as_affine(node.value(0)) - as_affine(node.value(1))


def negate(neurons: Neurons, node: Node) -> Affine:
    """-a."""
    return -node.tensor()


def multiply(neurons: Neurons, node: Node) -> Affine:
    """a · b, of which one is constant or both are an activation together."""
    a, b = node.value(0), node.value(1)
    if not isinstance(a, Affine):
        a, b = b, a
    assert isinstance(a, Affine)
    if not isinstance(b, Affine):
        return a * b
    found = patterns.product(neurons, a, b)
    if found is None:
        raise node.refused(
            "multiplies two tensors that depend on the input, and is no x·x, x·sigmoid(x), "
            "x·tanh(softplus(x)), GELU or hard swish; such gates and attention cannot be read"
        )
    return found


def divide(neurons: Neurons, node: Node) -> Affine:
    """a / b, where b is constant or both are an activation together."""
    a, b = node.value(0), node.value(1)
    if not isinstance(b, Affine):
        return as_affine(a) * (1 / np.asarray(b, dtype=float))
    found = patterns.quotient(neurons, as_affine(a), b)
    if found is None:
        raise node.refused(
            "divides by a tensor that depends on the input, which is no linear layer; export "
            "logits, without normalisation by what is computed"
        )
    return found


def matmul(neurons: Neurons, node: Node) -> Affine:
    """A B, of which one is constant."""
    return _matrix_product(node, node.value(0), node.value(1))


def gemm(neurons: Neurons, node: Node) -> Affine:
    """α A B + β C, each matrix transposed on demand."""
    a = _transposed(node.value(0)) if node.number("transA", 0) else node.value(0)
    b = _transposed(node.value(1)) if node.number("transB", 0) else node.value(1)
    alpha = np.array(node.number("alpha", 1.0))
    if isinstance(a, Affine) or isinstance(b, Affine):
        found = _matrix_product(node, a, b) * alpha
    else:
        found = constant(alpha * (np.asarray(a, dtype=float) @ b))
    if not node.has(2):
        return found
    return found + as_affine(node.value(2)) * np.array(node.number("beta", 1.0))


def batch_normalization(neurons: Neurons, node: Node) -> Affine:
    """(x - mean) / √(variance + ε) · scale + shift, channel by channel."""
    if node.number("training_mode", 0) or not node.number("spatial", 1):
        raise node.refused("normalises by batches or by entries; export in evaluation mode")
    x = node.tensor()
    if len(x.shape) < 2:
        raise node.refused("gets a tensor without channels; export the network anew")
    channels = (-1,) + (1,) * (len(x.shape) - 2)
    scale, shift, center, variance = (
        np.asarray(node.constant(i), dtype=float).reshape(channels) for i in range(1, 5)
    )
    factor = scale / np.sqrt(variance + node.number("epsilon", 1e-5))
    return x * factor + (shift - center * factor)


def reduce_sum(neurons: Neurons, node: Node) -> Affine:
    """The sums over some axes."""
    return _reduced(node, node.tensor(), node.axes(len(node.tensor().shape)), False)


def reduce_mean(neurons: Neurons, node: Node) -> Affine:
    """The means over some axes."""
    return _reduced(node, node.tensor(), node.axes(len(node.tensor().shape)), True)


def global_average_pool(neurons: Neurons, node: Node) -> Affine:
    """The means over all axes of space."""
    x = node.tensor()
    pooled, shape = together(x, tuple(range(2, len(x.shape))), True)
    return _averaged(x, pooled).reshape(shape)


def together(x: Affine, axes: tuple[int, ...], keep: bool) -> tuple[Array, tuple[int, ...]]:
    """Indices of the entries that a reduction over `axes` takes together; the reduced shape."""
    others = [axis for axis in range(len(x.shape)) if axis not in axes]
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
    shape = kept if keep else tuple(x.shape[axis] for axis in others)
    count = prod(x.shape[axis] for axis in axes)
    return x.entries.transpose([*others, *axes]).reshape(prod(shape), count), shape


def _averaged(x: Affine, where: Array) -> Affine:
    return x.combined(where, np.full((1, where.shape[-1]), 1 / max(where.shape[-1], 1)))


def _reduced(node: Node, x: Affine, axes: tuple[int, ...], average: bool) -> Affine:
    where, shape = together(x, axes, bool(node.number("keepdims", 1)))
    summed = _averaged(x, where) if average else x.combined(where, np.ones((1, where.shape[-1])))
    return summed.reshape(shape)


def _transposed(value: Value) -> Value:
    return value.take(value.entries.T) if isinstance(value, Affine) else value.T


def _matrix_product(node: Node, a: Value, b: Value) -> Affine:
    """The product of a tensor and a constant, on either side, stacks of matrices included."""
    if isinstance(a, Affine) and isinstance(b, Affine):
        raise node.refused(
            "multiplies two tensors that depend on the input; attention cannot be read"
        )
    vector = len(a.shape) == 1, len(b.shape) == 1
    a_shape = (1, *a.shape) if vector[0] else a.shape
    b_shape = (*b.shape, 1) if vector[1] else b.shape
    stack = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
    check_shape((*stack, a_shape[-2], b_shape[-1], a_shape[-1]))
    entries = [value.entries if isinstance(value, Affine) else value for value in (a, b)]
    left = entries[0].reshape(a_shape)[..., :, None, :]
    right = np.swapaxes(entries[1].reshape(b_shape), -1, -2)[..., None, :, :]
    found = a.combined(left, right) if isinstance(a, Affine) else as_affine(b).combined(right, left)
    shape = list(found.shape)
    if vector[1]:
        del shape[-1]
    if vector[0]:
        del shape[-1 if vector[1] else -2]
    return found.reshape(tuple(shape))


OPERATORS: Operators = {
    "Add": add, "Sum": add, "Mean": mean, "Sub": subtract, "Neg": negate, "Mul": multiply,
    "Div": divide, "MatMul": matmul, "Gemm": gemm, "BatchNormalization": batch_normalization,
    "ReduceSum": reduce_sum, "ReduceMean": reduce_mean, "GlobalAveragePool": global_average_pool,
}  # fmt: skip
