"""Splitting: P(g > 0) as a product of shares, level by level, each by moves that keep N(0, I).

A level keeps the particles above it, copies them up to their old number, and moves each by
proposals √(1 − s²) z + s ν (preconditioned Crank and Nicolson), refused at or below the level.
Given levels and step sizes that do not depend on the particles, the product of the shares above
the levels is unbiased (Del Moral), and so is that product times a mean over the last particles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cumprop.functionals.rare.passes import Excess

Array = NDArray[Any]

PARTICLES = 500
"""Particles of the pilot."""
OF_A_RUN = 250
"""Particles of a run along the pilot's levels."""
MOVES = 3
"""Moves of a level below the event, and the distance between moves whose particles are kept."""
LAST_MOVES = 12
"""Moves within the event."""
MOST_LEVELS = 100
"""The pilot gives up where the event is less likely than about 2^-100."""
_FIRST_SIZE, _LARGEST_SIZE, _ACCEPTED = 0.9, 0.99, 0.3


class Step(NamedTuple):
    """A level of g, the sizes s of the moves above it, and the share of particles that passed."""

    level: float
    sizes: tuple[float, ...]
    share: float = 0.5


@dataclass(frozen=True, eq=False)
class Pilot:
    """The levels that one run of particles found on its way to the event.

    `probability` is that of reaching the last level, which is 0, the event, if it `arrived`;
    `particles`, (m, n), are samples of N(0, I) above the last level, and `values` their g.
    """

    steps: list[Step]
    probability: float
    particles: Array
    values: Array

    @property
    def arrived(self) -> bool:
        """Whether the event was reached."""
        return bool(self.steps) and self.steps[-1].level == 0

    @property
    def cost(self) -> int:
        """The passes of a run along the same levels."""
        return OF_A_RUN * (1 + sum(len(step.sizes) for step in self.steps))


class Runs(NamedTuple):
    """The unbiased probabilities of runs, (r,), and their last particles, (r, m, n), with g."""

    probabilities: Array
    particles: Array
    values: Array


def pilot(
    excess: Excess, rng: np.random.Generator, most_passes: int, top: float = 0.0, least: float = 0.0
) -> Pilot:
    """One run of particles that sets each level at the median, and step sizes by acceptance.

    It ends at the level `top`, the event if that is 0, and at a probability below `least`. Cost:
    500 passes and 1,500 for each halving of the probability, 6,000 at a level `top`.
    """
    z = excess.draw(PARTICLES, rng)
    g = excess(z)
    steps, probability, size = list[Step](), 1.0, _FIRST_SIZE
    kept = [(z, g)]
    until = excess.passes + most_passes
    while len(steps) < MOST_LEVELS and excess.passes < until:
        level = min(float(np.median(g)), top)
        alive = np.flatnonzero(g > level)
        if not len(alive):
            break
        share = len(alive) / PARTICLES
        probability *= share
        chosen = alive[_copies(len(alive), PARTICLES, rng)]
        z, g = z[chosen], g[chosen]
        sizes, kept = list[float](), list[tuple[Array, Array]]()
        for move in range(1, (MOVES if level < top else LAST_MOVES) + 1):
            sizes.append(size)
            rate = moved(excess, z, g, level, size, rng)
            size = min(_LARGEST_SIZE, size * float(np.exp((rate - _ACCEPTED) / 2)))
            if move % MOVES == 0:
                kept.append((z.copy(), g.copy()))
        steps.append(Step(level, tuple(sizes), share))
        if level == top or probability < least:
            break
    particles, values = map(np.concatenate, zip(*kept, strict=True))
    return Pilot(steps, probability, particles, values)


def runs(excess: Excess, steps: list[Step], number: int, rng: np.random.Generator) -> Runs:
    """Independent runs of 250 particles along given levels; a run that dies out has probability 0.

    The particles are those after every third move above the last level.
    """
    z = excess.draw(number * OF_A_RUN, rng)
    g = excess(z)
    probabilities = np.ones(number)
    for level, sizes, _ in steps:
        chosen = np.arange(len(z)).reshape(number, OF_A_RUN)
        for run, alive in enumerate((g > level).reshape(number, OF_A_RUN)):
            above = np.flatnonzero(alive)
            probabilities[run] *= len(above) / OF_A_RUN
            if len(above):
                chosen[run] = chosen[run, above[_copies(len(above), OF_A_RUN, rng)]]
        z, g = z[chosen.ravel()], g[chosen.ravel()]
        kept = list[tuple[Array, Array]]()
        for move, size in enumerate(sizes, start=1):
            moved(excess, z, g, level, size, rng)
            if move % MOVES == 0:
                kept.append((z.copy(), g.copy()))
    shape = (number, OF_A_RUN, -1)
    particles = np.concatenate([points.reshape(shape) for points, _ in kept], axis=1)
    values = np.concatenate([values.reshape(shape[:2]) for _, values in kept], axis=1)
    return Runs(probabilities, particles, values)


def _copies(alive: int, number: int, rng: np.random.Generator) -> Array:
    """The indices of `number` copies of `alive` particles, equally many of each on average."""
    copies: Array = ((np.arange(number) + rng.random()) * (alive / number)).astype(np.intp)
    return np.minimum(copies, alive - 1)


def moved(
    excess: Excess, z: Array, g: Array, level: float, size: float, rng: np.random.Generator
) -> float:
    """The share of accepted moves of particles z with excesses g, both changed in place."""
    proposed = excess.draw(len(z), rng)
    proposed *= z.dtype.type(size)
    proposed += z.dtype.type(np.sqrt(1 - size**2)) * z
    values = excess(proposed)
    accepted = values > level
    z[accepted], g[accepted] = proposed[accepted], values[accepted]
    return float(accepted.mean())
