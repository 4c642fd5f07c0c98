"""Terms that an order leaves out, to first order: third cumulants and common bends of neurons."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import counted, detached, not_counting

from .standardised import Coefficients
from .symmetric_tensors import diagonal

Array = NDArray[Any]

PROBES = 8
"""The number of sums of outputs with random signs that estimate the sum of output variances."""
PAIR_PROBES = 2
"""The number of sums of pre-activations with random signs that estimate common bends."""
NO_SLOPE = 1e-6
"""The least share of the linear part in a neuron's s.d. that passes covariance on."""


@dataclass(frozen=True)
class Detached:
    """w(k,p) without gradients, in the type of the weights."""

    table: Coefficients
    dtype: Any
    known: dict[tuple[int, int], Array] = field(default_factory=dict)

    @property
    def size(self) -> float:
        return self.table.size

    def __call__(self, k: int, p: int) -> Array:
        if (k, p) not in self.known:
            w = detached(self.table(k, p))
            self.known[k, p] = w if w.dtype == self.dtype else w.astype(self.dtype)
        return self.known[k, p]


@dataclass(frozen=True)
class Layer:
    """A hidden layer X̂ = centre + slope Ẑ + rest, with `variance`; `bent` is that of the rest.

    `weight` is the map to Ẑ, `squares` the squares of the next map. `effect` is the shift of E[X̂]
    by cumulants beyond the second, `scattered` its square if neurons are independent, and `rounded`
    the expected squared error of arithmetic in E[X̂]. `before` is Cov[X̂_{l-1}], None for neurons
    that are `independent` with these variances (None: 1).
    """

    w: Detached
    weight: Array
    slope: Array
    variance: Array
    bent: Array
    effect: Array
    scattered: Array
    rounded: Array
    squares: Array
    before: Array | None
    independent: Array | None


def third_cumulants(
    weight: Array, squares: Array, last: Layer, before: Array | None, half: Array | None
) -> Array:
    """The slice κ_iii of Ẑ from the nonlinearity that made X̂."""
    first, second, third = (last.w(0, p) for p in (1, 2, 3))
    cubes: Array = (squares * weight) @ (third - 3 * second * first + 2 * first**3)
    if before is None:
        return cubes
    half = weight @ detached(before) if half is None else half
    with not_counting():
        linear = last.slope * last.slope > NO_SLOPE**2 * last.variance
        inverse = np.where(linear, 1 / np.where(linear, last.slope, 1), 0)
    A = (half - weight * diagonal(detached(before), (2,))) * inverse
    tau = last.w(1, 2) - 2 * first * last.slope
    pairs = (squares * tau + weight * (last.w(2, 1) * A)) * A
    found: Array = cubes + 3 * pairs.sum(axis=1)
    return found


def common_bends(
    w: Detached, C: Array, squares: Array, outward: Array, independent: Array
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
    for k, powers in ((2, squares), (3, squares * C)):
        bends = w(k, 1)[:, None] * v
        total += float((bends * (powers @ bends) - bends * bends).sum()) / factorial(k)
    return total / (n * PAIR_PROBES)


def like(array: Array, host: Array) -> Any:
    """The numbers of `host` as an array of the kind, type and place of another."""
    like = np.zeros_like(array, shape=host.shape)
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
