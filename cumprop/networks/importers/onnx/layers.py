"""The layers of a network whose output is an affine function of neurons of many levels.

A variable of level j that a layer behind level j + 1 reads is carried by identity neurons. A sum
that has a name is carried as it is, until the layer of its level takes it apart. Where a layer
would carry more variables than there are sums of them in the layers behind it, it carries these
sums instead.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import DTypeLike
from scipy.sparse import csr_array

from cumprop.memory import check_memory
from cumprop.networks.checks import OfLayer
from cumprop.networks.importers.onnx.affine import Affine, Array, product, replaced, units
from cumprop.networks.importers.onnx.neurons import INPUT, SUM, Neurons
from cumprop.networks.importers.parts import Parts


def layers(neurons: Neurons, output: Affine, dtype: DTypeLike) -> Parts:
    """The network, found from its output backwards; each layer reads the one before it alone."""
    maps: list[Affine] = []
    activations: list[OfLayer] = []
    reads = output.reshape((len(output.constant),))
    for level in range(neurons.level(reads), 0, -1):
        reads = _combined(neurons, _taken_apart(neurons, reads, level), level)
        variables = reads.variables
        own = neurons.levels[variables] == level
        if not own.any():
            continue
        names = np.where(own, neurons.names[variables], "identity")
        kinds, which = np.unique(names, return_inverse=True)
        order = np.argsort(which, kind="stable")  # few runs of equal activations
        maps.append(_columns(reads, variables[order]))
        activations.append(str(kinds[0]) if len(kinds) == 1 else names[order].tolist())
        reads = _defined(neurons, variables, own).take(order)
    reads = _taken_apart(neurons, reads, 0)
    maps.append(_columns(reads, np.flatnonzero(neurons.names == INPUT)))
    check_memory(np.dtype(dtype).itemsize * sum(prod(part.matrix.shape) for part in maps))
    return Parts(
        [part.matrix.astype(dtype).toarray() for part in maps[::-1]],
        [part.constant.astype(dtype) if part.constant.any() else None for part in maps[::-1]],
        activations[::-1],
    )


def _taken_apart(neurons: Neurons, reads: Affine, level: int) -> Affine:
    """The same entries without the sums of a level: in their place stands what is summed."""
    while True:
        variables = reads.variables
        sums = (neurons.levels[variables] == level) & (neurons.names[variables] == SUM)
        if not sums.any():
            return reads
        terms = _defined(neurons, variables, sums)
        part = _columns(reads, variables)
        reads = Affine(
            reads.shape,
            product(part.matrix, terms.matrix),
            part.constant + part.matrix @ terms.constant,
        )


def _combined(neurons: Neurons, reads: Affine, level: int) -> Affine:
    """The same entries, with names for what they add up of lower levels if these are fewer."""
    matrix = reads.matrix
    old = neurons.levels[matrix.indices] < level
    if not old.any():
        return reads
    nothing = np.zeros(len(reads.constant))
    earlier = Affine(reads.shape, replaced(matrix, matrix.data * old), nothing)
    own = Affine(reads.shape, replaced(matrix, matrix.data * ~old), reads.constant)
    return own + neurons.named(earlier)


def _defined(neurons: Neurons, variables: Array, some: Array) -> Affine:
    """The arguments of some of the variables, and the others as they are."""
    others = variables[~some]
    kept = Affine(others.shape, units(others), np.zeros(len(others)))
    return neurons.definitions(variables[some]).spread(some, some.shape) + kept.spread(
        ~some, some.shape
    )


def _columns(reads: Affine, variables: Array) -> Affine:
    """The entries as functions of `variables` in that order, which are all that they depend on."""
    place = np.zeros(int(variables.max(initial=0)) + 1, dtype=np.int32)
    place[variables] = np.arange(len(variables))
    matrix = reads.matrix
    parts = matrix.data, place[matrix.indices], matrix.indptr
    return Affine(reads.shape, csr_array(parts, (matrix.shape[0], len(variables))), reads.constant)
