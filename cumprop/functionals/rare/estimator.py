"""The probability of an event of the outputs, to a relative tolerance."""

from __future__ import annotations

from collections.abc import Callable

from cumprop import streams
from cumprop.errors import CumpropError
from cumprop.flops import counting
from cumprop.functionals.rare.event import Event
from cumprop.functionals.rare.passes import parts
from cumprop.functionals.rare.plan import Plan
from cumprop.functionals.rare.result import Probability
from cumprop.functionals.rare.splitting import LAST_MOVES, MOVES, PARTICLES
from cumprop.inputs import Empirical
from cumprop.memory import COPIES, check_memory
from cumprop.networks import MLP
from cumprop.parameters import typed

LEAST_BUDGET = 20_000
"""The smallest budget that a pilot gets somewhere with."""
_ALIVE = 6 * PARTICLES * LAST_MOVES // MOVES
"""Points z, in float64, that the look at one component keeps at its worst moment."""


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
    Cost: at 1e-6 about 160,000 passes for an easy network, up to the budget for a hard one.

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
    check(network, budget)
    plan = Plan(
        Event.parsed(event, network.widths[-1]),
        tolerance,
        budget,
        excess,
        streams.rare_event(seed, network.shape.width),
    )
    return measured(network, plan, progress)


def check(network: MLP, budget: int) -> None:
    """Raise CumpropError for rows of data, a budget that is too small, and too little memory."""
    if budget < LEAST_BUDGET:
        raise CumpropError(f"budget is {budget:,} passes; give {LEAST_BUDGET:,} or more")
    if isinstance(network.input, Empirical):
        raise CumpropError(
            "rows of data show no rarer event than one in their number: take monte_carlo, or fit a "
            "law to them (Empirical.smoothed)"
        )
    n = max(network.widths[:-1])
    check_memory(8 * n * (_ALIVE + n) // COPIES)


def measured(
    network: MLP, plan: Plan, progress: Callable[[int, float], None] | None
) -> Probability:
    """The probability of the plan's event."""
    with counting() as flops:
        plan.look(parts(network, plan.event))
        plan.spend(progress)
    return plan.result(flops)
