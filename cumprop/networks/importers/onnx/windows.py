"""Operators with windows: convolutions and pools, in any number of dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import prod

import numpy as np

from cumprop.networks.importers.onnx.affine import Affine, Array, check_shape, combination
from cumprop.networks.importers.onnx.linear import as_affine, together
from cumprop.networks.importers.onnx.neurons import Neurons
from cumprop.networks.importers.onnx.nodes import Node, Operators


@dataclass(frozen=True)
class Windows:
    """Kernel, strides, dilations and padding along the axes of space of a node."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begins: list[int]
    ends: list[int]

    @classmethod
    def of(cls, node: Node, kernel: list[int], lengths: tuple[int, ...]) -> Windows:
        """The windows of a node on a space of that shape, automatic padding worked out."""
        d = len(lengths)
        kernel = node.numbers("kernel_shape", kernel)
        strides, dilations = node.numbers("strides", [1] * d), node.numbers("dilations", [1] * d)
        pads, auto = node.numbers("pads", [0] * 2 * d), node.text("auto_pad", "NOTSET")
        lists = (kernel, strides, dilations)
        if not d or any(len(a) != d or min(a) < 1 for a in lists) or len(pads) != 2 * d:
            raise node.refused("has windows that do not fit its input; export the network anew")
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            outs = [-(-n // s) for n, s in zip(lengths, strides, strict=True)]
            total = [
                max((o - 1) * s + (k - 1) * e + 1 - n, 0)
                for o, s, k, e, n in zip(outs, strides, kernel, dilations, lengths, strict=True)
            ]
            small, large = [t // 2 for t in total], [t - t // 2 for t in total]
            pads = small + large if auto == "SAME_UPPER" else large + small
        elif auto == "VALID":
            pads = [0] * 2 * d
        if min(pads) < 0:
            raise node.refused("cuts off its input by negative padding; use a Slice")
        return cls(kernel, strides, dilations, pads[:d], pads[d:])

    def along(self, axis: int, length: int, ceiling: bool = False) -> Array:
        """The positions (windows, kernel) that windows along an axis of that length cover."""
        reach = (self.kernel[axis] - 1) * self.dilations[axis]
        room = length + self.begins[axis] + self.ends[axis] - reach - 1
        step = self.strides[axis]
        n = (-(-room // step) if ceiling else room // step) + 1
        if ceiling and (n - 1) * step >= length + self.begins[axis]:  # starts behind the input
            n -= 1
        check_shape((max(n, 0), self.kernel[axis]))
        starts = np.arange(max(n, 0)) * step - self.begins[axis]
        return starts[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis]


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
    if weights.shape[1] != inner:
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
    x, weights = node.tensor(), node.constant(1)
    lengths = x.shape[2:]
    windows = Windows.of(node, list(weights.shape[2:]), lengths)
    positions = [windows.along(axis, n) for axis, n in enumerate(lengths)]
    where, factors = _convolution(node, weights, grid(positions, lengths), x.shape)
    shape = (x.shape[0], len(weights), *map(len, positions))
    return _biased(node, x.combined(where, factors).reshape(shape))


def conv_transpose(neurons: Neurons, node: Node) -> Affine:
    """The transpose of the convolution that leads from the output's shape to the input's."""
    x, weights = node.tensor(), node.constant(1)
    lengths, d = x.shape[2:], len(x.shape) - 2
    windows = Windows.of(node, list(weights.shape[2:]), lengths)
    extra = node.numbers("output_padding", [0] * d)
    wanted = node.numbers("output_shape", [0] * d)[-d:]
    same = node.text("auto_pad", "NOTSET").startswith("SAME")
    if len(extra) != d or len(wanted) != d or min(extra) < 0:
        raise node.refused("has an output padding that does not fit; export the network anew")
    whole = [
        s * (n - 1) + e + (k - 1) * dilation + 1
        for s, n, e, k, dilation in zip(
            windows.strides, lengths, extra, windows.kernel, windows.dilations, strict=True
        )
    ]
    if any(wanted) or same:
        target = wanted if any(wanted) else [
            s * n for s, n in zip(windows.strides, lengths, strict=True)
        ]  # fmt: skip
        cut = [max(n - t, 0) for n, t in zip(whole, target, strict=True)]
        upper = node.text("auto_pad", "NOTSET") == "SAME_UPPER"
        begins = [c // 2 if upper else c - c // 2 for c in cut]
    else:
        begins = windows.begins
        cuts = zip(whole, begins, windows.ends, strict=True)
        target = [n - begin - end for n, begin, end in cuts]
    if min(target) < 1:
        raise node.refused("gives no output; export the network anew")
    check_shape(tuple(target))
    positions = [
        np.arange(n)[:, None] * s - begin + np.arange(k) * dilation
        for n, s, begin, k, dilation in zip(
            lengths, windows.strides, begins, windows.kernel, windows.dilations, strict=True
        )
    ]
    out = (x.shape[0], weights.shape[1] * int(node.number("group", 1)), *target)
    where, factors = _convolution(node, weights, grid(positions, tuple(target)), out)
    matrix = combination(where, factors, prod(out)).T.tocsr()
    return _biased(node, x.mapped(matrix, out))


def average_pool(neurons: Neurons, node: Node) -> Affine:
    x = node.tensor()
    lengths = x.shape[2:]
    windows = Windows.of(node, [], lengths)
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
    windows = Windows.of(node, [], x.shape[2:])
    ceiling = bool(node.number("ceil_mode", 0))
    for axis, length in enumerate(x.shape[2:]):
        positions = windows.along(axis, length, ceiling)
        inside = (positions >= 0) & (positions < length)
        if not inside.any(axis=1).all():
            raise node.refused("has windows outside of its input; export the network anew")
        first = np.take_along_axis(positions, inside.argmax(axis=1)[:, None], axis=1)
        positions = np.where(inside, positions, first)
        x = _largest(neurons, [
            x.take(np.take(x.entries, p, axis=2 + axis)) for p in positions.T
        ])  # fmt: skip
    return x


def global_max_pool(neurons: Neurons, node: Node) -> Affine:
    x = node.tensor()
    return _reduced(neurons, x, tuple(range(2, len(x.shape))), True)


def reduce_max(neurons: Neurons, node: Node) -> Affine:
    x = node.tensor()
    return _reduced(neurons, x, node.axes(len(x.shape)), bool(node.number("keepdims", 1)))


def reduce_min(neurons: Neurons, node: Node) -> Affine:
    x = -node.tensor()
    return -_reduced(neurons, x, node.axes(len(x.shape)), bool(node.number("keepdims", 1)))


def _reduced(neurons: Neurons, x: Affine, axes: tuple[int, ...], keep: bool) -> Affine:
    where, shape = together(x, axes, keep)
    return _largest(neurons, [x.take(column) for column in where.T]).reshape(shape)


def _largest(neurons: Neurons, tensors: list[Affine]) -> Affine:
    """The entrywise maximum, two at a time, so that k tensors take log2 k layers."""
    while len(tensors) > 1:
        pairs = zip(tensors[::2], tensors[1::2], strict=False)
        left = tensors[-1:] if len(tensors) % 2 else []
        tensors = [neurons.maximum(a, b) for a, b in pairs] + left
    return tensors[0]


def maximum(neurons: Neurons, node: Node) -> Affine:
    return _largest(neurons, _broadcast(node))


def minimum(neurons: Neurons, node: Node) -> Affine:
    return -_largest(neurons, [-tensor for tensor in _broadcast(node)])


def _broadcast(node: Node) -> list[Affine]:
    tensors = [as_affine(node.value(i)) for i in range(len(node.inputs))]
    shape = reduce(np.broadcast_shapes, [tensor.shape for tensor in tensors], ())
    return [tensor.broadcast(shape) for tensor in tensors]


OPERATORS: Operators = {
    "Conv": conv, "ConvTranspose": conv_transpose, "AveragePool": average_pool,
    "MaxPool": max_pool, "GlobalMaxPool": global_max_pool, "ReduceMax": reduce_max,
    "ReduceMin": reduce_min, "Max": maximum, "Min": minimum,
}  # fmt: skip
