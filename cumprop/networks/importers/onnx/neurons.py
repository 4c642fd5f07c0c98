"""The variables of a network: its inputs, its neurons, and sums that are worth a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from cumprop.activations import get
from cumprop.networks.importers.onnx.affine import Affine, Array, rows


@dataclass(frozen=True, eq=False)
class Block:
    """Variables start, start + 1, … that were found together.

    Variable i is activation `names[i]` of entry i of `arguments`; a sum is the entry itself, and
    has no names. `level` is 0 for inputs; for neurons, one more than that of the arguments.
    """

    start: int
    level: int
    arguments: Affine
    names: Sequence[str] | None = None


class Neurons:
    """All variables, numbered in the order they are found."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.levels = np.zeros(0, dtype=np.intp)
        self.names = np.zeros(0, dtype=object)
        """The activation of each variable, "identity" for inputs and "" for sums."""

    def inputs(self, shape: tuple[int, ...]) -> Affine:
        """A tensor of inputs, one for each entry."""
        n = int(np.prod(shape))
        nothing = Affine(shape, csr_array((n, 0)), np.zeros(n))
        return self._add(nothing, 0, ["identity"] * n)

    def apply(self, name: str | Sequence[str], argument: Affine) -> Affine:
        """The neurons φ(argument); `name` is one activation, or one for each entry.

        Entries that depend on no variable become constants.
        """
        n = len(argument.constant)
        given = [name] * n if isinstance(name, str) else name
        known = {a: get(a).name for a in set(given)}  # clip(0:6) is relu6
        names = np.array([known[a] for a in given], dtype=object)
        varying = argument.varying
        if varying.all():
            return self._add(argument, self.level(argument) + 1, list(names))
        fixed = np.array(
            [get(a).forward(argument.constant[[i]])[0] for i, a in enumerate(names)
             if not varying[i]]
        )  # fmt: skip
        constant = np.zeros(n)
        constant[~varying] = fixed
        if not varying.any():
            return Affine(argument.shape, csr_array((n, 0)), constant)
        found = self.apply(list(names[varying]), argument.take(np.flatnonzero(varying)))
        where = np.where(varying, np.cumsum(varying) - 1, -1).reshape(argument.shape)
        return found.take(where) + constant.reshape(argument.shape)

    def named(self, tensor: Affine) -> Affine:
        """The tensor as sums with names, where these are fewer than the variables in it.

        A residual network carries such sums past a layer rather than all neurons before it.
        """
        varying = int(tensor.varying.sum())
        if varying >= tensor.variables.size:
            return tensor
        where = np.where(tensor.varying, np.cumsum(tensor.varying) - 1, -1).reshape(tensor.shape)
        linear = Affine(tensor.shape, tensor.matrix, np.zeros(len(tensor.constant)))
        part = linear.take(np.flatnonzero(tensor.varying))
        sums = self._add(part, self.level(tensor), None)
        return sums.take(where) + tensor.constant.reshape(tensor.shape)

    def maximum(self, a: Affine, b: Affine) -> Affine:
        """max(a, b) = b + relu(a - b), entry by entry; the carried b is a constant if one is."""
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

    def _add(self, arguments: Affine, level: int, names: Sequence[str] | None) -> Affine:
        start, n = len(self.levels), len(arguments.constant)
        self.blocks.append(Block(start, level, arguments, names))
        self.levels = np.append(self.levels, np.full(n, level, dtype=np.intp))
        self.names = np.append(self.names, np.array(names or [""] * n, dtype=object))
        unit = csr_array((np.ones(n), np.arange(start, start + n), np.arange(n + 1)))
        return Affine(arguments.shape, unit, np.zeros(n))
