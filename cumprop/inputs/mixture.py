"""Mixtures of laws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop.errors import CumpropError
from cumprop.inputs.law import Law, check_order, symmetrised

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Mixture(Law):
    """The law that is `components[c]` with probability `weights[c]`; `weights` are (m,) for m laws.

    Estimates under it are weighted sums over its components, exactly (law of total covariance).
    Raises CumpropError, once n is known, for weights that are no probabilities, and components that
    are no laws or are rows of data.

    >>> from cumprop.inputs import Gaussian
    >>> law = Mixture([0.5, 0.5], [Gaussian(-1.0, 0.25), Gaussian(1.0, 0.25)]).sized(1)
    >>> law.mean.tolist(), law.cov.tolist(), law.cumulant(4).ravel().tolist()
    ([0.0], [[1.25]], [-2.0])
    """

    weights: ArrayLike
    components: Sequence[Law]

    def _sized(self, n: int) -> Self:
        weights = np.asarray(self.weights, dtype=np.float64)
        components = list(self.components)
        if weights.shape != (len(components),) or not len(weights):
            raise CumpropError(f"{len(components)} components have weights {weights.shape}")
        if not (weights >= 0).all() or abs(weights.sum() - 1) > 1e-6:
            raise CumpropError("weights of a mixture are no probabilities; give some that sum to 1")
        for component in components:
            if not isinstance(component, Law) or hasattr(component, "rows"):
                raise CumpropError(f"{component!r} is no component of a mixture; give a law")
        kept = [(w, c.sized(n)) for w, c in zip(weights, components, strict=True) if w > 0]
        total = sum(w for w, _ in kept)
        return replace(self, weights=[w / total for w, _ in kept], components=[c for _, c in kept])

    @property
    def parts(self) -> list[tuple[float, Law]]:
        """The components with their weights; those of weight 0 are left out."""
        return list(zip(map(float, np.asarray(self.weights)), self.components, strict=True))

    @property
    def mean(self) -> Array:
        return self._average(lambda law: law.mean)

    @property
    def cov(self) -> Array:
        return self.cumulant(2)

    def cumulant(self, order: int) -> Array:
        mean = self.mean
        check_order(order, len(mean))
        if order == 1:
            return mean
        found = self._average(lambda law: _central_moment(law, law.mean - mean, order))
        if order < 4:
            return found
        cov = self.cumulant(2)
        return found - symmetrised(cov, cov)

    def _average(self, of: Any) -> Array:
        total: Array = sum(weight * of(law) for weight, law in self.parts)
        return total

    def sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        weights, laws = zip(*self.parts, strict=True)
        chosen = rng.choice(len(laws), n_samples, p=weights)
        x = np.empty((n_samples, len(self.mean)))
        for c, law in enumerate(laws):
            rows = chosen == c
            x[rows] = law.sample(int(rows.sum()), rng)
        return x

    @property
    def words(self) -> str:
        return f"mixture of {len(self.components)}"


def _central_moment(law: Law, shift: Array, order: int) -> Array:
    """The moment E[(x - E[x] + shift)⊗order] of a law, from its cumulants."""
    cov, d = law.cumulant(2), shift
    if order == 2:
        return cov + np.multiply.outer(d, d)
    if order == 3:
        return law.cumulant(3) + symmetrised(cov, d) + symmetrised(d, d, d)
    return (
        law.cumulant(4)
        + symmetrised(law.cumulant(3), d)
        + symmetrised(cov, cov)
        + symmetrised(cov, np.multiply.outer(d, d))
        + symmetrised(d, d, d, d)
    )
