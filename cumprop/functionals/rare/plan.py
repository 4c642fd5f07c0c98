"""The effort of a rare event: first draws of every mean, then more where they pay most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract.printing import NORMAL_QUANTILE
from cumprop.flops import Flops
from cumprop.functionals.rare.event import Event
from cumprop.functionals.rare.means import Importance, Mean, Plain, Splitting
from cumprop.functionals.rare.passes import Excess
from cumprop.functionals.rare.proposal import Proposal
from cumprop.functionals.rare.result import Point, Probability
from cumprop.functionals.rare.search import (
    distinct,
    likely_modes,
    modes,
    share_of_mode,
    starts,
    with_modes,
)
from cumprop.functionals.rare.splitting import PARTICLES, Pilot, pilot

Array = NDArray[Any]

TRUST = 300.0
"""c over the probability: the weights of importance sampling stay below c."""
OFF_THE_WAY = 100.0
"""The factor of c where the pilot passed known modes by: runs along its levels do so, too, so that
importance sampling is to carry them."""
_FEW = 0.25  # of a pilot's particles
SAMPLES = 20_000
"""The first samples of q."""
FEWEST_RUNS, RUNS, MORE_RUNS, MUCH = 2, 4, 8, 0.1
"""The first runs: of a negligible component, usually, and where they carry more than the share."""
_TRIAL = 2_000
_OF_PILOT = 1 / 4  # of the budget, at most
_OF_PLAIN = 1 / 2  # of the rest, where no pilot arrived
_POINTS = 5
_SUSPECT, _DISAGREE = 1.5, 2.5
"""Half widths between two estimates at which more runs are added, and at which both are refused;
the larger one because products of shares are skewed."""
_SMALL = 0.01  # of the tolerance: the share of a component that is negligible


@dataclass
class Plan:
    """The means of all components of the input's law, and the rule that adds draws to them.

    `passed_by` says that a known mode has few particles of a pilot or none.
    """

    event: Event
    tolerance: float
    budget: int
    with_excess: bool
    rng: np.random.Generator
    means: list[Mean] = field(default_factory=list)
    lost: float = 0.0
    passed_by: bool = False
    points: list[Point] = field(default_factory=list)
    excesses: list[Excess] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passes(self) -> int:
        return sum(excess.passes for excess in self.excesses)

    def look(self, components: list[tuple[float, Excess]]) -> None:
        """A pilot of every component of the input's law, and the first draws of its means."""
        self.excesses = [excess for _, excess in components]
        pilots = list[tuple[float, Excess, Pilot]]()
        for weight, excess in components:
            most_passes = int(_OF_PILOT * (self.budget - self.passes))
            pilots.append((weight, excess, pilot(excess, self.rng, most_passes)))
        total = sum(weight * found.probability for weight, _, found in pilots if found.arrived)
        for weight, excess, found in pilots:
            share = weight * found.probability / total if total else 1.0
            negligible = share < _SMALL * self.tolerance
            if negligible and not found.arrived:
                self.lost += weight * found.probability
            elif negligible:
                self._split(weight, excess, found, None, FEWEST_RUNS)
            elif found.arrived:
                self._add(weight, excess, found, share)
            else:
                number = int(_OF_PLAIN * weight * (self.budget - self.passes))
                self._first(Plain(excess, weight, 1, self.rng), number)

    def _add(self, weight: float, excess: Excess, found: Pilot, share: float) -> None:
        """The first draws of a component that has this share of the probability."""
        p = found.probability
        of_plain = (1 / p - 1) * (NORMAL_QUANTILE / self.tolerance) ** 2 * (1 + self.with_excess)
        if of_plain < share * SAMPLES + RUNS * found.cost:
            self._first(Plain(excess, weight, 1, self.rng), max(int(of_plain), PARTICLES))
            return
        proposal, c = self._proposal(excess, found)
        if proposal is None:
            self.notes.append("no gradients, as of step functions: all of it is from splitting")
            self._split(weight, excess, found, None, MORE_RUNS)
            return
        sampled = Importance(excess, weight, 1, self.rng, proposal=proposal, c=c)
        self._first(sampled, max(int(share * SAMPLES), PARTICLES))
        self._split(weight, excess, found, proposal, RUNS, c)

    def _split(
        self,
        weight: float,
        excess: Excess,
        found: Pilot,
        proposal: Proposal | None,
        number: int,
        c: float = 1.0,
    ) -> None:
        split = Splitting(excess, weight, found.cost, self.rng, pilot=found, proposal=proposal, c=c)
        self._first(split, number)

    def _first(self, mean: Mean, number: int) -> None:
        """Add a mean with its first draws, for half of the remaining budget at most."""
        affordable = (self.budget - self.passes) // (2 * mean.cost)
        mean.more(max(min(number, affordable), 2))
        self.means.append(mean)

    def _proposal(self, excess: Excess, found: Pilot) -> tuple[Proposal | None, float]:
        """The density q of a component with its c; no density where gradients vanish."""
        p = found.probability
        if not excess.differentiable:
            return None, TRUST * p
        _, gradients = excess.slopes(found.particles)
        if not gradients.any():
            return None, TRUST * p
        proposal = Proposal.fitted(found.particles, gradients, self.rng)
        points = modes(excess, starts(excess, found, self.rng))
        near = distinct(points, _POINTS)
        values = self.event.value(excess(near))
        likely = likely_modes(excess, points, p, self.rng)
        few = share_of_mode(excess, likely, found.particles) < _FEW
        self.passed_by |= bool(few.any())
        self.points += [
            Point(x, float(np.linalg.norm(z)), float(value))
            for x, z, value in zip(excess.inputs(near), near, values, strict=True)
        ]
        proposal = with_modes(proposal, likely, p, TRUST)
        if len(proposal.modes):
            z, log_ratio = proposal.of_modes(excess.draw(_TRIAL, self.rng), self.rng)
            p = max(p, float(np.mean((excess(z) > 0) * np.exp(-log_ratio))))
        return proposal, TRUST * p * (OFF_THE_WAY if self.passed_by else 1)

    def estimate(self) -> tuple[Array, Array]:
        """P(g > 0) and E[g₊], (2,), and the half widths of their intervals."""
        value = np.sum([mean.value for mean in self.means], axis=0)
        return value, _half_width(
            [mean.variance for mean in self.means], [len(mean.draws) for mean in self.means]
        )

    def spend(self, progress: Callable[[int, float], None] | None) -> None:
        """Add draws where the variance per pass falls fastest, until the tolerance is met."""
        splits = [m for m in self.means if isinstance(m, Splitting) and m.proposal is not None]
        carried = sum(split.value[0] for split in splits)
        if carried > MUCH * self.estimate()[0][0]:
            self._more_runs(splits, MORE_RUNS)
        while True:
            value, half_width = self.estimate()
            relative = np.divide(half_width, value, out=np.full(2, np.inf), where=value > 0)
            asked = relative[: 1 + self.with_excess]
            if progress is not None:
                progress(self.passes, float(asked.max()))
            if asked.max() > self.tolerance:
                worst = int(asked.argmax())
                mean = max(self.means, key=lambda mean: mean.gain[worst])
                number = max(len(mean.draws) // 2, RUNS)
                if not self._more(mean, number):
                    self.notes.append(
                        f"the half width is {asked.max():.0%} at the budget of {self.budget:,} "
                        "passes; raise the budget or the tolerance"
                    )
                    return
            elif not (self._disagreement(_SUSPECT) and self._more_runs(splits, 2 * MORE_RUNS)):
                return

    def _more_runs(self, splits: list[Splitting], number: int) -> bool:
        """Whether runs were added to those of which there are fewer than `number`."""
        added = [self._more(split, number - len(split.draws)) for split in splits]
        return any(added)

    def _more(self, mean: Mean, number: int) -> bool:
        """Whether draws were added, as many as the budget allows."""
        number = min(number, (self.budget - self.passes) // mean.cost)
        if number > 0:
            mean.more(number)
        return number > 0

    def result(self, flops: Flops) -> Probability:
        """The estimate with its interval and status."""
        value, half_width = self.estimate()
        low, high = np.maximum(value - half_width, 0), value + half_width
        interval = (float(low[0]), min(float(high[0]) + self.lost + self._unseen, 1.0))
        if len(self.means) == 1 and isinstance(self.means[0], Plain):
            interval = self.means[0].interval
        plain = all(isinstance(mean, Plain) for mean in self.means)
        important = sum(mean.value[0] for mean in self.means if isinstance(mean, Importance))
        return Probability(
            event=self.event.words,
            probability=float(value[0]),
            interval=interval,
            excess=float(value[1]),
            excess_interval=(float(low[1]), float(high[1])),
            covered=None if plain else float(important / value[0]) if value[0] else 0.0,
            passes=self.passes,
            flops=flops,
            status=self._status(value[0], half_width[0]),
            points=tuple(sorted(self.points, key=lambda point: point.distance)[:_POINTS]),
        )

    @property
    def _unseen(self) -> float:
        """An upper 95% limit of the probability in components whose samples had no event."""
        plain = [mean for mean in self.means if isinstance(mean, Plain)]
        return sum(mean.weight * mean.interval[1] for mean in plain if not mean.value[0])

    def _disagreement(self, half_widths: float) -> str:
        """The two unbiased estimates where they differ by more half widths, else "".

        Runs alone are expected to be too low where they passed by known modes.
        """
        value, half_width = (both[0] for both in self.estimate())
        alone, its_half_width = self._alone()
        if alone < value and self.passed_by:
            return ""
        if abs(alone - value) <= half_widths * np.hypot(its_half_width, half_width):
            return ""
        return (
            f"two unbiased estimates disagree, {value:.3g} ± {half_width:.2g} and {alone:.3g} ± "
            f"{its_half_width:.2g} by splitting alone"
        )

    def _status(self, p: float, half_width: float) -> str:
        if self._unseen > self.tolerance * p:
            return (
                f"warning: no event was found in {self.passes:,} passes; the 95% interval ends "
                f"at {p + half_width + self._unseen:.2g}; raise the budget"
            )
        if disagreement := self._disagreement(_DISAGREE):
            return f"unreliable: {disagreement}; raise the budget or take another seed"
        return f"warning: {'; '.join(self.notes)}" if self.notes else "ok"

    def _alone(self) -> tuple[float, float]:
        """The probability by splitting alone, plain samples kept, and its half width."""
        values, variances, numbers = [], [], []
        for mean in self.means:
            if isinstance(mean, Importance):
                continue
            draws = mean.weight * (mean.alone if isinstance(mean, Splitting) else mean.draws)[:, 0]
            values.append(draws.mean())
            variances.append(draws.var(ddof=1) / len(draws))
            numbers.append(len(draws))
        return float(sum(values)), float(_half_width(variances, numbers))


def _half_width(variances: Sequence[Any], numbers: Sequence[int]) -> Any:
    """The half width of the 95% interval of a sum of means, by Student's t and Welch's degrees.

    `variances` are those of the means, of `numbers` draws each.
    """
    from scipy.special import stdtrit

    each, free = np.array(variances), np.array(numbers) - 1
    total = each.sum(axis=0)
    squares = (each.T**2 / free).sum(axis=-1)
    degrees = np.divide(total**2, squares, out=np.full_like(total, np.inf), where=squares > 0)
    return stdtrit(np.minimum(degrees, 1e6), 0.975) * np.sqrt(total)
