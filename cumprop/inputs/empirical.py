"""Rows of data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop.errors import CumpropError
from cumprop.inputs.gaussian import Gaussian
from cumprop.inputs.law import Law, check_order, symmetrised
from cumprop.inputs.mixture import Mixture

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Empirical(Law):
    """The law that `rows`, (N, n), are independent samples of, known by them alone.

    Estimators that sample average over the rows; others need a law that was fitted to them
    (`smoothed`). Cumulants are those of the rows themselves. Raises CumpropError for rows that are
    no matrix of finite numbers.

    >>> law = Empirical([[0.0], [1.0], [2.0], [5.0]]).sized(1)
    >>> law.mean.tolist(), law.cov.tolist(), law.smoothed(1)
    ([2.0], [[3.5]], Gaussian(N(2, 3.5 I)))
    """

    rows: ArrayLike

    def _sized(self, n: int) -> Self:
        rows = np.asarray(self.rows, dtype=np.float64)
        if rows.ndim == 1 and n == 1:
            rows = rows[:, None]
        if rows.ndim != 2 or rows.shape[1] != n or not len(rows):
            raise CumpropError(f"rows of data have shape {rows.shape}; give (N, {n})")
        if not np.isfinite(rows).all():
            raise CumpropError("rows of data contain NaN or infinite entries; replace them")
        return replace(self, rows=rows)

    @property
    def n_rows(self) -> int:
        """The number of rows N."""
        return len(np.asarray(self.rows))

    @property
    def mean(self) -> Array:
        mean: Array = np.asarray(self.rows).mean(axis=0)
        return mean

    @property
    def cov(self) -> Array:
        return self.cumulant(2)

    def cumulant(self, order: int) -> Array:
        rows = np.asarray(self.rows)
        check_order(order, rows.shape[1])
        if order == 1:
            return self.mean
        letters = "ijkl"[:order]
        terms = ",".join(f"r{letter}" for letter in letters)
        found: Array = np.einsum(
            f"{terms}->{letters}", *[rows - self.mean] * order, optimize=True
        ) / len(rows)
        return found - symmetrised(*[self.cumulant(2)] * 2) if order == 4 else found

    def sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        rows = np.asarray(self.rows)
        return rows[rng.integers(len(rows), size=n_samples)]

    def smoothed(self, components: int, seed: int = 0) -> Gaussian | Mixture:
        """The Gaussian of the rows' mean and covariance, or a mixture of so many, fitted by EM.

        Columns may have any units. Raises CumpropError for more components than rows, and without
        scikit-learn. Cost: EM, about 100 N n² FLOPs per component.
        """
        rows = np.asarray(self.rows)
        if not 1 <= components <= len(rows):
            raise CumpropError(f"{components} components of {len(rows)} rows; give 1 to the rows")
        n = rows.shape[1]
        if components == 1:
            return Gaussian(self.mean, self.cov).sized(n)
        return self._mixture(rows, components, seed)

    def _mixture(self, rows: Array, components: int, seed: int) -> Mixture:
        """The mixture, fitted to standardised columns: scikit-learn adds 1e-6 to variances."""
        try:
            from sklearn.mixture import GaussianMixture
        except ImportError:
            raise CumpropError("scikit-learn is not installed: pip install scikit-learn") from None
        mean, unit = rows.mean(axis=0), rows.std(axis=0) * (np.ptp(rows, axis=0) > 0)
        standardised = (rows - mean) / np.where(unit > 0, unit, 1)
        try:
            found = GaussianMixture(components, random_state=seed).fit(standardised)
        except ValueError:
            raise CumpropError(
                f"no mixture of {components} fits {len(rows)} rows; give fewer components"
            ) from None
        laws = [
            Gaussian(mean + unit * m, c * unit * unit[:, None])
            for m, c in zip(found.means_, found.covariances_, strict=True)
        ]
        return Mixture(found.weights_, laws).sized(len(mean))

    @property
    def words(self) -> str:
        return f"{self.n_rows:,} rows"
