"""The cheapest way to an error: orders of cumulants, sampling designs, and averages of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cumprop.estimators.adaptive.error_laws import CANDIDATES
from cumprop.results.points import Point, flops_per_sample, label, points, seconds_per_sample, shape
from cumprop.results.scores import GROUP, PROBLEM
from cumprop.sampling import rounded

if TYPE_CHECKING:
    import pandas as pd

TARGETS = (1e-3, 1e-5, 1e-7)
"""The vn-MSE of the figure `cheapest`."""
Unit = Literal["flops", "seconds"]
PER_SAMPLE: dict[Unit, Callable[[list[Point], str], float | None]] = {
    "flops": flops_per_sample,
    "seconds": seconds_per_sample,
}


@dataclass(frozen=True)
class Way:
    """A way to a target and its cost; `reaches` is None where the interval leaves it open."""

    name: str
    cost: float
    reaches: bool | None = True


@dataclass(frozen=True)
class Choice:
    """The cheapest way to a target at one width and depth.

    `saving` is the cost of the cheapest sampling design over that of the way. `blended` is the cost
    of the way over that of an average of samples with an order that misses the target for certain,
    under the best weight, which bounds what `blend` can save there. `undecided` names cheaper
    orders whose interval holds the target, or that were not run.
    """

    width: int
    depth: int
    target: float
    unit: Unit
    name: str
    saving: float
    blended: float
    undecided: tuple[str, ...]


def choices(scores: pd.DataFrame, targets: Sequence[float] = TARGETS) -> list[Choice]:
    """The cheapest ways to each vn-MSE of `targets`, for every problem with samples in `scores`.

    `scores` is one configuration's part of `results.scores.score`. An order reaches a target where
    the upper end of its 95% interval for the noise of the truths does: the answer is one about the
    networks that were measured. An order of `adaptive` that was not run has an unknown error and
    about the FLOPs of its cost law, at the speed of sampling. Sampling takes g/target samples, in
    whole blocks, g its variance per sample in units of the iid one: 1 for iid, the measured
    `truth_gain` for the design of the truth, for other designs that of their standard errors. The
    average of an order of error B and samples takes g(1/target − 1/B) of them with the best weight.
    Seconds are those of the quickest run.
    """
    problems = (_Problem.of(rows) for _, rows in scores.groupby(PROBLEM, dropna=False))
    return [
        problem.choice(target, unit)
        for problem in problems
        if problem.gains
        for unit in PER_SAMPLE
        for target in targets
    ]


@dataclass(frozen=True)
class _Problem:
    """The points of one problem, and the variance per sample of each sampling design."""

    points: list[Point]
    gains: dict[str, float]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> _Problem:
        quickest = rows.groupby(GROUP, dropna=False)["seconds"].transform("min")
        found = points(rows.assign(seconds=quickest))
        gains = {}
        for point in found:
            if point["estimator"] == "monte_carlo":
                gain = point["expected_error"] ** 2 * point["n_samples"]
                if point["design"] == point["truth_design"]:
                    gain = float(rows["truth_gain"].mean())
                gains[point["design"]] = 1.0 if point["design"] == "iid" else gain
        return cls(found, gains)

    @property
    def width(self) -> int:
        return int(self.points[0]["width"])

    @property
    def orders(self) -> list[Point]:
        return [point for point in self.points if point["estimator"] == "cumulant"]

    def choice(self, target: float, unit: Unit) -> Choice:
        orders = list(self._orders(target, unit))
        sampled = list(self._sampling(target, unit))
        best = min((way for way in sampled + orders if way.reaches), key=lambda way: way.cost)
        blended = best.cost / min(self._blends(target, unit), default=math.inf)
        open_ = tuple(way.name for way in orders if way.reaches is None and way.cost < best.cost)
        saving = min(way.cost for way in sampled) / best.cost
        depth = int(self.points[0]["depth"])
        return Choice(self.width, depth, target, unit, best.name, saving, blended, open_)

    def _sampling(self, target: float, unit: Unit) -> Iterator[Way]:
        for design, gain in self.gains.items():
            yield Way(design, self._cost(design, gain / target, unit))

    def _orders(self, target: float, unit: Unit) -> Iterator[Way]:
        for point in self.orders:
            low, high = point["noise_low"], point["noise_high"]
            reaches = None if low <= target < high else high <= target
            yield Way(label(point), point[unit], reaches and not point["n_failed"])
        run = {label(point) for point in self.orders}
        for candidate in CANDIDATES:
            if (name := label(candidate.parameters)) not in run:
                yield Way(name, candidate.flops(shape(self.points[0])) * self._pace(unit), None)

    def _pace(self, unit: Unit) -> float:
        """The least cost of a FLOP of sampling: its seconds, or 1."""
        each = [PER_SAMPLE[unit](self.points, design) or 0.0 for design in self.gains]
        flops = [flops_per_sample(self.points, design) for design in self.gains]
        return min(cost / one for cost, one in zip(each, flops, strict=True))

    def _blends(self, target: float, unit: Unit) -> Iterator[float]:
        """The costs of orders that miss the target, averaged with samples by the best weight."""
        for point in self.orders:
            if point["noise_low"] > target and not point["n_failed"]:
                for design, gain in self.gains.items():
                    n_samples = gain * (1 / target - 1 / point["vn_mse"])
                    yield point[unit] + self._cost(design, n_samples, unit)

    def _cost(self, design: str, n_samples: float, unit: Unit) -> float:
        each = PER_SAMPLE[unit](self.points, design) or 0.0
        return rounded(design, self.width, math.ceil(n_samples)) * each
