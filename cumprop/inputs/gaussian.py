"""Gaussian inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop.errors import CumpropError
from cumprop.inputs.arrays import numbers
from cumprop.inputs.covariances import compact, full
from cumprop.inputs.law import Law, check_order, in_words, sized_vector

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Gaussian(Law):
    """The law N(location, scatter), a number or (n,), and a number, (n,) or (n, n).

    `scatter` is the covariance: a multiple of I, a diagonal or a matrix. Raises CumpropError, once
    n is known, for shapes that do not fit and for a matrix that is no covariance.

    >>> law = Gaussian(0.5, [4.0, 1.0]).sized(2)
    >>> law, law.cov.tolist(), law.given([[0.6, 0.8]], [1.0]).mean.round(2).tolist()
    (Gaussian(N(0.5, diag)), [[4.0, 0.0], [0.0, 1.0]], [1.7, 1.3])
    """

    location: ArrayLike = 0.0
    scatter: ArrayLike = 1.0

    def _sized(self, n: int) -> Self:
        cov = compact(numbers(self.scatter, "input_cov"), n, np.dtype(np.float64))
        return replace(self, location=sized_vector(self.location, n, "input_mean"), scatter=cov)

    @property
    def mean(self) -> Array:
        return np.atleast_1d(np.asarray(self.location, dtype=np.float64))

    @property
    def cov(self) -> Array:
        return full(np.asarray(self.scatter, dtype=np.float64), len(self.mean))

    def cumulant(self, order: int) -> Array:
        n = len(self.mean)
        check_order(order, n)
        return self.mean if order == 1 else self.cov if order == 2 else np.zeros((n,) * order)

    def sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        return rng.multivariate_normal(self.mean, self.cov, n_samples, method="eigh")

    @property
    def words(self) -> str:
        cov = np.asarray(self.scatter)
        number = {0.0: "0", 1.0: "I"}.get(float(cov.flat[0]), f"{cov.flat[0]:.4g} I")
        return f"N({in_words(self.location, 'mean')}, {(number, 'diag', 'full')[cov.ndim]})"

    def given(self, directions: ArrayLike, values: ArrayLike) -> Gaussian:
        """The law under Uᵀz = values, x = mean + S z, z ~ N(0, I), S the symmetric root of cov.

        `directions` are k orthonormal rows Uᵀ, (k, n), and `values` k numbers. Raises CumpropError
        for other shapes and for rows that are not orthonormal. Cost: n³.
        """
        u, s = (
            np.atleast_2d(np.asarray(directions, float)),
            np.atleast_1d(np.asarray(values, float)),
        )
        n = len(self.mean)
        if u.shape != (len(s), n) or not np.allclose(u @ u.T, np.eye(len(s))):
            raise CumpropError(
                f"directions have shape {u.shape}; give orthonormal rows ({len(s)}, {n}), "
                "one for each value"
            )
        size, axes = np.linalg.eigh(self.cov)
        root = (axes * np.sqrt(np.maximum(size, 0))) @ axes.T
        rest = root @ (np.eye(n) - u.T @ u)
        return Gaussian(self.mean + root @ (s @ u), rest @ rest.T)
