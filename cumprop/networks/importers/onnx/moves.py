"""Operators that move entries about, or hand them on."""

from __future__ import annotations

from math import prod

import numpy as np

from cumprop.networks.importers.onnx.affine import Affine, Array, check_shape, stacked
from cumprop.networks.importers.onnx.evaluation import evaluated
from cumprop.networks.importers.onnx.file import fractional
from cumprop.networks.importers.onnx.linear import as_affine
from cumprop.networks.importers.onnx.neurons import Neurons
from cumprop.networks.importers.onnx.nodes import Node, Operators

MOVES: dict[str, tuple[int, ...] | None] = {
    "Concat": None, "Where": (1, 2), **dict.fromkeys(
        ("DepthToSpace", "Expand", "Gather", "GatherElements", "GatherND", "Reshape",
         "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"), (0,)),
}  # fmt: skip
"""Operators that move entries about, and which inputs they take them from (None: all)."""


def moved(neurons: Neurons, node: Node) -> list[Affine]:
    """The outputs of a node that moves entries: it is evaluated on their indices."""
    positions = MOVES[node.op] or tuple(range(len(node.inputs)))
    parts = [as_affine(node.value(position)) for position in positions]
    arrays: list[Array | None] = [
        None if i in positions or not node.has(i) else node.constant(i)
        for i in range(len(node.inputs))
    ]
    start = 0
    for position, part in zip(positions, parts, strict=True):
        arrays[position] = start + part.entries
        start += len(part.constant)
    whole = stacked(parts)
    return [whole.take(where) for where in evaluated(node, arrays)]


def passed_on(neurons: Neurons, node: Node) -> Affine:
    """The tensor as it is."""
    return node.tensor()


def dropout(neurons: Neurons, node: Node) -> Affine:
    """The tensor as it is, in evaluation mode."""
    if node.has(2) and node.constant(2).any():
        raise node.refused("is in training mode; export the network in evaluation mode")
    return node.tensor()


def cast(neurons: Neurons, node: Node) -> Affine:
    """The tensor as it is, for types with fractions."""
    if node.op == "Cast" and not fractional(node.number("to", 0)):
        raise node.refused("rounds what depends on the input to integers; cast to float32")
    return node.tensor()


def flatten(neurons: Neurons, node: Node) -> Affine:
    """A matrix: the axes before `axis` become one, and those from it on."""
    x = node.tensor()
    axis = int(node.number("axis", 1))
    axis += len(x.shape) * (axis < 0)
    return x.reshape((prod(x.shape[:axis]), prod(x.shape[axis:])))


def shape(neurons: Neurons, node: Node) -> Array:
    """The lengths of the axes, a constant."""
    lengths = np.array(node.tensor().shape, dtype=np.int64)
    start, end = int(node.number("start", 0)), int(node.number("end", len(lengths)))
    return lengths[start:end]


def size(neurons: Neurons, node: Node) -> Array:
    """The number of entries, a constant."""
    return np.array(node.tensor().constant.size)


def pad(neurons: Neurons, node: Node) -> Affine:
    """The tensor with a border of a constant, or with some of it cut off."""
    x = node.tensor()
    if node.text("mode", "constant") != "constant":
        raise node.refused("repeats its input at the border; pad with a constant")
    pads = node.constant(1).ravel()
    axes = node.constant(3, range(len(x.shape))).ravel() % max(len(x.shape), 1)
    if len(pads) != 2 * len(axes) or len({*axes.tolist()}) != len(axes):
        raise node.refused("has pads that do not fit its input; export the network anew")
    width = np.zeros((len(x.shape), 2), dtype=np.int64)
    width[axes] = pads.reshape(2, -1).T
    outer, cut = np.maximum(width, 0), np.maximum(-width, 0)
    lengths = np.array(x.shape) + outer.sum(axis=1)
    check_shape(tuple((lengths - cut.sum(axis=1)).tolist()))
    check_shape(tuple(lengths.tolist()))
    where = np.pad(x.entries, outer.tolist(), constant_values=-1)
    inside = tuple(slice(a, n - b) for (a, b), n in zip(cut, where.shape, strict=True))
    return x.take(where[inside], float(node.constant(2, 0.0).ravel()[0]))


OPERATORS: Operators = {
    **dict.fromkeys(MOVES, moved), "Identity": passed_on, "Cast": cast, "CastLike": cast,
    "Dropout": dropout, "Pad": pad, "Flatten": flatten, "Shape": shape, "Size": size,
}  # fmt: skip
