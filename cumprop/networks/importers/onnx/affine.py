"""Tensors whose entries are affine functions of variables, the neurons found so far."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cumprop.errors import CumpropError
from cumprop.memory import check_memory

Array = NDArray[Any]

CANCELLED = 1e-12
"""Sums below this share of their terms are 0: rounding, which would tie neurons together."""

LARGEST = 2**23
"""The most entries of a tensor that depends on the input; each can become a neuron."""

NONZERO = 16
"""Bytes of one entry of a sparse matrix: a float64 and an index."""


@dataclass(frozen=True, eq=False)
class Affine:
    """A tensor whose entries, flattened in C order, are `matrix` @ variables + `constant`.

    `matrix` (entries, variables) may have fewer columns than there are variables by now. It stores
    no zeros, and the entries of a row in ascending order: SciPy would else sort them in place,
    under the hands of another matrix that shares the indices.
    """

    shape: tuple[int, ...]
    matrix: csr_array
    constant: Array

    @property
    def entries(self) -> Array:
        """The flat index of every entry, in the tensor's shape."""
        return np.arange(len(self.constant)).reshape(self.shape)

    @property
    def variables(self) -> Array:
        """The variables that the tensor depends on, in ascending order."""
        return np.flatnonzero(np.bincount(self.matrix.indices, minlength=1))

    @property
    def varying(self) -> Array:
        """Whether an entry depends on a variable, (entries,)."""
        varying: Array = np.diff(self.matrix.indptr) > 0
        return varying

    def take(self, where: Array, fill: float = 0.0) -> Affine:
        """The tensor of the entries at the flat indices `where`, and of `fill` where these are -1.

        Every operator that moves entries about is this one.
        """
        check_memory(8 * where.size)
        flat = where.ravel()
        there = flat >= 0
        check_memory(NONZERO * int(np.diff(self.matrix.indptr)[flat[there]].sum()))
        constant = np.full(where.size, float(fill))
        constant[there] = self.constant[flat[there]]
        matrix = self.matrix[flat[there]]
        if not there.all():
            ends = np.concatenate([[0], np.cumsum(there)])
            matrix = csr_array((matrix.data, matrix.indices, matrix.indptr[ends]),
                               (where.size, matrix.shape[1]))  # fmt: skip
        return Affine(where.shape, matrix, constant)

    def spread(self, mask: Array, shape: tuple[int, ...]) -> Affine:
        """The tensor of that shape that has these entries where `mask` is true, 0 elsewhere."""
        return self.take(np.where(mask, np.cumsum(mask) - 1, -1).reshape(shape))

    def combined(self, where: Array, weights: Array) -> Affine:
        """The sums over the last axis of `weights` times the entries at `where` (-1: none).

        Every linear operator is this one; the two arrays broadcast against each other.
        """
        shape = np.broadcast_shapes(where.shape, weights.shape)
        return self.mapped(combination(where, weights, len(self.constant)), shape[:-1])

    def mapped(self, matrix: csr_array, shape: tuple[int, ...]) -> Affine:
        """The linear map `matrix` of the entries, in another shape."""
        return Affine(shape, product(matrix, self.matrix), matrix @ self.constant)

    def broadcast(self, shape: tuple[int, ...]) -> Affine:
        if shape == self.shape:
            return self
        check_memory(8 * prod(shape))
        return self.take(np.broadcast_to(self.entries, shape))

    def reshape(self, shape: tuple[int, ...]) -> Affine:
        return Affine(shape, self.matrix, self.constant)

    def __mul__(self, factor: Array) -> Affine:
        shape = np.broadcast_shapes(self.shape, factor.shape)
        if shape == self.shape and (factor == 1).all():
            return self
        spread = self.broadcast(shape)
        scale = np.broadcast_to(factor, shape).ravel().astype(float)
        data = spread.matrix.data * np.repeat(scale, np.diff(spread.matrix.indptr))
        return Affine(shape, replaced(spread.matrix, data), spread.constant * scale)

    def __neg__(self) -> Affine:
        return self * np.array(-1.0)

    def __add__(self, other: Affine | Array) -> Affine:
        if not isinstance(other, Affine):
            other = constant(other)
        shape = np.broadcast_shapes(self.shape, other.shape)
        a, b = self.broadcast(shape), other.broadcast(shape)
        return Affine(shape, added(a.matrix, b.matrix), a.constant + b.constant)

    def __sub__(self, other: Affine | Array) -> Affine:
        return self + -other


def constant(array: Array) -> Affine:
    """A tensor that depends on no variable."""
    flat = np.asarray(array, dtype=float).ravel()
    return Affine(array.shape, csr_array((flat.size, 0)), flat)


def stacked(parts: list[Affine]) -> Affine:
    """The entries of several tensors behind one another, in one axis."""
    matrix = rows([part.matrix for part in parts])
    return Affine((matrix.shape[0],), matrix, np.concatenate([part.constant for part in parts]))


def joined(parts: list[Affine]) -> Affine:
    """The tensors behind one another along their last axis."""
    starts = np.cumsum([0, *(len(part.constant) for part in parts)])
    where = [start + part.entries for start, part in zip(starts[:-1], parts, strict=True)]
    return stacked(parts).take(np.concatenate(where, axis=-1))


def units(variables: Array) -> csr_array:
    """The matrix that takes these variables."""
    n = len(variables)
    n_columns = int(variables.max(initial=-1)) + 1
    return csr_array((np.ones(n), variables, np.arange(n + 1)), (n, n_columns))


def sparse(data: Array, columns: Array, n: int) -> csr_array:
    """The matrix with one entry a row, or as many as the last axis of `columns` is long."""
    width = columns.shape[-1] if columns.ndim > 1 else 1
    ends = np.arange(0, columns.size + 1, max(width, 1))
    matrix = csr_array((data.ravel(), columns.ravel(), ends), (len(columns), n))
    return replaced(matrix, matrix.data)


def combination(where: Array, weights: Array, n: int) -> csr_array:
    """The matrix (sums, n) of `Affine.combined`."""
    shape = np.broadcast_shapes(where.shape, weights.shape)
    check_memory(3 * NONZERO * prod(shape))
    where = np.broadcast_to(where, shape).reshape(-1, shape[-1])
    data = np.where(where < 0, 0.0, np.broadcast_to(weights, shape).reshape(where.shape))
    return sparse(data, np.maximum(where, 0), n)


def replaced(matrix: csr_array, data: Array) -> csr_array:
    """The matrix with other numbers where it has any."""
    made = csr_array((data, matrix.indices, matrix.indptr), matrix.shape)
    if not data.all():
        made = made.copy()  # the zeros of the other matrix stay where they are
        made.eliminate_zeros()
    return made


def widened(matrix: csr_array, n: int) -> csr_array:
    """The matrix with n columns, at least as many as before."""
    return csr_array((matrix.data, matrix.indices, matrix.indptr), (matrix.shape[0], n))


def rows(matrices: list[csr_array]) -> csr_array:
    """The rows of several matrices below one another."""
    n = max(matrix.shape[1] for matrix in matrices)
    ends = np.cumsum([0, *(matrix.nnz for matrix in matrices)])
    starts = [m.indptr[:-1] + end for m, end in zip(matrices, ends[:-1], strict=True)]
    return csr_array(
        (
            np.concatenate([matrix.data for matrix in matrices]),
            np.concatenate([matrix.indices for matrix in matrices]),
            np.concatenate([*starts, ends[-1:]]),
        ),
        (sum(matrix.shape[0] for matrix in matrices), n),
    )


def added(a: csr_array, b: csr_array) -> csr_array:
    """The sum of two matrices, without the rounding that is left where terms cancel."""
    n = max(a.shape[1], b.shape[1])
    if not a.nnz or not b.nnz:
        return widened(a if a.nnz else b, n)
    check_memory(NONZERO * (a.nnz + b.nnz))
    a, b = widened(a, n), widened(b, n)
    total: csr_array = a + b
    if total.nnz < a.nnz + b.nnz:
        total = total.multiply(abs(total) > CANCELLED * (abs(a) + abs(b))).tocsr()
    return total


def product(left: csr_array, right: csr_array) -> csr_array:
    """left @ right, by BLAS where both are dense; refused before it takes too much memory."""
    n, inner, m = *left.shape, right.shape[1]
    terms = int(np.diff(right.indptr)[left.indices].sum())
    check_memory(NONZERO * min(terms, n * m))
    if 10 * left.nnz > n * inner and 10 * right.nnz > inner * m and terms > n * m:
        check_memory(8 * (n * inner + inner * m + n * m))
        return csr_array(left.toarray() @ right.toarray())
    found: csr_array = left @ right
    found.sort_indices()
    found.eliminate_zeros()
    return found


def check_entries(shape: tuple[int, ...]) -> None:
    """Raise CumpropError for a tensor with more entries than layers can have neurons."""
    if prod(shape) > LARGEST:
        raise CumpropError(
            f"it has a tensor of {prod(shape):,} entries; {LARGEST:,} can be read, use fewer inputs"
        )


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise CumpropError for a tensor whose indices alone do not fit in memory."""
    if min(shape, default=0) < 0:
        raise CumpropError(f"it has a tensor of shape {shape}; export the network anew")
    check_memory(8 * prod(shape))
