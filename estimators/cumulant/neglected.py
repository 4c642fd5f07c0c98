"""Terms that an order leaves out, to first order: third cumulants and common bends of neurons."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import HermiteTable
from cumprop.flops import counted, detached, not_counting

from .batches import applied
from .standardised import Coefficients, Standardised, variances

Array = NDArray[Any]

PROBES = 8
"""The number of sums of outputs with random signs that estimate the sum of output variances."""
PAIR_PROBES = 2
"""The number of sums of pre-activations with random signs that estimate common bends."""
NO_SLOPE = 1e-6
"""The least share of the linear part in a neuron's s.d. that passes covariance on."""


@dataclass(frozen=True)
class Unrecorded:
    """w(k,p) without gradients, in the type of the weights."""

    table: Coefficients
    dtype: Any
    known: dict[tuple[int, int], Array] = field(default_factory=dict)

    @property
    def tolerance(self) -> float:
        return self.table.tolerance

    @property
    def size(self) -> float:
        return self.table.size

    def __call__(self, k: int, p: int) -> Array:
        found = self.known.get((k, p))
        if found is None:
            w = unrecorded(self.table(k, p))
            found = self.known[k, p] = w if w.dtype == self.dtype else w.astype(self.dtype)
        return found


Table = HermiteTable | Unrecorded
"""w(k,p) without gradients, in the type of the weights."""


def without_gradients(table: Coefficients, dtype: Any) -> Table:
    """The coefficients without gradients, in this type: mostly the table itself."""
    if isinstance(table, HermiteTable):
        mean = table(0, 1)
        if isinstance(mean, np.ndarray) and mean.dtype == dtype:
            return table
    return Unrecorded(table, dtype)


@dataclass
class Incoming:
    """The map X̂_{l-1} -> Ẑ_l of a layer: `inverse` times `weight`, whose `squares` are W∘W.

    `inverse_squares` are those of `inverse`. The squares are None for the first layer, whose inputs
    have no errors.
    """

    weight: Array
    inverse: Array
    inverse_squares: Array
    squares: Array | None

    @classmethod
    def of(cls, z: Standardised, squares: Array | None) -> Incoming:
        """The map of a layer."""
        inverse = unrecorded(z.inverse)
        return cls(unrecorded(z.affine.weight), inverse, inverse * inverse, squares)

    def means(self, x: Array) -> Array:
        """The means of Ẑ from those of X̂."""
        return self.inverse * applied(self.weight, x)

    def variances(self, x: Array) -> Array:
        """The variances of Ẑ from those of independent X̂."""
        assert self.squares is not None
        variances: Array = self.inverse_squares * applied(self.squares, x)
        return variances

    def third_cumulants(
        self, w: Table, variance: Array, before: Array | None, half: Array | None
    ) -> Array:
        """The slice κ_iii of Ẑ from the nonlinearity, with coefficients w, that made X̂.

        `variance` is that of X̂, `before` its covariance and `half` = W · `before`, where known.
        """
        assert self.squares is not None
        first, slope = w(0, 1), w(1, 1)
        own = w(0, 3) - first * (3 * variance + first * first)
        third = applied(self.squares * self.weight, own)
        if before is not None:
            half = unrecorded(self.weight @ before if half is None else half)
            with not_counting():
                tiny = float(np.finfo(slope.dtype).tiny)
                passed = slope / np.maximum(slope * slope, NO_SLOPE**2 * variance + tiny)
            once, twice = (w(1, 2) - 2 * first * slope) * passed, w(2, 1) * passed * passed
            left = half - self.weight * variances(unrecorded(before))[..., None, :]
            both = self.weight * left
            third = third + 3 * (applied(self.weight * both, once) + applied(both * left, twice))
        return third * self.inverse_squares * self.inverse

    def transposed(self, slope: Array, v: Array) -> Array:
        """The products of the transpose with diag(`slope`) v, v (n, m)."""
        product: Array = self.weight.T @ ((slope * self.inverse)[..., None] * v)
        return product


def unrecorded(array: Any) -> Any:
    """The counted array, of a PyTorch tensor without the record of autograd."""
    return array if isinstance(array, np.ndarray) else detached(array)


def common_bends(
    second: Array, third: Array, C: Array, squares: Array, outward: Array, independent: Array
) -> float:
    """The common part of the bends of any two neurons, as a share of the next layer's variance.

    Cov[X_i, X_k] = w1 w1 C + w2 w2 C²/2 + w3 w3 C³/6 + …: the terms beyond the first, i ≠ k, add up
    where few directions carry Ẑ. Their sum is relative to the variance of the next layer for
    `independent` neurons, averaged over its neurons; `outward` are the weights to them. Cost:
    about 25 n² FLOPs.
    """
    n = len(independent)
    signs = counted(random_signs(n, PAIR_PROBES))
    rows = np.sqrt(quotient(np.ones_like(independent), independent))[:, None]
    v = outward.T @ (rows * like(outward, signs))
    total = 0.0
    for k, w, powers in ((2, second, squares), (3, third, squares * C)):
        bends = w[:, None] * v
        total += float((bends * (powers @ bends) - bends * bends).sum()) / factorial(k)
    return total / (n * PAIR_PROBES)


def like(array: Array, host: Array) -> Any:
    """The numbers of `host` as an array of the kind, type and place of another."""
    if isinstance(array, np.ndarray):
        return counted(host).astype(array.dtype)
    like = np.zeros_like(array, shape=host.shape)
    with not_counting():  # a copy
        return like + host.astype(array.dtype)


def probes(n: int) -> tuple[Array, float]:
    """Vectors g (n, m) of n outputs and a share, with Σ Var Y ≈ share · Σ_m Var[g_mᵀ Y].

    They are all unit vectors if these are no more than `PROBES`, else random signs.
    """
    if n <= PROBES:
        return counted(np.eye(n)), 1.0
    return counted(random_signs(n, PROBES)), 1 / PROBES


@lru_cache(maxsize=32)
def random_signs(n: int, m: int) -> Array:
    """Random signs (n, m), always the same ones."""
    signs: Array = np.random.default_rng(0).choice((-1.0, 1.0), (n, m))
    signs.setflags(write=False)
    return signs


def quotient(a: Array, b: Array) -> Array:
    """The quotient a / b, and 0 where b is 0."""
    quotient: Array = a / np.where(b > 0, b, np.inf)
    return quotient
