"""The law of a random input x: its moments, its samples, and how a network takes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from functools import reduce
from itertools import combinations
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop.errors import CumpropError
from cumprop.memory import free_memory

Array = NDArray[Any]


class Law(ABC):
    """The law of a random vector x of n numbers (mathematics §1).

    Numbers given where n are needed stand for n equal ones; `sized` tells a law its `n`, which is
    None before.
    """

    n: ClassVar[int | None] = None

    def sized(self, n: int) -> Self:
        """The law of n numbers; raises CumpropError where it is one of another number.

        Cost: once checked, a law is not checked again.
        """
        if self.n == n:
            return self
        found = self._sized(n)
        object.__setattr__(found, "n", n)
        return found

    @abstractmethod
    def _sized(self, n: int) -> Self:
        """A copy with parameters of full shape, checked."""

    @property
    @abstractmethod
    def mean(self) -> Array:
        """The mean E[x], (n,)."""

    @property
    @abstractmethod
    def cov(self) -> Array:
        """The covariance Cov[x], (n, n)."""

    @abstractmethod
    def cumulant(self, order: int) -> Array:
        """The cumulant of order 1 to 4: an array (n,), (n, n), (n, n, n) or (n, n, n, n).

        Raises CumpropError for another order, and where n^order numbers do not fit in memory.
        """

    @abstractmethod
    def sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        """Independent samples, rows of an array (n_samples, n)."""

    @property
    @abstractmethod
    def words(self) -> str:
        """The law in a few characters, as `repr(MLP)` shows it."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.words})"


def sized_law(law: Law, n: int) -> Law:
    """The law of n numbers; raises CumpropError where it is no law, or one of another number."""
    if not isinstance(law, Law):
        raise CumpropError(f"input is {law!r}; give a law such as cumprop.inputs.Uniform(0, 1)")
    return law.sized(n)


def alike(a: Any, b: Any) -> bool:
    """Whether two laws of known n have the same type and the same parameters.

    Distributions of scipy.stats are the same only if they are one object.

    >>> from cumprop.inputs import Gaussian
    >>> alike(Gaussian(0.0, 1.0).sized(2), Gaussian([0.0, 0.0], [1.0, 1.0]).sized(2))
    True
    """
    if isinstance(a, Law):
        names = [f.name for f in fields(a)]  # type: ignore[arg-type]
        same = (alike(getattr(a, name), getattr(b, name)) for name in names)
        return type(a) is type(b) and all(same)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return bool(np.array_equal(a, b))


def check_order(order: int, n: int) -> None:
    """Raise CumpropError for an order that is not 1 to 4, or n^order numbers that do not fit."""
    if order not in (1, 2, 3, 4):
        raise CumpropError(f"cumulants of order {order!r} are not known; take 1 to 4")
    needed, free = 8 * n**order, free_memory()
    if 4 * needed > free:
        raise CumpropError(
            f"the cumulant of order {order} of {n} inputs takes {needed / 1e9:.3g} GB; "
            f"{free / 1e9:.3g} GB are free"
        )


def sized_vector(values: ArrayLike, n: int, name: str) -> Array:
    """A number or vector as a vector of n finite numbers; raises CumpropError for others.

    >>> sized_vector(2, 3, "low").tolist()
    [2.0, 2.0, 2.0]
    """
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise CumpropError(f"{name} is no list of numbers; give {n} numbers, or one") from None
    if vector.shape not in ((), (n,)):
        raise CumpropError(f"{name} has shape {vector.shape}; give ({n},) or a number")
    if not np.isfinite(vector).all():
        raise CumpropError(f"{name} contains NaN or infinite entries; replace them")
    return np.broadcast_to(vector, (n,)).copy()


def in_words(values: ArrayLike, name: str) -> str:
    """The number that all values are, in four digits, or else the name of the vector.

    >>> in_words([0.5, 0.5], "mean"), in_words([0.5, 1.0], "mean")
    ('0.5', 'mean')
    """
    array = np.asarray(values)
    return f"{array.flat[0]:.4g}" if (array == array.flat[0]).all() else name


def symmetrised(*factors: Array) -> Array:
    """The sum over all distinct ways to deal out the axes to symmetric factors.

    >>> symmetrised(np.eye(2), np.array([1.0, 0.0]))[0].tolist()       # 3 terms of δ_ij v_k
    [[3.0, 0.0], [0.0, 1.0]]
    """
    axes = sum(factor.ndim for factor in factors)
    product = reduce(np.multiply.outer, factors)
    total: Array = np.sum(
        [np.moveaxis(product, range(axes), order) for order in _deals(range(axes), factors)], axis=0
    )
    return total


def _deals(axes: Sequence[int], factors: Sequence[Array]) -> list[tuple[int, ...]]:
    """Orders of the axes that give different terms; one factor given twice is not told apart."""
    if not factors:
        return [()]
    first, rest = factors[0], factors[1:]
    found = []
    for chosen in combinations(axes, first.ndim):
        left = [a for a in axes if a not in chosen]
        found += [chosen + others for others in _deals(left, rest)]
    if rest and all(f is first for f in rest):
        found = [deal for deal in found if _falling(deal, first.ndim)]
    return found


def _falling(deal: tuple[int, ...], length: int) -> bool:
    """Whether the groups of a deal are in the order of their first axes."""
    starts = deal[::length]
    return list(starts) == sorted(starts)
