"""Symmetric tensors of cumulants: slices, trace parts and linear maps (mathematics §3.2, §3.3).

Everywhere, the *slice* for a composition u of d is the array over m = len(u) neurons whose entry
(i_1..i_m) is the tensor with index i_a repeated u_a times; it means something only where the i_a
are distinct.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from itertools import combinations
from math import factorial, prod
from operator import add
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from cumprop.flops import ForeignArray, counted

from .batches import transposed
from .diagrams import Block, dealings, partitions, support

Array = NDArray[Any]
Slices = Mapping[Block, Array]
"""Slices by partition (parts falling); other compositions are transposes of these."""


def diagonal(tensor: Array, u: Block) -> Array:
    """The slice u of a symmetric tensor, as a view; entries at coinciding indices included.

    >>> diagonal(np.arange(9).reshape(3, 3), (2,)).tolist()
    [0, 4, 8]
    """
    view: Array
    if isinstance(tensor, ForeignArray):
        view = tensor.repeated(u)
        return view
    if u == (2,):  # the usual case, made quick
        view = tensor.diagonal()
        view.flags.writeable = tensor.flags.writeable
        return view
    ends = np.cumsum(u)
    strides = [sum(tensor.strides[end - count : end]) for count, end in zip(u, ends, strict=True)]
    shape = [tensor.shape[end - 1] for end in ends]
    return as_strided(tensor, shape, strides, subok=True)


def zero_coincidences(array: Array) -> Array:
    """Set entries at coinciding indices to zero, in place."""
    if array.ndim == 2:  # the usual case, made quick
        diagonal(array, (2,))[...] = 0
        return array
    for a, b in combinations(range(array.ndim), 2):
        np.moveaxis(array, (a, b), (0, 1))[np.diag_indices(array.shape[0])] = 0
    return array


def off_diagonal(matrix: Array) -> Array:
    """A copy with zeros on the diagonal."""
    return zero_coincidences(np.copy(matrix, subok=True))


def lookup(slices: Slices, u: Block) -> Array:
    """The slice of any composition without zeros, by transposing the stored one."""
    partition, axes = _arrangement(u)
    stored = slices[partition]
    return stored.transpose(axes) if axes else stored


@cache
def _arrangement(u: Block) -> tuple[Block, tuple[int, ...]]:
    """The partition of a composition, and the axes of its slice in u's order, () for the same."""
    order = sorted(range(len(u)), key=lambda a: -u[a])
    axes = tuple(np.argsort(order).tolist())
    return tuple(u[a] for a in order), () if axes == tuple(range(len(u))) else axes


def assemble(slices: Slices, d: int, n: int, like: Array) -> Array:
    """The full symmetric tensor of order d with the given slices (zero where coinciding)."""
    tensor = np.zeros_like(like, shape=(n,) * d)
    for groups in sorted(_set_partitions(tuple(range(d))), key=len, reverse=True):
        order = sorted(groups, key=len, reverse=True)
        axes = [axis for group in order for axis in group]
        u = tuple(len(group) for group in order)
        diagonal(tensor.transpose(axes), u)[...] = slices[u]
    return tensor


def _set_partitions(items: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    if not items:
        yield []
        return
    first, *others = items
    for groups in _set_partitions(tuple(others)):
        yield [(first,), *groups]
        for i, group in enumerate(groups):
            yield [*groups[:i], (first, *group), *groups[i + 1 :]]


def trace_slices(slices: Slices, d: int, r: int) -> dict[Block, Array]:
    """Slices of the r-fold trace of an order-d tensor, from its slices with ≥ r repeated pairs."""
    for order in range(d - 2, d - 2 * r - 1, -2):
        traces_left = (order - (d - 2 * r)) // 2
        slices = {
            v: _trace_slice(slices, v)
            for v in partitions(order)
            if repeated_pairs(v) >= traces_left
        }
    return dict(slices)


def repeated_pairs(u: Block) -> int:
    """How many traces a slice contributes to: Σ ⌊u_a / 2⌋."""
    return sum(count // 2 for count in u)


def _trace_slice(slices: Slices, v: Block) -> Array:
    total = lookup(slices, (*v, 2)).sum(axis=-1)
    for a in range(len(v)):
        total = total + lookup(slices, (*v[:a], v[a] + 2, *v[a + 1 :]))
    return zero_coincidences(np.copy(total, subok=True))


def radial_core(trace: Array, d: int, r: int, n: int) -> Array:
    """The core A of the trace part Sym(A ⊗ I^r) of an order-d tensor in dimension n (§3.3).

    `trace` is the r-fold trace, of order e = d - 2r; A = Σ_j β_j Sym(tr^j trace ⊗ I^j).

    >>> float(radial_core(np.array(8.0), d=4, r=2, n=4))              # 3 tr / (n (n + 2))
    1.0
    """
    e = d - 2 * r
    identity = DiagonalMetric.identity(n, trace.dtype)
    core = np.zeros_like(trace, shape=(n,) * e)
    for j, weight in enumerate(_radial_weights(d, r, n)):
        core = core + weight * TracePart(trace, j, identity).dense(e, n)
        if e - 2 * j >= 2:
            trace = diagonal(trace, (*(1,) * (e - 2 * j - 2), 2)).sum(axis=-1)
    return core


def _radial_weights(d: int, r: int, n: int) -> list[float]:
    """β_j: they undo what Δ^r does to |x|^2k h, h harmonic of degree d - 2k, for every k ≥ r."""

    def lowering(top: int, times: int, k: int) -> int:  # Δ^times |x|^2top h = this · |x|^… h
        degree = d - 2 * k
        steps = range(top - times + 1, top + 1)
        return prod(2 * s * (2 * s + 2 * degree + n - 2) for s in steps)

    a: list[float] = []
    for k in range(r, d // 2 + 1):  # Σ_j a_j |x|^2j Δ^j Δ^r must give back |x|^2(k-r) h
        known = sum(a_j * lowering(k - r, j, k) for j, a_j in enumerate(a))
        a.append((1 / lowering(k, r, k) - known) / lowering(k - r, k - r, k))
    return [a_j * factorial(d) / factorial(d - 2 * r - 2 * j) for j, a_j in enumerate(a)]


class Metric:
    """M = W Wᵀ, what a linear map makes of an identity factor; each part computed once, if read."""

    def __init__(self, weight: Array) -> None:
        self._weight = weight

    @cached_property
    def matrix(self) -> Array:
        return self._weight @ transposed(self._weight)

    @cached_property
    def diagonal(self) -> Array:
        squares: Array = (self._weight * self._weight).sum(axis=-1)
        return squares


class DiagonalMetric:
    """A diagonal metric: the identity of X itself, or the average metric's design value."""

    def __init__(self, diagonal: Array) -> None:
        self.diagonal = diagonal

    @classmethod
    def identity(cls, n: int, dtype: np.dtype[Any]) -> DiagonalMetric:
        return cls(counted(np.ones(n, dtype)))

    @cached_property
    def matrix(self) -> Array:
        return np.diag(self.diagonal)


@dataclass(frozen=True, eq=False)
class TracePart:
    """A cumulant kept as Sym(A ⊗ M^r); r = 0 is the full tensor A."""

    core: Array
    r: int = 0
    metric: Metric | DiagonalMetric | None = None

    def slice(self, u: Block) -> Array:
        """The slice u, averaged over the ways to deal its legs to A and to M."""
        if self.r == 0:
            return diagonal(self.core, u)
        terms = []
        for dealing in dealings(u, self.r):
            core_axes = support(dealing.core)
            core = diagonal(self.core, tuple(dealing.core[a] for a in core_axes))
            factors = [(core_axes, core), *(self._pair(a, b) for a, b in dealing.pairs)]
            terms.append(broadcast_product(factors, len(u), float(dealing.weight)))
        return reduce(add, terms)

    def _pair(self, a: int, b: int) -> tuple[tuple[int, ...], Array]:
        assert self.metric is not None
        return ((a,), self.metric.diagonal) if a == b else ((a, b), self.metric.matrix)

    def dense(self, d: int, n: int) -> Array:
        """The full tensor of order d in dimension n."""
        if self.r == 0:
            return self.core
        slices = {}
        for u in partitions(d):
            full = np.broadcast_to(self.slice(u), (n,) * len(u), subok=True)
            slices[u] = zero_coincidences(np.copy(full, subok=True))
        return assemble(slices, d, n, like=self.core)

    def transform(self, weight: Array, metric: Metric | DiagonalMetric) -> TracePart:
        """The linear map Z = W X: W on every leg of the core, the metric for every identity."""
        return TracePart(transform_legs(self.core, weight), self.r, metric if self.r else None)


def from_left(map_: Array, leg: Array) -> Array:
    """A matrix, or a diagonal one given as a vector, times a leg (n, R)."""
    product: Array = map_ @ leg if map_.ndim == 2 else map_[:, None] * leg
    return product


def transform_legs(tensor: Array, weight: Array) -> Array:
    """Multiply every leg of a tensor by W: 2 d n^(d+1) FLOPs at equal widths.

    >>> transform_legs(np.eye(2), np.array([[1.0, 2.0]])).tolist()
    [[5.0]]
    """
    for axis in range(tensor.ndim):
        before, after = tensor.shape[:axis], tensor.shape[axis + 1 :]
        if after:
            flat = tensor.reshape(*before, tensor.shape[axis], prod(after))
            tensor = (weight @ flat).reshape(*before, len(weight), *after)
        else:
            tensor = tensor @ weight.T
    return tensor


Factor = tuple[tuple[int, ...], Array]
"""An array and the neurons (axes, ascending) its dimensions stand for."""


def broadcast_product(factors: Sequence[Factor], m: int, weight: float = 1.0) -> Array:
    """weight · Π factors over m neurons, small products first."""
    waiting = [(axes, _on_axes(array, axes, m)) for axes, array in factors]
    axes, first = waiting[0]
    waiting[0] = axes, first * weight if weight != 1.0 else first
    for i, j in _product_order(tuple(axes for axes, _ in waiting)):
        (axes_j, b), (axes_i, a) = waiting.pop(j), waiting.pop(i)
        waiting.append((_union(axes_i, axes_j), a * b))
    return waiting[0][1]


def _on_axes(array: Array, axes: tuple[int, ...], m: int) -> Array:
    if len(axes) == m:
        return array
    lengths = dict(zip(axes, array.shape, strict=True))
    return array.reshape([lengths.get(axis, 1) for axis in range(m)])


@cache
def _product_order(axes: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, int], ...]:
    """Pairs (i, j), i < j, to multiply one after the other: the smallest result first."""
    if len(axes) == 1:
        return ()

    def size(pair: tuple[int, int]) -> tuple[int, int]:
        a, b = axes[pair[0]], axes[pair[1]]
        return len(_union(a, b)), -len(set(a) & set(b))

    i, j = min(combinations(range(len(axes)), 2), key=size)
    rest = tuple(a for k, a in enumerate(axes) if k not in (i, j))
    return ((i, j), *_product_order((*rest, _union(axes[i], axes[j]))))


def _union(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({*a, *b}))
