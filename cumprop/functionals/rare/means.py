"""Means of independent draws, whose sum is P(g > 0) and E[g₊]: samples of q, runs, plain samples.

With h = c q / (c q + φ), the tail parts smoothly into two means:
P(g > 0) = E_q[1{g > 0} φ h / q] + E_φ[1{g > 0} (1 − h)].
The weights φ h / q of the first are below c, and the second, what q covers badly, is small.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from cumprop.functionals.rare.passes import Excess
from cumprop.functionals.rare.proposal import Proposal
from cumprop.functionals.rare.splitting import LAST_MOVES, MOVES, OF_A_RUN, Pilot, runs
from cumprop.functionals.samples import clopper_pearson

Array = NDArray[Any]

AT_ONCE = 2**22
"""The numbers of inputs that are drawn at a time."""


class Mean(ABC):
    """The mean of independent draws of two numbers: shares of P(g > 0) and of E[g₊].

    `weight` is that of the component of the input's law. `cost` are the passes of a draw, `points`
    the inputs that a draw keeps at a time.
    """

    points = 1

    def __init__(self, excess: Excess, weight: float, cost: int, rng: np.random.Generator) -> None:
        self.excess, self.weight, self.cost, self.rng = excess, weight, cost, rng
        self.draws = np.empty((0, 2))

    @abstractmethod
    def _drawn(self, number: int) -> Array:
        """Draws, (number, 2)."""

    def more(self, number: int) -> None:
        """Add draws, some million numbers at a time."""
        at_once = max(AT_ONCE // (self.points * self.excess.n), 1)
        parts = [self._drawn(min(at_once, number - i)) for i in range(0, number, at_once)]
        self.draws = np.concatenate([self.draws, *parts])

    @property
    def value(self) -> Array:
        """The weighted mean, (2,)."""
        value: Array = self.weight * self.draws.mean(axis=0)
        return value

    @property
    def variance(self) -> Array:
        """The variance of `value`, (2,)."""
        variance: Array = self.weight**2 * self.draws.var(axis=0, ddof=1) / len(self.draws)
        return variance

    @property
    def gain(self) -> Array:
        """The fall of the variance per pass that is added, (2,)."""
        return self.variance / (len(self.draws) * self.cost)


class Plain(Mean):
    """Samples of N(0, I) themselves; `interval` is that of Clopper and Pearson."""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the probability under N(0, I)."""
        low, high = clopper_pearson(self.draws[:, 0].sum(), len(self.draws))
        return float(low), float(high)

    def _drawn(self, number: int) -> Array:
        return _counted_hits(self.excess(self.excess.draw(number, self.rng)))


class Importance(Mean):
    """Samples of q, weighted by φ h / q = c r / (1 + c r) / r with r = q/φ."""

    def __init__(self, *args: Any, proposal: Proposal, c: float) -> None:
        super().__init__(*args)
        self.proposal, self.log_c = proposal, np.log(c)

    def _drawn(self, number: int) -> Array:
        z = self.proposal.placed(self.excess.draw(number, self.rng), self.rng)
        log_ratio = self.proposal.log_ratio(z)
        weights = np.exp(self.log_c - np.logaddexp(0, self.log_c + log_ratio))
        draws: Array = weights[:, None] * _counted_hits(self.excess(z))
        return draws


class Splitting(Mean):
    """Runs along the pilot's levels, weighted by 1 − h; without a proposal, by 1.

    `alone` are the same runs with the weight 1, (r, 2): unbiased for the whole tail.
    """

    points = OF_A_RUN * LAST_MOVES // MOVES

    def __init__(self, *args: Any, pilot: Pilot, proposal: Proposal | None, c: float) -> None:
        super().__init__(*args)
        self.pilot, self.proposal, self.log_c = pilot, proposal, np.log(c)
        self.alone = np.empty((0, 2))

    def _drawn(self, number: int) -> Array:
        found = runs(self.excess, self.pilot.steps, number, self.rng)
        hits = _counted_hits(found.values)
        alone: Array = found.probabilities[:, None] * hits.mean(axis=1)
        self.alone = np.concatenate([self.alone, alone])
        if self.proposal is None:
            return alone
        shape = found.values.shape
        log_ratio = self.proposal.log_ratio(found.particles.reshape(-1, self.excess.n))
        left = expit(-self.log_c - log_ratio).reshape(*shape, 1)
        draws: Array = found.probabilities[:, None] * (left * hits).mean(axis=1)
        return draws


def _counted_hits(g: Array) -> Array:
    """1{g > 0} and g₊, in a new last axis."""
    return np.stack([g > 0, np.maximum(g, 0)], axis=-1)
