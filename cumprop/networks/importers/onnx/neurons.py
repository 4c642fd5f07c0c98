"""The variables of a network: its inputs, its neurons, and sums that are worth a name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from cumprop.activations import get
from cumprop.networks.importers.onnx.affine import Affine, Array, constant, rows, stacked, units

INPUT, SUM = "", "+"

UNBOUNDED = 3e38
"""Numbers that stand for ∞: exporters write the largest float32 for a bound that is none."""


@dataclass(frozen=True, eq=False)
class Block:
    """Variables start, start + 1, … that were found together, and what they are functions of."""

    start: int
    arguments: Affine


class Neurons:
    """All variables, numbered in the order they are found."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.levels = np.zeros(0, dtype=np.intp)
        """0 for inputs; for neurons one more than their arguments; for sums that of their terms."""
        self.names = np.zeros(0, dtype=object)
        """The activation of each variable; INPUT and SUM are none."""

    def inputs(self, shape: tuple[int, ...]) -> Affine:
        """A tensor of inputs, one for each entry."""
        return self._add(constant(np.zeros(shape)), 0, INPUT)

    def apply(self, name: str | Array, argument: Affine) -> Affine:
        """The neurons φ(argument); `name` is one activation, or one for each entry.

        Entries that depend on no variable become constants.
        """
        names = np.full(len(argument.constant), name, dtype=object)
        for given in set(names):
            names[names == given] = get(given).name  # clip(0:6) is relu6
        varying = argument.varying
        found = self._add(
            argument.take(np.flatnonzero(varying)), self.level(argument) + 1, names[varying]
        )
        fixed = np.zeros(len(names))
        for given in set(names[~varying]):
            here = ~varying & (names == given)
            fixed[here] = get(given).forward(argument.constant[here])
        return found.spread(varying, argument.shape) + fixed.reshape(argument.shape)

    def named(self, tensor: Affine) -> Affine:
        """The tensor as sums with names, where these are fewer than the variables in it.

        A residual network carries such sums past a layer rather than all neurons before it.
        """
        varying = tensor.varying
        if varying.sum() >= len(tensor.variables):
            return tensor
        linear = Affine(tensor.shape, tensor.matrix, np.zeros(len(tensor.constant)))
        sums = self._add(linear.take(np.flatnonzero(varying)), self.level(tensor), SUM)
        return sums.spread(varying, tensor.shape) + tensor.constant.reshape(tensor.shape)

    def maximum(self, a: Affine, b: Affine) -> Affine:
        """max(a, b) = b + relu(a - b), entry by entry; the carried b is a constant if one is.

        Constants that only stand for -∞, as around the input of a MaxPool, are left out.
        """
        a, b = _or_other(a, b), _or_other(b, a)
        if a.matrix.nnz < b.matrix.nnz:
            a, b = b, a
        return self.named(b + self.apply("relu", a - b))

    def level(self, tensor: Affine) -> int:
        """The highest level of a variable in a tensor."""
        return int(self.levels[tensor.matrix.indices].max(initial=0))

    def definitions(self, variables: Array) -> Affine:
        """The arguments of variables, whose numbers ascend, as a tensor with one axis."""
        starts = [block.start for block in self.blocks]
        ends = np.searchsorted(variables, [*starts[1:], len(self.levels)])
        matrices, constants, begin = [csr_array((0, 0))], [np.zeros(0)], 0
        for block, end in zip(self.blocks, ends, strict=True):
            if end > begin:
                part = variables[begin:end] - block.start
                matrices.append(block.arguments.matrix[part])
                constants.append(block.arguments.constant[part])
            begin = end
        return Affine((len(variables),), rows(matrices), np.concatenate(constants))

    def _add(self, arguments: Affine, level: int, names: str | Array) -> Affine:
        start, n = len(self.levels), len(arguments.constant)
        self.blocks.append(Block(start, arguments))
        self.levels = np.append(self.levels, np.full(n, level))
        self.names = np.append(self.names, np.full(n, names, dtype=object))
        return Affine(arguments.shape, units(np.arange(start, start + n)), np.zeros(n))


def _or_other(a: Affine, b: Affine) -> Affine:
    """The entries of a, but those of b where a is a constant that stands for -∞."""
    low = ~a.varying & (a.constant <= -UNBOUNDED)
    if not low.any():
        return a
    both = stacked([a, b]).take(np.where(low, len(low), 0).reshape(a.shape) + a.entries)
    return Affine(a.shape, both.matrix, np.maximum(both.constant, np.finfo(np.float32).min))
