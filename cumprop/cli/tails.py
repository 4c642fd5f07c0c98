"""Tails and quantiles of `cumprop estimate`: the requests, and the parts of the report."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, nan
from typing import TYPE_CHECKING, Any, Self

from cumprop.cli import report
from cumprop.errors import ConfigError

if TYPE_CHECKING:
    from cumprop.contract import Estimate
    from cumprop.networks import MLP

Run = Callable[["MLP"], "Estimate"]


@dataclass(frozen=True)
class Tail:
    """A request for P(y > threshold) or P(y < threshold) of each output."""

    sign: str
    threshold: float

    @classmethod
    def parsed(cls, words: str) -> Self:
        """The request in words such as 'y>3' or 'y<3'; raises ConfigError for other words."""
        found = re.fullmatch(r"\s*y\s*([<>])\s*(\S+)\s*", words)
        threshold = _number(found[2]) if found else nan
        if found is None or not isfinite(threshold):
            raise ConfigError(f"--tail {words!r}: write 'y>3' or 'y<3', with a number")
        return cls(found[1], threshold)

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
            estimate, name = run(network.above(self.threshold)), "above"
        else:
            mirrored = standardised(network, 0.0, -np.ones(network.widths[-1]))
            estimate, name = run(mirrored.above(-self.threshold)), "below"
        described = {
            "threshold": self.threshold,
            name: report.numbers(estimate.mean.clip(0, 1)),  # an expansion can leave [0, 1]
            f"{name}_stderr": report.numbers(estimate.stderr),
            f"{name}_interval": report.numbers(interval(estimate, independent)),
        }
        return described, [estimate]


@dataclass(frozen=True)
class Quantiles:
    """A request for the thresholds below which each output lies with these probabilities."""

    probabilities: tuple[float, ...]

    @classmethod
    def parsed(cls, words: str) -> Self:
        """The request in words such as 0.9,0.99; raises ConfigError for other words."""
        numbers = tuple(map(_number, words.split(",")))
        if not all(0 < q < 1 for q in numbers):
            raise ConfigError(
                f"--tail-quantiles {words!r}: give probabilities between 0 and 1, as in 0.9,0.99"
            )
        return cls(numbers)

    def found(
        self, run: Run, network: MLP, outputs: Estimate, n_samples: int | None, seed: int
    ) -> tuple[dict[str, Any], list[Estimate]]:
        """The part of the report, and the estimates that it is from."""
        from cumprop import streams
        from cumprop.functionals import quantiles

        rng = streams.sampling(seed, network.shape.width)
        found = quantiles(run, network, self.probabilities, outputs, n_samples, rng)
        names = [f"{q:g}" for q in self.probabilities]
        described = {
            "quantiles": dict(zip(names, map(report.numbers, found.thresholds), strict=True))
        }
        if found.intervals is not None:
            ends = map(report.numbers, found.intervals)
            described["quantile_intervals"] = dict(zip(names, ends, strict=True))
        return described, found.estimates


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return nan
