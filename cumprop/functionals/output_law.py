"""The law of the outputs as points: Gaussian ones, bent so that third cumulants are right.

With a root R of the covariance, z ~ N(0, I) and the third cumulants κ of the whitened outputs,

    y = E[Y] + R (z + κ:(z zᵀ − I) / 6)

has the mean and, to first order in κ, the covariance and third cumulants of Y: Cornish and Fisher's
expansion. It changes an expectation as the weights 1 + κ He_3(z) / 6 of Edgeworth's series do, to
that order, but needs no negative weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import Estimate
from cumprop.contract.laws import QUANTILE
from cumprop.errors import CumpropError
from cumprop.flops import count, counted, on_host, plain
from cumprop.memory import check_memory
from cumprop.networks import MLP
from cumprop.sampling import Inputs

Array = NDArray[Any]

RIDGE = 0.01
"""The share of the largest variance below which directions are nearly Gaussian: the third
cumulants of whitened outputs divide by variances, whose errors are large there."""
BENT = 64
"""The most directions that are bent: those of the largest variances."""


@dataclass(frozen=True, eq=False)
class OutputLaw:
    """Mean (k,), root (k, q) and bend (b, b, b) of k outputs, with their expected errors.

    `bend` are the third cumulants κ in the first b directions of the root, None where they are not
    known. `mean_error` (k,) is the expected error of each mean, `std_error` the relative one of
    standard deviations.
    """

    mean: Array
    root: Array
    bend: Array | None
    mean_error: Array
    std_error: float

    @classmethod
    def of(cls, found: Estimate) -> Self:
        """The law with the moments of an estimate that has a covariance. Cost: 9 k³ and 2 b³ R.

        Raises CumpropError for numbers that are not finite.
        """
        mean, cov = (on_host(a).astype(np.float64) for a in (found.mean, found.cov))
        if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
            raise CumpropError(
                "moments of the outputs are not finite; take monte_carlo, or float64"
            )
        variances, axes = np.linalg.eigh(cov)
        count(9 * len(mean) ** 3)
        variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
        kept = variances > variances[0] * np.finfo(np.float32).eps
        variances, axes = variances[kept], axes[:, kept]
        sizes, bend = np.sqrt(variances), None
        if found.third is not None:
            whiten = (axes * (sizes / (variances + RIDGE * variances[:1]))).T[:BENT]
            legs = (counted(on_host(leg).astype(np.float64)) for leg in vars(found.third).values())
            bend = plain(type(found.third)(*legs).mapped(whiten).full())
        widths = np.zeros(len(mean)) if found.half_width is None else on_host(found.half_width)
        return cls(
            mean, axes * sizes, bend, widths / QUANTILE, float(found.expected_std_error or 0.0)
        )

    def normals(self, n_points: int, rng: np.random.Generator) -> Array:
        """Scrambled Sobol points as rows z, (n_points, q); row j belongs to scrambling j mod 8."""
        q = self.root.shape[1]
        check_memory(8 * n_points * (3 * q + 6 * len(self.mean)))
        if not q:
            return np.zeros((n_points, 0))
        batches = Inputs(MLP([np.eye(q)]), "sobol").batches(rng, n_points)
        return np.concatenate([batch.x.copy() for batch in batches])

    def gaussian(self, z: Array) -> Array:
        """The outputs (N, k) at these points were they Gaussian."""
        y: Array = self.mean + counted(z) @ self.root.T
        return y

    def points(self, z: Array) -> Array:
        """The outputs (N, k) at these points. Cost: 2 N b³ FLOPs."""
        if self.bend is None or not self.bend.size:
            return self.gaussian(z)
        z = counted(z)
        leading = z[:, : len(self.bend)]
        bends = [((leading @ slab) * leading).sum(axis=1) - slab.trace() for slab in self.bend]
        changed = z + 0.0
        changed[:, : len(self.bend)] += np.stack(bends, axis=1) * (1 / 6)
        y: Array = self.mean + changed @ self.root.T
        return y

    def moved(self, y: Array, signs: Array) -> Array:
        """The outputs y, (N, k), with errors of these signs, (2, k), in means and in deviations."""
        scale = 1 + self.std_error * signs[1]
        errors: Array = self.mean_error * signs[0] + (counted(y) - self.mean) * scale
        return self.mean + errors
