"""Backend `adaptive`: the orders, or samples, that meet a tolerance (mathematics §10)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import chdtri

from cumprop import streams
from cumprop.contract import Cost, Estimate, Estimator, build, register
from cumprop.contract.any_input import statuses
from cumprop.errors import CumpropError
from cumprop.networks import MLP, Shape
from cumprop.sampling import FEWEST, block_size

from ..blend.weights import CONFIDENCE
from .answers import SAMPLED
from .decision import SPREAD
from .error_laws import CANDIDATES, Expansion, effective_inputs
from .search import Search

TYPICAL_UNEXPLAINED = 0.2
"""The unexplained share of a layer of random networks, for predicted costs."""
TYPICAL_GAIN = {"antithetic": 0.6, "orthogonal": 0.25}
"""The variance per sample on random networks relative to iid samples, for predicted costs."""


@register("adaptive")
@dataclass(frozen=True)
class Adaptive(Estimator):
    """Means to an RMS error of `tolerance` output standard deviations (mathematics §10).

    The orders 2, 3, tree and 4 of `cumulant` run one after the other while sampling would cost
    more. An order is the answer only if its expected error, times 1.3 where the network looks
    random (`contract.looks_random`) and times 2 elsewhere, is within the tolerance, and if at least
    `screen` passes agree with its means of all layers. Otherwise samples are the answer; where the
    network looks random they are averaged with the last order, weighted by its expected error.
    Samples are drawn until the means, and with `cov` the standard deviations, meet the tolerance
    with 95% confidence, at most `most_samples`. `half_width` are 95% intervals; `status` names the
    choice and its reason. Without an `rng`, inputs are those of seed 0.

    Errors "in output standard deviations" are √(Σ squared errors / Σ variances), both sums over the
    outputs. The tolerance therefore bounds the error of an output relative to the typical output,
    not relative to its own standard deviation. Outputs that vary by no more than rounding count as
    constants. Samples replace an order that fails or gives numbers that are not finite. Raises
    CumpropError for parameters out of range.
    Cost: the sum over everything that was run, also orders that were not accurate enough. It is
    typically at most C₁ + C₂ + max(64 passes, (C₁ + C₂)/10), where C₁ is the cost of the cheapest
    order or sampling that meets the tolerance and C₂ that of the next.

    >>> import cumprop
    >>> network = cumprop.random_mlp(width=64, depth=2, seed=0)
    >>> cumprop.estimate(network, "adaptive", tolerance=0.01).status.split(",")[0]
    'order 3'
    """

    version: ClassVar[int] = 3
    tolerance: float = 0.01
    screen: int = 32
    most_samples: int = 100_000_000

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < inf:
            raise CumpropError(f"adaptive: tolerance is {self.tolerance!r}; give a number > 0")
        if not 2 * FEWEST <= self.screen <= self.most_samples:
            raise CumpropError(
                f"adaptive: screen is {self.screen!r}; give {2 * FEWEST} to most_samples"
            )

    @classmethod
    def from_tolerance(cls, tolerance: float, shape: Shape, **parameters: Any) -> Self:
        """The same instance for all shapes, because the search runs on the network itself."""
        return cls(tolerance=tolerance, **parameters)

    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        return Search(self, network, cov, rng or streams.sampling(0, network.shape.width)).result()

    def independent_samples(self, outputs: Estimate) -> int | None:
        """The samples that know one tail to the tolerance with confidence, if it sampled at all."""
        if not all(words.startswith(SAMPLED) for words in statuses(outputs.status)):
            return None
        needed = float(chdtri(1, 1 - CONFIDENCE)) / self.tolerance**2
        return ceil(min(max(needed, self.screen), self.most_samples))

    def over_rows(self, n_rows: int) -> Estimator:
        """The average over all rows: no order is as good as the data themselves."""
        return build("monte_carlo", n_samples=n_rows)

    def predict_cost(self, shape: Shape) -> Cost:
        """The cost of the usual search on a random network of this shape; weights decide it."""
        nonlinearity = TYPICAL_UNEXPLAINED * shape.depth
        cost = build("monte_carlo", n_samples=self.screen, design="antithetic").predict_cost(shape)
        sampling = self._typical_samples(shape).predict_cost(shape)
        shape = replace(shape, gaussian_input=False)
        expansion = Expansion(shape, effective_inputs(shape), nonlinearity)
        error = expansion.error(CANDIDATES[0])
        for k, candidate in expansion.candidates(self.tolerance):
            if expansion.why_not(k, error, self.tolerance, sampling.flops):
                break
            cost += candidate.estimator.predict_cost(shape)
            error = expansion.error(candidate, error)
            if shape.depth <= 1 or SPREAD * error <= self.tolerance:
                return cost
        return cost + sampling

    def _typical_samples(self, shape: Shape) -> Estimator:
        wanted, orthogonal = 1.3 / self.tolerance**2, block_size("orthogonal", shape.widths[0])
        design = "antithetic"
        if TYPICAL_GAIN[design] * wanted >= 2 * FEWEST * orthogonal:
            design = "orthogonal"
        wanted = max(self.screen, min(TYPICAL_GAIN[design] * wanted, self.most_samples))
        return build("monte_carlo", n_samples=int(wanted), design=design)
