"""Power laws fitted to measured points: exact counts, and errors that differ by network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

ASYMPTOTIC = 3
"""Laws in the width are fitted from the largest resolved width down to a third of it."""


@dataclass(frozen=True)
class PowerLaw:
    """A law y ≈ factor · x^exponent over `x`, with the `half_width` of the exponent's 95% interval.

    The interval is Student's t.
    """

    exponent: float
    half_width: float
    factor: float
    x: tuple[float, ...]

    @classmethod
    def fit(cls, x: ArrayLike, y: ArrayLike) -> Self:
        """The law by least squares in log-log, of three points or more.

        >>> law = PowerLaw.fit([1, 2, 4], [3, 24, 192])
        >>> round(law.exponent, 6), round(law.factor, 6), law.half_width < 1e-6
        (3.0, 3.0, True)
        """
        u, v = np.log(np.asarray(x, dtype=float)), np.log(np.asarray(y, dtype=float))
        exponent, factor, pull = _line(u, v, np.ones(u.size))
        residuals = v - np.log(factor) - exponent * u
        freedom = u.size - 2
        se = np.sqrt(residuals @ residuals / freedom * (pull @ pull))
        half_width = float(stdtrit(freedom, 0.975) * se)
        return cls(exponent, half_width, factor, tuple(np.asarray(x, dtype=float)))

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the exponent's 95% interval."""
        return self.exponent - self.half_width, self.exponent + self.half_width

    def at(self, x: ArrayLike) -> Array:
        """The law's y at `x`."""
        values: Array = self.factor * np.asarray(x, dtype=float) ** self.exponent
        return values

    def __str__(self) -> str:
        spread = f" ± {self.half_width:.2f}" if np.isfinite(self.half_width) else ""
        return f"{self.exponent:.2f}{spread}".replace("-", "−")


def error_law(scores: pd.DataFrame, column: str, fraction: float = np.inf) -> PowerLaw | None:
    """The vn-MSE of one estimator as a power of `column` ("width" or "depth"), or None.

    Resolved points from the largest width or depth down to 1/`fraction` of it are fitted; None for
    fewer than two. Weights are inverse squares of the spreads over networks, at least the median
    spread, because with few networks a small spread is chance. The interval is over networks:
    (width, seed) is one network, read at several depths; widths are independent, with the degrees
    of freedom of Welch and Satterthwaite. half_width is nan for a single network.
    """
    points = _points(scores, column)
    if points:
        points = [p for p in points if p.x * fraction >= max(q.x for q in points)]
    if len(points) < 2:
        return None
    se = np.array([point.se for point in points])
    u, v = (np.log([getattr(point, name) for point in points]) for name in ("x", "vn_mse"))
    known = np.isfinite(se).all() and np.median(se) > 0
    weights = np.maximum(se, np.median(se)) ** -2.0 if known else np.ones(len(points))
    exponent, factor, pull = _line(u, v, weights)
    variances, freedoms = _by_width(points, pull)
    total = variances.sum()
    freedom = total**2 / np.sum(variances**2 / freedoms) if total > 0 else np.inf
    half_width = float(stdtrit(freedom, 0.975) * np.sqrt(total))
    return PowerLaw(exponent, half_width, factor, tuple(point.x for point in points))


@dataclass(frozen=True)
class _Point:
    """The vn-MSE at x, and the influence of each seed on its logarithm."""

    x: float
    width: int
    vn_mse: float
    influence: pd.Series[Any]

    @property
    def se(self) -> float:
        """The standard error of log vn_mse; nan for one network."""
        return float(np.sqrt(_variance(self.influence.to_numpy())))


def _points(scores: pd.DataFrame, column: str) -> list[_Point]:
    from cumprop.results.scores import by_seed, noise_interval

    points = []
    for _, rows in scores.groupby(column):
        seeds = by_seed(rows)
        if seeds.empty:
            continue
        low, _ = noise_interval(seeds["mse"], seeds["mse_se"], int(rows["n_groups"].max()))
        if low <= 0:
            continue
        mse, variance = seeds["mse"].mean(), seeds["variance"].mean()
        influence = seeds["mse"] / mse - seeds["variance"] / variance
        x, width = rows[[column, "width"]].to_numpy()[0]
        points.append(_Point(float(x), int(width), float(mse / variance), influence))
    return points


def _line(u: Array, v: Array, weights: Array) -> tuple[float, float, Array]:
    """Slope and exp(intercept) of weighted least squares, and the weight of each v in the slope."""
    du = u - np.average(u, weights=weights)
    pull = weights * du / (weights @ du**2)
    slope = float(pull @ v)
    middle = np.average(v, weights=weights) - slope * np.average(u, weights=weights)
    return slope, float(np.exp(middle)), pull


def _by_width(points: list[_Point], pull: Array) -> tuple[Array, Array]:
    """The slope's variance from the networks of each width, and its degrees of freedom."""
    moves: dict[int, Any] = {}
    for point, weight in zip(points, pull, strict=True):
        moved = point.influence * weight
        moves[point.width] = moved.add(moves.get(point.width, 0.0), fill_value=0.0)
    variances = [_variance(moved.to_numpy()) for moved in moves.values()]
    return np.array(variances), np.array([max(len(m) - 1, 1) for m in moves.values()])


def _variance(influence: Array) -> float:
    """The variance of a mean over networks, from the influence of each."""
    n = influence.size
    return float(influence @ influence / (n * (n - 1))) if n > 1 else np.nan
