"""Operators with windows: convolutions and pools, in any number of dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from cumprop.networks.importers.onnx.affine import Affine, Array, check_shape, combination, joined
from cumprop.networks.importers.onnx.linear import as_affine, together
from cumprop.networks.importers.onnx.neurons import Neurons
from cumprop.networks.importers.onnx.nodes import Node, Operators

LONGEST = 2**30
"""The most that a length, a stride or a padding may be, so that products fit into an int64."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Kernel, strides, dilations and padding of a node, each an array along the axes of space."""

    kernel: Array
    strides: Array
    dilations: Array
    begins: Array
    ends: Array

    @classmethod
    def of(cls, node: Node, kernel: tuple[int, ...], lengths: tuple[int, ...]) -> Windows:
        """The windows of a node on a space of that shape, automatic padding worked out."""
        d, size = len(lengths), np.array(lengths)
        defaults = {
            "kernel_shape": list(kernel), "strides": [1] * d, "dilations": [1] * d,
            "pads": [0] * 2 * d,
        }  # fmt: skip
        found = [np.array(node.numbers(name, default)) for name, default in defaults.items()]
        if (
            not d
            or [len(values) for values in found] != [d, d, d, 2 * d]
            or min(values.min() for values in found[:3]) < 1
            or found[3].min() < 0
            or max(values.max() for values in found) > LONGEST
        ):
            raise node.refused("has windows that do not fit its input; export the network anew")
        kernel_shape, strides, dilations, pads = found
        begins, ends = pads.reshape(2, d)
        auto = node.text("auto_pad", "NOTSET")
        if auto.startswith("SAME"):
            steps = -(-size // strides) - 1
            total = np.maximum(steps * strides + (kernel_shape - 1) * dilations + 1 - size, 0)
            begins, ends = _halves(total, auto)
        elif auto == "VALID":
            begins = ends = np.zeros(d, dtype=np.int64)
        return cls(kernel_shape, strides, dilations, begins, ends)

    @property
    def reach(self) -> Array:
        """The distance from the first to the last entry under the kernel."""
        reach: Array = (self.kernel - 1) * self.dilations
        return reach

    def along(self, axis: int, length: int, ceiling: bool = False) -> Array:
        """The positions (windows, kernel) that windows along an axis of that length cover."""
        begin, step = int(self.begins[axis]), int(self.strides[axis])
        room = length + begin + int(self.ends[axis]) - int(self.reach[axis]) - 1
        n = (-(-room // step) if ceiling else room // step) + 1
        if ceiling and (n - 1) * step >= length + begin:  # the last one starts behind the input
            n -= 1
        return self.starting(axis, max(n, 0), begin)

    def starting(self, axis: int, n: int, begin: int) -> Array:
        """The positions of n windows, the first of which starts `begin` before the input."""
        check_shape((n, int(self.kernel[axis])))
        starts = np.arange(n) * self.strides[axis] - begin
        covered: Array = starts[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis]
        return covered


def _halves(total: Array, auto: str) -> tuple[Array, Array]:
    """A padding or a cut in two parts, the larger one at the end for SAME_UPPER."""
    small, large = total // 2, total - total // 2
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def grid(positions: list[Array], lengths: tuple[int, ...]) -> Array:
    """Flat indices (windows, kernel entries) into a space of that shape, -1 outside of it."""
    n_windows, n_kernel = [len(p) for p in positions], [p.shape[1] for p in positions]
    check_shape((*n_windows, *n_kernel))
    d = len(lengths)
    flat, inside = np.zeros((1,) * 2 * d, dtype=np.intp), np.ones((1,) * 2 * d, dtype=bool)
    for axis, (position, length) in enumerate(zip(positions, lengths, strict=True)):
        shape = [1] * 2 * d
        shape[axis], shape[d + axis] = position.shape
        position = position.reshape(shape)
        flat = flat * length + position
        inside = inside & (position >= 0) & (position < length)
    return np.where(inside, flat, -1).reshape(prod(n_windows), prod(n_kernel))


def _convolution(node: Node, weights: Array, space: Array, shape: tuple[int, ...]) -> tuple[
    Array, Array
]:  # fmt: skip
    """Indices and weights of `Affine.combined`: (batch, groups, channels, windows, terms).

    `shape` is that of the input, (batch, channels, …), `weights` (out, in / groups, …).
    """
    batch, channels, size = shape[0], shape[1], prod(shape[2:])
    groups = int(node.number("group", 1))
    if groups < 1 or channels % groups or len(weights) % groups:
        raise node.refused(f"has {groups} groups, which do not divide its channels")
    inner = channels // groups
    if weights.shape[1] != inner or prod(weights.shape[2:]) != space.shape[1]:
        raise node.refused(f"has weights of shape {weights.shape} for {channels} channels")
    check_shape((batch, len(weights), len(space), inner * space.shape[1]))
    first = np.arange(batch * channels).reshape(batch, groups, 1, 1, inner, 1) * size
    space = space[:, None, :]
    where = np.where(space < 0, -1, first + space)
    where = where.reshape(batch, groups, 1, len(space), inner * space.shape[-1])
    return where, weights.reshape(1, groups, len(weights) // groups, 1, -1)


def _biased(node: Node, y: Affine) -> Affine:
    if not node.has(2):
        return y
    return y + node.constant(2).reshape(-1, *(1,) * (len(y.shape) - 2))


def conv(neurons: Neurons, node: Node) -> Affine:
    """Σ w x over windows, plus a bias for each channel."""
    x, weights = node.tensor(), node.constant(1)
    lengths = x.shape[2:]
    windows = Windows.of(node, weights.shape[2:], lengths)
    positions = [windows.along(axis, n) for axis, n in enumerate(lengths)]
    where, factors = _convolution(node, weights, grid(positions, lengths), x.shape)
    shape = (x.shape[0], len(weights), *map(len, positions))
    return _biased(node, x.combined(where, factors).reshape(shape))


def conv_transpose(neurons: Neurons, node: Node) -> Affine:
    """The transpose of the convolution that leads from the output's shape to the input's."""
    x, weights = node.tensor(), node.constant(1)
    lengths, d = x.shape[2:], len(x.shape) - 2
    windows = Windows.of(node, weights.shape[2:], lengths)
    target, begins = _space(node, windows, np.array(lengths))
    positions = [windows.starting(axis, lengths[axis], int(begins[axis])) for axis in range(d)]
    if len(weights) != x.shape[1]:
        raise node.refused(f"has weights of shape {weights.shape} for {x.shape[1]} channels")
    out = (x.shape[0], weights.shape[1] * int(node.number("group", 1)), *target)
    where, factors = _convolution(node, weights, grid(positions, target), out)
    matrix = combination(where, factors, prod(out)).T.tocsr()
    return _biased(node, x.mapped(matrix, out))


def _space(node: Node, windows: Windows, lengths: Array) -> tuple[tuple[int, ...], Array]:
    """The shape of a transposed convolution's space, and what is cut off before it."""
    nothing = [0] * len(lengths)
    extra = np.array(node.numbers("output_padding", nothing))
    wanted = np.array(node.numbers("output_shape", nothing)[-len(lengths) :])
    auto = node.text("auto_pad", "NOTSET")
    whole = windows.strides * (lengths - 1) + windows.reach + 1 + extra
    if wanted.any() or auto.startswith("SAME"):
        target = wanted if wanted.any() else windows.strides * lengths
        begins, _ = _halves(np.maximum(whole - target, 0), auto)
    else:
        begins, target = windows.begins, whole - windows.begins - windows.ends
    if target.min() < 1 or extra.min() < 0 or max(target.max(), extra.max()) > LONGEST:
        raise node.refused("gives no output; export the network anew")
    shape = tuple(target.tolist())
    check_shape(shape)
    return shape, begins


def average_pool(neurons: Neurons, node: Node) -> Affine:
    """The mean of every window, with or without the padding in it."""
    x = node.tensor()
    lengths = x.shape[2:]
    windows = Windows.of(node, (), lengths)
    positions = [
        windows.along(axis, n, bool(node.number("ceil_mode", 0))) for axis, n in enumerate(lengths)
    ]
    space = grid(positions, lengths)
    if node.number("count_include_pad", 0):
        padded = [p + begin for p, begin in zip(positions, windows.begins, strict=True)]
        around = zip(lengths, windows.begins, windows.ends, strict=True)
        counted = grid(padded, tuple(n + begin + end for n, begin, end in around)) >= 0
    else:
        counted = space >= 0
    batch = prod(x.shape[:2])
    check_shape((batch, *space.shape))
    first = np.arange(batch)[:, None, None] * prod(lengths)
    where = np.where(space < 0, -1, first + space)
    weights = 1 / np.maximum(counted.sum(axis=1), 1)[:, None] * np.ones_like(space)
    return x.combined(where, weights).reshape((*x.shape[:2], *map(len, positions)))


def max_pool(neurons: Neurons, node: Node) -> Affine:
    """Maxima along one axis of space after the other, so that windows share them."""
    if node.n_outputs > 1:
        raise node.refused("gives the places of its maxima, too; export it without them")
    x = node.tensor()
    windows = Windows.of(node, (), x.shape[2:])
    ceiling = bool(node.number("ceil_mode", 0))
    for axis, length in enumerate(x.shape[2:], start=2):
        positions = windows.along(axis - 2, length, ceiling)
        inside = (positions >= 0) & (positions < length)
        if not inside.any(axis=1).all():
            raise node.refused("has windows outside of its input; export the network anew")
        first = np.take_along_axis(positions, inside.argmax(axis=1)[:, None], axis=1)
        check_shape((*x.shape, positions.shape[1]))
        covered = np.take(x.entries, np.where(inside, positions, first), axis=axis)
        x = _largest(neurons, x.take(np.moveaxis(covered, axis + 1, -1)))
    return x


def global_max_pool(neurons: Neurons, node: Node) -> Affine:
    """The maxima over all axes of space."""
    x = node.tensor()
    return _reduced(neurons, x, tuple(range(2, len(x.shape))), True)


def reduce_max(neurons: Neurons, node: Node) -> Affine:
    """The maxima over some axes."""
    x = node.tensor()
    return _reduced(neurons, x, node.axes(len(x.shape)), bool(node.number("keepdims", 1)))


def reduce_min(neurons: Neurons, node: Node) -> Affine:
    """The minima over some axes: -max(-x)."""
    x = -node.tensor()
    return -_reduced(neurons, x, node.axes(len(x.shape)), bool(node.number("keepdims", 1)))


def maximum(neurons: Neurons, node: Node) -> Affine:
    """The maximum of all inputs, entry by entry."""
    return _largest(neurons, joined(_beside(node)))


def minimum(neurons: Neurons, node: Node) -> Affine:
    """The minimum of all inputs, entry by entry: -max(-a, -b)."""
    return -_largest(neurons, -joined(_beside(node)))


def _reduced(neurons: Neurons, x: Affine, axes: tuple[int, ...], keep: bool) -> Affine:
    where, shape = together(x, axes, keep)
    return _largest(neurons, x.take(where)).reshape(shape)


def _largest(neurons: Neurons, x: Affine) -> Affine:
    """The maxima over the last axis, two entries at a time: k entries take log2 k layers."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        parts = [x.take(x.entries[..., i * half : (i + 1) * half]) for i in range(2)]
        rest = x.take(x.entries[..., 2 * half :])
        x = joined([neurons.maximum(*parts), rest])
    return x.reshape(x.shape[:-1])


def _beside(node: Node) -> list[Affine]:
    """The inputs of a node, broadcast, with one more axis to stand beside each other."""
    tensors = [as_affine(node.value(i)) for i in range(len(node.inputs))]
    shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors))
    return [tensor.broadcast(shape).reshape((*shape, 1)) for tensor in tensors]


OPERATORS: Operators = {
    "Conv": conv, "ConvTranspose": conv_transpose, "AveragePool": average_pool,
    "MaxPool": max_pool, "GlobalMaxPool": global_max_pool, "ReduceMax": reduce_max,
    "ReduceMin": reduce_min, "Max": maximum, "Min": minimum,
}  # fmt: skip
