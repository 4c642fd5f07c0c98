"""Errors that a sweep has measured, looked up by estimator and problem."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from cumprop.contract import Estimator
from cumprop.errors import CumpropError
from cumprop.results import scores
from cumprop.results.points import Point, points, records

USUAL_PLACES = (Path("results/relu_w256"), Path("results/reference/relu_w256"))

Problem = Mapping[str, Any]
"""width, depth, readout, activation, init and dtype, as `cumprop.results.scores` has them."""


@dataclass(frozen=True)
class KnownError:
    """vn-MSE with its 95% interval; where it is not resolved from zero, `vn_mse` is a bound."""

    vn_mse: float
    low: float
    high: float
    resolved: bool
    n_networks: int


@dataclass(frozen=True)
class KnownErrors:
    """A table of scores: its `source`, one point per estimator and problem, gains by problem."""

    source: str
    points: list[Point]
    gains: list[Point]

    @classmethod
    def read(cls, results: Path) -> Self:
        """Score the results below `results`; raises CumpropError where there are none."""
        table = scores.score(results)
        orthogonal = table[table["truth_design"] == "orthogonal"]
        gains = orthogonal.groupby(scores.PROBLEM, dropna=False)["truth_gain"].mean().dropna()
        return cls(str(results), points(table), records(gains.reset_index()))

    @classmethod
    def find(cls, results: Path | None = None) -> Self | None:
        """The scores in `results`, or the first of `USUAL_PLACES` that has any; else None."""
        if results is not None:
            return cls.read(results)
        for place in USUAL_PLACES:
            try:
                return cls.read(place)
            except CumpropError:
                continue
        return None

    def of(self, estimator: Estimator, problem: Problem) -> KnownError | None:
        """The error over most networks; the algorithm is not looked at, it changes no numbers."""
        wanted = _telling(asdict(estimator))
        found = [
            point
            for point in self.points
            if point["estimator"] == estimator.name
            and _telling(json.loads(point["parameters"])) == wanted
            and _agree(point, problem)
        ]
        if not found:
            return None
        point = max(found, key=lambda point: int(point["n_seeds"]))
        vn_mse, low, high = (float(point[name]) for name in ("y", "low", "high"))
        return KnownError(vn_mse, low, high, bool(point["resolved"]), int(point["n_seeds"]))

    def gain(self, problem: Problem) -> float | None:
        """Variance per sample of the orthogonal design, iid = 1; None where not measured."""
        found = [row["truth_gain"] for row in self.gains if _agree(row, problem)]
        return float(sum(found) / len(found)) if found else None


def _telling(parameters: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if key != "algorithm"}


def _agree(row: Mapping[str, Any], problem: Problem) -> bool:
    return all(row[name] == value for name, value in problem.items())
