"""Quantiles far out: thresholds on both sides of one, whose probabilities are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import exp, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop import streams
from cumprop.contract.printing import between, is_unreliable, status_words
from cumprop.errors import CumpropError
from cumprop.flops import Flops, added, counting
from cumprop.functionals.rare.estimator import check, measured
from cumprop.functionals.rare.event import Event
from cumprop.functionals.rare.passes import parts
from cumprop.functionals.rare.plan import Plan
from cumprop.functionals.rare.result import Interval, Probability
from cumprop.functionals.rare.splitting import pilot
from cumprop.networks import MLP
from cumprop.parameters import typed

Array = NDArray[Any]

LARGEST_TOLERANCE = 0.5
_APART = 2.5
"""Distance of a threshold from the quantile, in logarithms of the probability over tolerance."""
_MOST_RUNS = 12
_OF_PILOT = 1 / 4  # of the budget, at most


@dataclass(frozen=True, eq=False, repr=False)
class Quantile:
    """The number that an output stays below with a given probability, with a 95% interval.

    The ends of `interval` are two thresholds with measured probabilities: of the 95% interval at
    the lower one, all numbers say that the quantile is above it, at the upper one, that it is
    below. No form of the law is assumed between them, except for `value`, which is interpolated.
    `passes` are forward passes, a gradient counts 3; `flops` are counted from the arithmetic that
    ran. `status` is "ok", or begins with "warning" or "unreliable" and names a reason and a remedy.

    >>> import cumprop
    >>> cumprop.quantile(cumprop.MLP([[[3.0, 4.0]]]), "y0", 1 - 1e-6)    # doctest: +ELLIPSIS
    1 - 1e-06 quantile of y0 = 23.7... (23... to 24...)
    5... passes, ... FLOPs
    status: ok
    """

    output: str
    probability: float
    value: float
    interval: Interval
    passes: int
    flops: Flops
    status: str

    def __repr__(self) -> str:
        q = self.probability
        level = f"{q:g}" if q < 0.999 else f"1 - {1 - q:.3g}"
        return "\n".join(
            [
                f"{level} quantile of {self.output} = {between(self.value, *self.interval)}",
                f"{self.passes:,} passes, {self.flops.total:.3g} FLOPs",
                status_words(self.status),
            ]
        )


def quantile(
    network: MLP,
    output: str,
    probability: float,
    tolerance: float = 0.1,
    seed: int = 0,
    budget: int = 2_000_000,
    progress: Callable[[int, float], None] | None = None,
) -> Quantile:
    """The number t with P(output < t) = `probability` under the law of the input, with an interval.

    `output` is a linear combination of outputs, or its absolute value: "y0", "y0 - y1", "|y0|". A
    pilot splits its way to the tail and finds t roughly; probabilities are then measured at t and
    at a threshold on either side of it, each to the relative `tolerance` by at most `budget`
    passes, as `cumprop.probability` does, and again further out where an interval does not clear
    the wanted one. `progress` is called with the passes of a threshold so far and the relative half
    width. Raises CumpropError for probabilities outside (0, 1), tolerances outside (0, 0.5], and
    what `cumprop.probability` refuses. Levels beyond 2^-100 are unreliable. The interval covers the
    modes that were found, like that of a probability.
    Cost: usually three probabilities and the passes of one pilot.

    >>> import cumprop
    >>> line = cumprop.MLP([[[3.0, 4.0]]])                                   # Y ~ N(0, 25)
    >>> found = cumprop.quantile(line, "y0", 1e-9)                           # -5.998 s.d.
    >>> low, high = found.interval
    >>> low < -29.989 < high, bool(high - low < 0.6), found.status
    (True, True, 'ok')
    """
    q, tolerance = typed(probability, float, "probability"), typed(tolerance, float, "tolerance")
    budget = typed(budget, int, "budget")
    if not 0 < q < 1:
        raise CumpropError(f"probability is {q:g}; give a number between 0 and 1, as in 0.999")
    if not 0 < tolerance <= LARGEST_TOLERANCE:
        raise CumpropError(f"tolerance is {tolerance:g}; give a relative error above 0, up to 0.5")
    check(network, budget)
    return _Search(network, output, q, tolerance, seed, budget, progress).found()


@dataclass
class _Search:
    """Thresholds v, along which the tail P(v) falls: v = t for tails above, v = −t below."""

    network: MLP
    output: str
    q: float
    tolerance: float
    seed: int
    budget: int
    progress: Callable[[int, float], None] | None
    runs: list[Probability] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.side = 1 if self.q > 0.5 else -1
        self.share = min(self.q, 1 - self.q)

    def found(self) -> Quantile:
        with counting() as flops:
            v, fold, passes, lost = self._pilot()
        ends, doubts = (v, v), [lost] if lost else []
        if not lost:
            v += fold * self._logarithm(self._measured(v).probability)
            apart = _APART * self.tolerance
            below, inner = self._cleared(v - apart * fold, fold, -1)
            above, outer = self._cleared(v + apart * fold, fold, 1)
            ends = below, above
            a, b = (self._logarithm(run.probability) for run in (inner, outer))
            v = below + (above - below) * min(max(a / (a - b), 0), 1) if a > b else v
            doubts = [end.status for end in (inner, outer) if end.status != "ok"]
            if not inner.interval[0] >= self.share >= outer.interval[1]:
                doubts.append(
                    f"unreliable: {len(self.runs)} thresholds do not surely enclose the quantile; "
                    "raise the budget or the tolerance, or take monte_carlo"
                )
        doubts.sort(key=lambda status: not is_unreliable(status))
        low, high = sorted(self._threshold(end) for end in ends)
        return Quantile(
            self.output,
            self.q,
            self._threshold(v),
            (low, high),
            passes + sum(run.passes for run in self.runs),
            added(flops, *(run.flops for run in self.runs)),
            next(iter(doubts), "ok"),
        )

    def _threshold(self, v: float) -> float:
        return self.side * v + 0.0  # which is never -0.0

    def _event(self, v: float) -> Event:
        words = f"{self.output} {'>' if self.side > 0 else '<'} {self._threshold(v)!r}"
        return Event.parsed(words, self.network.widths[-1])

    def _rng(self, run: int) -> np.random.Generator:
        return streams.rare_event(self.seed, self.network.shape.width, run)

    def _pilot(self) -> tuple[float, float, int, str]:
        """The quantile v, its change for an e-fold of the tail, passes, and a reason to give up."""
        components, rng = parts(self.network, self._event(0.0)), self._rng(1)
        tails = list[tuple[float, Array, Array]]()
        for weight, excess in components:
            most = int(_OF_PILOT * self.budget / len(components))
            found = pilot(excess, rng, most, np.inf, self.share / 2)
            levels = np.array([step.level for step in found.steps])
            tails.append((weight, levels, np.cumprod([step.share for step in found.steps])))
        passes = sum(excess.passes for _, excess in components)
        levels = np.unique(np.concatenate([levels for _, levels, _ in tails]))
        tail = np.sum([weight * _tail(levels, *of_one) for weight, *of_one in tails], axis=0)
        if len(levels) < 2 or not tail[-1] < self.share:
            v = float(levels[-1]) if len(levels) else 0.0
            lost = f"the pilot ends at {self._threshold(v):.6g}, short of the quantile"
            remedy = "raise the budget, or take monte_carlo where many inputs have one output"
            return v, 0.0, passes, f"unreliable: {lost}; {remedy}"
        last = max(int(np.argmax(tail < self.share)), 1)
        (near, far), (p, less) = levels[last - 1 : last + 1], tail[last - 1 : last + 1]
        fold = (far - near) / log(p / max(less, p / 4))
        return float(near + fold * log(p / self.share)), float(fold), passes, ""

    def _measured(self, v: float) -> Probability:
        event, rng = self._event(v), self._rng(2 + len(self.runs))
        plan = Plan(event, self.tolerance, self.budget, False, rng)
        self.runs.append(measured(self.network, plan, self.progress))
        return self.runs[-1]

    def _logarithm(self, tail: float) -> float:
        """The logarithm of a measured tail over the wanted one, from −3 to 3."""
        return log(min(max(tail / self.share, exp(-3)), exp(3)))

    def _cleared(self, v: float, fold: float, outwards: int) -> tuple[float, Probability]:
        """A threshold on one side of the quantile whose interval does not reach the wanted tail."""
        while True:
            if v >= 0 and self.side < 0 and "|" in self.output:  # P(|y| < 0) = 0
                nothing = replace(self.runs[0], probability=0.0, interval=(0.0, 0.0), status="ok")
                return 0.0, replace(nothing, passes=0, flops=Flops())
            run = self._measured(v)
            end = run.interval[0 if outwards < 0 else 1]
            short = outwards * self._logarithm(end)
            if short <= 0 or len(self.runs) >= _MOST_RUNS:
                return v, run
            v += outwards * fold * (short + self.tolerance)


def _tail(at: Array, levels: Array, tail: Array) -> Array:
    """P(g > v) at thresholds `at`, log-linear between levels, ½ below them and 0 beyond."""
    if not len(levels):
        return np.zeros(len(at))
    found: Array = np.exp(np.interp(at, levels, np.log(tail), right=-np.inf))
    return found
