"""The layers of a network whose output is an affine function of neurons of many levels.

A variable of level j that a layer behind level j + 1 reads is carried by identity neurons. A sum
that has a name is carried as it is, until the layer of its level takes it apart. Where a layer
would carry more variables than there are sums of them in the layers behind it, it carries these
sums instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import DTypeLike
from scipy.sparse import csr_array

from cumprop.networks.importers.onnx.affine import Affine, Array, product, replaced, stacked
from cumprop.networks.importers.onnx.neurons import Neurons
from cumprop.networks.importers.parts import Parts, check_memory


def layers(neurons: Neurons, output: Affine, dtype: DTypeLike) -> Parts:
    """The network, found from its output backwards; every layer after the first reads one other."""
    maps: list[Affine] = []
    activations: list[str | Sequence[str]] = []
    reads = output.reshape((len(output.constant),))
    for level in range(neurons.level(reads), 0, -1):
        reads = _combined(neurons, _taken_apart(neurons, reads, level), level)
        variables = reads.variables
        own = neurons.levels[variables] == level
        if own.any():
            names = np.where(own, neurons.names[variables], "identity").tolist()
            order = np.array(sorted(range(len(names)), key=lambda i: (names[i], i)))
            maps.append(_columns(reads, variables, order))
            names = [names[i] for i in order]
            activations.append(names[0] if names[0] == names[-1] else names)
            reads = _defined(neurons, variables, own).take(order)
    reads = _taken_apart(neurons, reads, 0)
    n_inputs = int(np.sum((neurons.levels == 0) & (neurons.names == "identity")))
    maps.append(_columns(reads, np.arange(n_inputs), np.arange(n_inputs)))
    n_bytes = np.dtype(dtype).itemsize * sum(prod(part.matrix.shape) for part in maps)
    check_memory(n_bytes)
    maps.reverse()
    return Parts(
        [part.matrix.astype(dtype).toarray() for part in maps],
        [part.constant.astype(dtype) if part.constant.any() else None for part in maps],
        activations[::-1],
    )


def _taken_apart(neurons: Neurons, reads: Affine, level: int) -> Affine:
    """The same entries without the sums of a level: in their place stands what is summed."""
    while True:
        variables = reads.variables
        sums = (neurons.levels[variables] == level) & (neurons.names[variables] == "")
        if not sums.any():
            return reads
        terms = _defined(neurons, variables, sums)
        part = _columns(reads, variables, np.arange(len(variables)))
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
    n, m = len(variables), int((~some).sum())
    kept = csr_array(
        (np.ones(m), variables[~some], np.arange(m + 1)), (m, int(variables.max(initial=0)) + 1)
    )
    both = stacked([neurons.definitions(variables[some]), Affine((m,), kept, np.zeros(m))])
    return both.take(np.where(some, np.cumsum(some) - 1, n - m - 1 + np.cumsum(~some)))


def _columns(reads: Affine, variables: Array, order: Array) -> Affine:
    """The entries as functions of `variables[order]`, which are all that they depend on."""
    place = np.zeros(int(variables.max(initial=0)) + 1, dtype=np.int32)
    place[variables[order]] = np.arange(len(order))
    matrix = reads.matrix
    parts = matrix.data, place[matrix.indices], matrix.indptr
    return Affine(reads.shape, csr_array(parts, (matrix.shape[0], len(order))), reads.constant)
