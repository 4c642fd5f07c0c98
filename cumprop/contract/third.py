"""Third cumulants of the outputs, as sums of products of legs (mathematics §4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cumprop.memory import check_memory

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ThirdCumulants:
    """The third cumulants κ_3 = Sym Σ_r a_r ⊗ b_r ⊗ c_r of n outputs; each leg is (n, R).

    Sym is the mean over the six orders of the legs. `full` forms the tensor (n, n, n).

    >>> one = ThirdCumulants(*np.ones((3, 2, 1)))
    >>> one.full()[0, 0].tolist(), one.mapped(2 * np.eye(2)).full()[0, 0].tolist()
    ([1.0, 1.0], [8.0, 8.0])
    """

    a: Array
    b: Array
    c: Array

    @classmethod
    def none(cls, like: Array) -> Self:
        """No third cumulants of the outputs `like` (n,)."""
        return cls(*(np.zeros_like(like, shape=(len(like), 0)) for _ in range(3)))

    @classmethod
    def of_tensor(cls, tensor: Array) -> Self:
        """The legs of a symmetric tensor (n, n, n), R = n²."""
        n, zero = len(tensor), np.zeros_like(tensor[0])
        one = np.eye(n, dtype=tensor.dtype) + zero
        repeated = np.hstack([one[:, i][:, None] + zero for i in range(n)])
        return cls(np.hstack([one] * n), repeated, tensor.reshape(n * n, n).T)

    def mapped(self, matrix: Array) -> Self:
        """The third cumulants of `matrix` Y, matrix (m, n). Cost: 6 m n R FLOPs."""
        return type(self)(*(matrix @ leg for leg in (self.a, self.b, self.c)))

    def full(self) -> Array:
        """The symmetric tensor (n, n, n).

        Raises CumpropError where it does not fit in memory. Cost: 2 n³ R FLOPs, and n² R numbers.
        """
        n, terms = self.a.shape
        check_memory(self.a.dtype.itemsize * (n * n * terms + 3 * n**3))
        pairs = self.b[:, None] * self.c
        half = (self.a @ pairs.reshape(n * n, terms).T).reshape(n, n, n)
        half = half + half.swapaxes(1, 2)
        total: Array = half + half.swapaxes(0, 1) + half.swapaxes(0, 2)
        return total * (1 / 6)
