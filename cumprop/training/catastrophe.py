"""A costly event that no sample shows: the teacher, its event, and the ways to train it away.

A student imitates a teacher, E|f(x) - g(x)|²/n, and pays C E[(y - t)₊] for an output y above a
threshold t. The teacher crosses t with a given probability, and C is such that it pays 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isinf, log

import numpy as np

from cumprop import streams
from cumprop.errors import CumpropError
from cumprop.experiments.catastrophe_config import Run
from cumprop.functionals.rare import Probability, probability
from cumprop.networks import MLP, random_mlp
from cumprop.training.advice import Advice
from cumprop.training.distillation import random_student
from cumprop.training.losses import TailExcess
from cumprop.training.ways import (
    Adversarial,
    Conditional,
    ImportanceSampled,
    Mechanistic,
    Sampled,
    Way,
)
from cumprop.training.wiring import chained, tournament

_PRECISE = 0.05
_ROUGH = 0.3
_FOUND = 0.1
"""The threshold is found where the logarithm of the probability is this close to its target."""
_FIRST = 3e-3
_BUDGET = 300_000
_MOST_TRIALS = 20


@dataclass(frozen=True, eq=False)
class Case:
    """A teacher, and the event that it is to be imitated without.

    `cost` is C, `under_teacher` is the measured probability of the event under the teacher.
    """

    teacher: MLP
    event: TailExcess
    cost: float
    under_teacher: Probability


@lru_cache(maxsize=8)
def case(
    task: str, width: int, depth: int, activation: str, dtype: str, seed: int, target: float
) -> Case:
    """The case of a task whose event has about the `target` probability under the teacher.

    The tasks `imitation` and `repair` have one output of standard deviation 1. The task
    `controller` has two, which go into a known network max(y_0/t_0, y_1/t_1); the event is that it
    is above 1, and each output has half of the probability. Raises CumpropError where no threshold
    is found.
    """
    whole = random_mlp(width, depth, seed, activation, dtype=dtype)
    x = streams.held_out(seed, width, 0).standard_normal((2**16, width)).astype(dtype)
    outputs = 2 if task == "controller" else 1
    readout = whole.weights[-1][:outputs]
    spread = whole.forward(x)[:, :outputs].std(axis=0)
    teacher = whole.replace(
        weights=[*whole.weights[:-1], readout / spread[:, None]], biases=None, init_scale=None
    )
    share = target / outputs
    levels = np.quantile(teacher.forward(x), 1 - max(_FIRST, 2 * share), axis=0)
    thresholds = [
        _threshold(teacher, output, share, float(level)) for output, level in enumerate(levels)
    ]
    event = TailExcess(thresholds[0])
    if task == "controller":
        event = TailExcess(1.0, downstream=_largest(thresholds[0], thresholds[1], dtype))
    found = measured(teacher, event, _PRECISE)
    return Case(teacher, event, 1 / found.excess, found)


def first_student(run: Run, case: Case) -> MLP:
    """The student before the first step: of the task `repair` the teacher, else a random one."""
    if run.task == "repair":
        return case.teacher
    return random_student(case.teacher, run.width, run.seed)


def _largest(first: float, second: float, dtype: str) -> MLP:
    """The network max(y_0/first, y_1/second)."""
    shares = MLP([np.diag([1 / first, 1 / second]).astype(dtype)])
    return chained(shares, tournament(2, "relu", dtype))


def _threshold(teacher: MLP, output: int, target: float, level: float) -> float:
    """The level that an output exceeds with about the `target` probability.

    The logarithm of the probability falls with the level: its root is bracketed, by steps of the
    output's standard deviation, then interpolated.
    """

    def gap(trial: float) -> float:
        p = measured(teacher, TailExcess(trial, output), _ROUGH).probability
        return log(p / target) if p else -inf

    low, high = level, level + 1
    above, below = gap(low), gap(high)
    for _ in range(_MOST_TRIALS):
        if above <= 0:
            low, (high, below) = low - 1, (low, above)
            above = gap(low)
        elif below > 0:
            high, (low, above) = high + 1, (high, below)
            below = gap(high)
        else:
            share = 0.5 if isinf(below) else above / (above - below)
            trial = low + min(max(share, 0.1), 0.9) * (high - low)
            found = gap(trial)
            if abs(found) < _FOUND:
                return trial
            if found > 0:
                low, above = trial, found
            else:
                high, below = trial, found
    raise CumpropError(
        f"no threshold with probability {target:g} was found; take another teacher or probability"
    )


def measured(
    student: MLP, event: TailExcess, tolerance: float, shift: float = 1.0, seed: int = 0
) -> Probability:
    """The probability of the event and its excess, unbiased, of inputs of this deviation."""
    margin = event.margin(student)
    if shift != 1:
        margin = margin.replace(input_cov=shift**2)
    return probability(margin, "y0 > 0", tolerance, seed, budget=_BUDGET, excess=True)


def way(run: Run, case: Case, rng: np.random.Generator) -> Way:
    """The way in which a run estimates its penalty; its advice starts at the teacher's."""
    if run.way == "sampled":
        return Sampled(run.batch)
    if run.way == "cumulant":
        return Mechanistic(run.order)
    reach = 6.0 if run.way == "adversarial" else 8.0
    advice = Advice(run.advice_steps, run.directions, run.fresh, reach=reach)
    advice.update(case.event.margin(case.teacher), rng)
    ways: dict[str, Callable[[], Way]] = {
        "adversarial": lambda: Adversarial(advice),
        "importance": lambda: ImportanceSampled(advice, run.batch),
        "conditional": lambda: Conditional(advice, run.order),
    }
    return ways[run.way]()
