"""The probability of an event of the outputs, to a relative tolerance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop import streams
from cumprop.contract.printing import NORMAL_QUANTILE
from cumprop.errors import CumpropError
from cumprop.flops import Flops, counting
from cumprop.functionals.rare.event import Event
from cumprop.functionals.rare.means import Importance, Mean, Plain, Splitting
from cumprop.functionals.rare.passes import Excess, parts
from cumprop.functionals.rare.proposal import Proposal
from cumprop.functionals.rare.result import Point, Probability
from cumprop.functionals.rare.search import distinct, nearest_points, starts, with_modes
from cumprop.functionals.rare.splitting import PARTICLES, Pilot, pilot
from cumprop.inputs import Empirical
from cumprop.networks import MLP
from cumprop.parameters import typed

Array = NDArray[Any]

TRUST = 300.0
"""c over the probability: the weights of importance sampling stay below c."""
SAMPLES = 20_000
"""The first samples of q."""
FEWEST_RUNS, RUNS, MORE_RUNS, MUCH = 2, 4, 8, 0.1
"""The first runs: of a negligible component, usually, and where they carry more than the share."""
LEAST_BUDGET = 20_000
_TRIAL = 2_000
_OF_PILOT = 1 / 4  # of the budget, at most
_OF_PLAIN = 1 / 2  # of the rest, where no pilot arrived
_POINTS = 5
_DISAGREE = 1.5
_SMALL = 0.01  # of the tolerance: the share of a component that is negligible


def probability(
    network: MLP,
    event: str,
    tolerance: float = 0.1,
    seed: int = 0,
    budget: int = 2_000_000,
    excess: bool = False,
    progress: Callable[[int, float], None] | None = None,
) -> Probability:
    """The probability of an event of the outputs under the law of the input, with an interval.

    `event` compares a linear combination of outputs, or its absolute value, with a number: "y0 >
    3", "y0 < 3", "|y0 - 1| > 3", "y0 - y1 > 0". Samples are added until the half width of the 95%
    interval is `tolerance` times the probability, with `excess` that of the mean excess E[(u − t)₊]
    times it, too, or until `budget` passes are used. `progress` is called with the passes so far
    and the relative half width. Raises CumpropError for events that cannot be read, rows of data as
    the input, a tolerance that is not above 0 and a budget below 20,000.

    A pilot splits its way to the event; importance sampling measures what it found, independent
    splitting runs measure what that covers badly, and both are unbiased whatever the pilot found.
    The interval covers the modes that were found. It is no proof of absence: a needle, a small set
    of inputs far from all others that make the event happen, can be missed without a sign.
    Cost: at 1e-6 about 130,000 passes for an easy network, up to the budget for a hard one.

    >>> import cumprop
    >>> line = cumprop.MLP([[[3.0, 4.0]]])                                   # Y ~ N(0, 25)
    >>> found = cumprop.probability(line, "y0 > 25", seed=1)
    >>> low, high = found.interval                                           # 5 s.d.: 2.87e-7
    >>> low < 2.87e-7 < high, found.status, found.points[0].input.round(2).tolist()
    (True, 'ok', [3.0, 4.0])
    """
    tolerance, budget = typed(tolerance, float, "tolerance"), typed(budget, int, "budget")
    if not tolerance > 0:
        raise CumpropError(f"tolerance is {tolerance:g}; give a relative error above 0, as in 0.1")
    if budget < LEAST_BUDGET:
        raise CumpropError(f"budget is {budget:,} passes; give {LEAST_BUDGET:,} or more")
    if isinstance(network.input, Empirical):
        raise CumpropError(
            "rows of data show no rarer event than one in their number: take monte_carlo, or fit a "
            "law to them (Empirical.smoothed)"
        )
    asked = Event.parsed(event, network.widths[-1])
    rng = streams.rare_event(seed, network.shape.width)
    with counting() as flops:
        plan = _Plan(asked, tolerance, budget, excess, rng)
        plan.look(parts(network, asked))
        plan.spend(progress)
    return plan.result(flops)


@dataclass
class _Plan:
    """The means of all components of the input's law, and the rule that adds draws to them."""

    event: Event
    tolerance: float
    budget: int
    with_excess: bool
    rng: np.random.Generator
    means: list[Mean] = field(default_factory=list)
    lost: float = 0.0
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
        mean.more(number)
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
        points = nearest_points(excess, starts(excess, found.particles, self.rng))
        near = distinct(points, _POINTS)
        values = excess(near)
        inputs = excess.inputs(near)
        self.points += [
            Point(x, float(np.linalg.norm(z)), self.event.value(g))
            for x, z, g in zip(inputs, near, values, strict=True)
        ]
        proposal = with_modes(proposal, points, p, TRUST)
        if len(proposal.modes):
            z, log_ratio = proposal.of_modes(excess.draw(_TRIAL, self.rng), self.rng)
            p = max(p, float(np.mean((excess(z) > 0) * np.exp(-log_ratio))))
        return proposal, TRUST * p

    def estimate(self) -> tuple[Array, Array]:
        """P(g > 0) and E[g₊], (2,), and the half widths of their intervals."""
        value = np.sum([mean.value for mean in self.means], axis=0)
        return value, _half_width(
            [mean.variance for mean in self.means], [len(mean.draws) for mean in self.means]
        )

    def spend(self, progress: Callable[[int, float], None] | None) -> None:
        """Add draws where the variance per pass falls fastest, until the tolerance is met."""
        splits = [mean for mean in self.means if isinstance(mean, Splitting)]
        carried = sum(split.value[0] for split in splits)
        if carried > MUCH * self.estimate()[0][0]:
            self._more_runs(splits, MORE_RUNS)
        while True:
            value, half_width = self.estimate()
            relative = np.divide(half_width, value, out=np.full(2, np.inf), where=value > 0)
            asked = relative[: 1 + self.with_excess]
            if progress is not None:
                progress(self.passes, float(asked.max()))
            if asked.max() <= self.tolerance:
                break
            worst = int(asked.argmax())
            mean = max(self.means, key=lambda mean: mean.gain[worst])
            number = min(max(len(mean.draws) // 2, RUNS), self._affordable(mean))
            if number < 1:
                self.notes.append(
                    f"the half width is {asked.max():.0%} at the budget of {self.budget:,} passes; "
                    "raise the budget or the tolerance"
                )
                return
            mean.more(number)
        if self._disagreement:
            self._more_runs(splits, 2 * MORE_RUNS)

    def _more_runs(self, splits: list[Splitting], number: int) -> None:
        for split in splits:
            missing = min(number - len(split.draws), self._affordable(split))
            if missing > 0:
                split.more(missing)

    def _affordable(self, mean: Mean) -> int:
        return (self.budget - self.passes) // mean.cost

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

    @property
    def _disagreement(self) -> str:
        """The two unbiased estimates where they differ by more than their errors, else ""."""
        value, half_width = (both[0] for both in self.estimate())
        alone, its_half_width = self._alone()
        if abs(alone - value) <= _DISAGREE * np.hypot(its_half_width, half_width):
            return ""
        return (
            f"two unbiased estimates disagree, {value:.3g} ± {half_width:.2g} and {alone:.3g} ± "
            f"{its_half_width:.2g} by splitting alone"
        )

    def _status(self, p: float, half_width: float) -> str:
        if self._unseen > self.tolerance * p:
            return (
                f"unreliable: no event was found in {self.passes:,} passes; the 95% interval ends "
                f"at {p + half_width + self._unseen:.2g}; raise the budget"
            )
        if self._disagreement:
            return f"unreliable: {self._disagreement}; raise the budget or take another seed"
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
