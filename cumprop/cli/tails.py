"""Tails and quantiles of `cumprop estimate`: the requests, and the parts of the report."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, nan
from typing import TYPE_CHECKING, Any, Self

from cumprop.cli import report
from cumprop.errors import ConfigError, CumpropError

if TYPE_CHECKING:
    from cumprop.contract import Estimate
    from cumprop.functionals.rare import Probability, Quantile
    from cumprop.networks import MLP

Run = Callable[["MLP"], "Estimate"]

BUDGET = 2_000_000
"""The forward passes of an event at most."""
ADAPTIVE_TOLERANCE, ADAPTIVE_MOST, ADAPTIVE_BUDGET = 0.1, 10, 500_000
"""The relative half width above which `adaptive` measures a tail as an event; of up to so many."""


@dataclass(frozen=True)
class Tail:
    """A request for P(y > threshold) or P(y < threshold) of each output."""

    sign: str
    threshold: float

    @classmethod
    def parsed(cls, words: str) -> Self:
        """The request in words such as 'y>3' or 'y<3'; raises ConfigError for other words."""
        found = cls.read(words)
        if found is None:
            raise ConfigError(
                f"--tail {words!r}: write 'y>3' or 'y<3', with a number; other events, such as "
                "'y0-y1>0', need --tail-tolerance 0.1"
            )
        return found

    @classmethod
    def read(cls, words: str) -> Self | None:
        """The request in words such as 'y>3' or 'y<3'; None for other words."""
        found = re.fullmatch(r"\s*y\s*([<>])\s*(\S+)\s*", words)
        threshold = _number(found[2]) if found else nan
        return cls(found[1], threshold) if found and isfinite(threshold) else None

    @property
    def name(self) -> str:
        """The key of the probabilities in the report."""
        return "above" if self.sign == ">" else "below"

    def found(
        self, run: Run, network: MLP, independent: bool
    ) -> tuple[dict[str, Any], list[Estimate]]:
        """The part of the report, and the estimate that it is from.

        `independent` says whether sampled inputs are independent.
        """
        import numpy as np

        from cumprop.contract.probabilities import interval
        from cumprop.functionals import standardised

        if self.sign == ">":
            estimate = run(network.above(self.threshold))
        else:
            mirrored = standardised(network, 0.0, -np.ones(network.widths[-1]))
            estimate = run(mirrored.above(-self.threshold))
        described = {
            "threshold": self.threshold,
            self.name: report.numbers(estimate.mean.clip(0, 1)),  # an expansion can leave [0, 1]
            f"{self.name}_stderr": report.numbers(estimate.stderr),
            f"{self.name}_interval": report.numbers(interval(estimate, independent)),
        }
        return described, [estimate]

    def refined(
        self, described: dict[str, Any], estimate: Estimate, network: MLP, seed: int
    ) -> tuple[dict[str, Any], list[Estimate | Probability]]:
        """The same as `found` gives, but with tails that are too rare for it measured as events.

        These are up to ten tails whose interval is wider than ±10% or that were not sampled.
        """
        from dataclasses import replace

        from cumprop.contract.printing import NORMAL_QUANTILE, is_unreliable

        p, ends = list(described[self.name]), described[f"{self.name}_interval"]
        unsampled = is_unreliable(estimate.status)
        if ends is None or unsampled:
            wide = list(range(len(p))) if unsampled else []
            ends = [[0.0] * len(p), [1.0] * len(p)]
        else:
            wide = [
                i
                for i, (low, high) in enumerate(zip(*ends, strict=True))
                if (high - low) / 2 > ADAPTIVE_TOLERANCE * p[i]
            ]
        if not 0 < len(wide) <= ADAPTIVE_MOST:
            return described, [estimate]
        events = [f"y{i} {self.sign} {self.threshold!r}" for i in wide]
        found = _measured(network, events, ADAPTIVE_TOLERANCE, seed, ADAPTIVE_BUDGET)
        errors = described[f"{self.name}_stderr"] or [0.0] * len(p)
        for i, one in zip(wide, found, strict=True):
            p[i], (ends[0][i], ends[1][i]) = one.probability, one.interval
            errors[i] = (ends[1][i] - ends[0][i]) / 2 / NORMAL_QUANTILE
        keys = (self.name, f"{self.name}_interval", f"{self.name}_stderr", "events")
        values = (p, ends, errors, [one.to_dict() for one in found])
        others = replace(estimate, status="ok") if unsampled else estimate
        return described | dict(zip(keys, values, strict=True)), [others, *found]


@dataclass(frozen=True)
class Rare:
    """A request for an event's probability to a relative tolerance, or 'y>3' of all outputs."""

    words: str
    tolerance: float

    def found(self, network: MLP, seed: int) -> tuple[dict[str, Any], list[Probability]]:
        """The part of the report, and the probabilities that it is from.

        Raises ConfigError for words that are no event of this network.
        """
        from cumprop.functionals.rare import Event

        tail, n_outputs = Tail.read(self.words), network.widths[-1]
        events = [self.words]
        if tail is not None:
            events = [f"y{i} {tail.sign} {tail.threshold!r}" for i in range(n_outputs)]
        try:
            for event in events:
                Event.parsed(event, n_outputs)
        except CumpropError as error:
            raise ConfigError(f"--tail: {error}") from None
        found = _measured(network, events, self.tolerance, seed, BUDGET)
        described: dict[str, Any] = {"events": [one.to_dict() for one in found]}
        if tail is not None:
            described |= {
                "threshold": tail.threshold,
                tail.name: [one.probability for one in found],
                f"{tail.name}_stderr": None,
                f"{tail.name}_interval": [[one.interval[end] for one in found] for end in (0, 1)],
            }
        return described, found


def _measured(
    network: MLP, events: list[str], tolerance: float, seed: int, budget: int
) -> list[Probability]:
    from cumprop.functionals.rare import probability

    with _progress(len(events)) as progress:
        return [
            probability(network, event, tolerance, seed, budget, progress=progress)
            for event in events
        ]


@contextmanager
def _progress(n_events: int) -> Iterator[Callable[[int, float], None]]:
    """A function that shows passes and relative half widths, from the third second on."""
    from tqdm import tqdm

    with tqdm(unit=" passes", unit_scale=True, delay=3, leave=False, disable=None) as bar:
        before = done = 0

        def show(passes: int, half_width: float) -> None:
            nonlocal before, done
            if passes < before:
                before, done = 0, done + 1
            bar.set_postfix_str(f"event {done + 1} of {n_events}, ±{half_width:.0%}", refresh=False)
            bar.update(passes - before)
            before = passes

        yield show


@dataclass(frozen=True)
class Quantiles:
    """A request for the thresholds below which each output lies with these probabilities.

    With a `tolerance`, tails on both sides of the thresholds are measured as events.
    """

    probabilities: tuple[float, ...]
    tolerance: float | None

    @classmethod
    def parsed(cls, words: str, tolerance: float | None) -> Self:
        """The request in words such as 0.9,0.99; raises ConfigError for other words."""
        numbers = tuple(map(_number, words.split(",")))
        if not all(0 < q < 1 for q in numbers):
            raise ConfigError(
                f"--tail-quantiles {words!r}: give probabilities between 0 and 1, as in 0.9,0.99"
            )
        return cls(numbers, tolerance)

    def found(
        self,
        run: Run,
        network: MLP,
        outputs: Estimate,
        n_samples: int | None,
        seed: int,
        is_adaptive: bool,
    ) -> tuple[dict[str, Any], list[Estimate | Quantile]]:
        """The part of the report, and the estimates that it is from.

        Up to ten thresholds of `adaptive` whose tails have no interval within ±10% are measured as
        those of events are.
        """
        from cumprop import streams
        from cumprop.functionals import quantiles

        n_outputs = network.widths[-1]
        far: tuple[float, ...] = ()
        if self.tolerance is not None:
            far = self.probabilities
        elif is_adaptive:
            far = tuple(q for q in self.probabilities if _is_wide(q, n_samples))
            far = far if len(far) * n_outputs <= ADAPTIVE_MOST else ()
        near = [q for q in self.probabilities if q not in far]
        taken: list[Estimate | Quantile] = []
        thresholds: dict[float, Any] = {}
        intervals: dict[float, Any] = {}
        if near:
            rng = streams.sampling(seed, network.shape.width)
            found = quantiles(run, network, near, outputs, n_samples, rng)
            taken += found.estimates
            thresholds |= zip(near, map(report.numbers, found.thresholds), strict=True)
            if found.intervals is not None:
                intervals |= zip(near, map(report.numbers, found.intervals), strict=True)
        for q in far:
            each = self._measured(network, q, seed)
            taken += each
            thresholds[q] = [one.value for one in each]
            intervals[q] = [[one.interval[end] for one in each] for end in (0, 1)]
        described = {"quantiles": {repr(q): thresholds[q] for q in self.probabilities}}
        if intervals:
            described["quantile_intervals"] = {repr(q): ends for q, ends in intervals.items()}
        return described, taken

    def _measured(self, network: MLP, q: float, seed: int) -> list[Quantile]:
        """The quantile of every output."""
        from cumprop.functionals.rare import quantile

        tolerance, budget = self.tolerance or ADAPTIVE_TOLERANCE, BUDGET
        if self.tolerance is None:
            budget = ADAPTIVE_BUDGET
        outputs = range(network.widths[-1])
        with _progress(3 * len(outputs)) as progress:
            return [
                quantile(network, f"y{i}", q, tolerance, seed, budget, progress) for i in outputs
            ]


def _is_wide(q: float, n_samples: int | None) -> bool:
    """Whether the tail beyond a quantile of so many samples is known less well than to ±10%."""
    from cumprop.contract.printing import NORMAL_QUANTILE

    hits = (NORMAL_QUANTILE / ADAPTIVE_TOLERANCE) ** 2
    return n_samples is None or min(q, 1 - q) * n_samples < hits


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return nan
