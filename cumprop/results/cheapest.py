"""The cheapest way to an error: orders of cumulants, sampling designs, and averages of both."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cumprop.results.points import Point, flops_per_sample, label, points, seconds_per_sample
from cumprop.results.scores import GROUP, PROBLEM
from cumprop.sampling import rounded

if TYPE_CHECKING:
    import pandas as pd

TARGETS = (1e-3, 1e-5, 1e-7)
"""The vn-MSE of the figure `cheapest`."""
BLEND = "blend"
WORTH = 1.1
"""The least factor by which a blend must be cheaper than all other ways to be named."""

Unit = Literal["flops", "seconds"]


@dataclass(frozen=True)
class Way:
    """A way to a target and its cost; `reaches` is None where the interval leaves it open."""

    name: str
    cost: float
    reaches: bool | None = True


@dataclass(frozen=True)
class Choice:
    """The cheapest way to a target at one width and depth.

    `saving` is the cost of the cheapest sampling design over that of the way; `undecided` names
    cheaper ways whose measured interval holds the target.
    """

    width: int
    depth: int
    name: str
    saving: float
    undecided: tuple[str, ...]


def choices(scores: pd.DataFrame, target: float, unit: Unit) -> list[Choice]:
    """The cheapest way to a vn-MSE of `target`, for every problem with samples in `scores`.

    `scores` is one configuration's part of `results.scores.score`. An order reaches the target
    where the upper end of its 95% interval for the noise of the truths does: the answer is one
    about the networks that were measured. Sampling takes g/target samples, in whole blocks, g its
    variance per sample in units of the iid one: 1 for iid, the measured `truth_gain` for the design
    of the truth, what the own standard errors say for other designs. The average of an order of
    error B and samples takes g(1/target − 1/B) of them with the best weight, which an estimator has
    to find out: this `BLEND` is named only where it is `WORTH` times cheaper than all other ways.
    Seconds are those of the quickest run.
    """
    problems = (_Problem.of(rows, unit) for _, rows in scores.groupby(PROBLEM, dropna=False))
    return [problem.choice(target) for problem in problems if problem.designs]


@dataclass(frozen=True)
class _Problem:
    """One problem: its orders, and the variance and the cost per sample of each design."""

    width: int
    depth: int
    unit: Unit
    orders: list[Point]
    designs: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, rows: pd.DataFrame, unit: Unit) -> _Problem:
        quickest = rows.groupby(GROUP, dropna=False)["seconds"].transform("min")
        found = points(rows.assign(seconds=quickest))
        each = flops_per_sample if unit == "flops" else seconds_per_sample
        designs = {}
        for point in found:
            if point["estimator"] == "monte_carlo":
                design = point["design"]
                gain = point["expected_error"] ** 2 * point["n_samples"]
                if design == point["truth_design"]:
                    gain = float(rows["truth_gain"].mean())
                designs[design] = (1.0 if design == "iid" else gain, each(found, design) or 0.0)
        orders = [point for point in found if point["estimator"] == "cumulant"]
        return cls(int(found[0]["width"]), int(found[0]["depth"]), unit, orders, designs)

    def choice(self, target: float) -> Choice:
        orders = list(self._orders(target))
        sampled = list(self._sampling(target))
        best = min((way for way in sampled + orders if way.reaches), key=lambda way: way.cost)
        blended = min(self._blends(target), default=math.inf)
        if WORTH * blended <= best.cost:
            best = Way(BLEND, blended)
        open_ = tuple(way.name for way in orders if way.reaches is None and way.cost < best.cost)
        saving = min(way.cost for way in sampled) / best.cost
        return Choice(self.width, self.depth, best.name, saving, open_)

    def _sampling(self, target: float) -> Iterator[Way]:
        for design, (gain, each) in self.designs.items():
            yield Way(design, self._whole(design, gain / target) * each)

    def _orders(self, target: float) -> Iterator[Way]:
        for point in self.orders:
            low, high = point["noise_low"], point["noise_high"]
            reaches = None if low <= target < high else high <= target
            yield Way(label(point), point[self.unit], reaches and not point["n_failed"])

    def _blends(self, target: float) -> Iterator[float]:
        """The costs of orders that miss the target, averaged with samples by the best weight."""
        for point in self.orders:
            if point["noise_low"] > target:
                for design, (gain, each) in self.designs.items():
                    n_samples = gain * (1 / target - 1 / point["vn_mse"])
                    yield point[self.unit] + self._whole(design, n_samples) * each

    def _whole(self, design: str, n_samples: float) -> int:
        return rounded(design, self.width, math.ceil(n_samples))
