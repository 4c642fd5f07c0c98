"""Advice: the nearest inputs at which an event happens, kept current while a student learns.

In z ~ N(0, I), of which the input is a linear map, the density falls with |z|, so that the points
of the event nearest to 0 are its likeliest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.errors import CumpropError
from cumprop.flops import counting
from cumprop.functionals.rare.event import Event
from cumprop.functionals.rare.passes import Excess, parts
from cumprop.functionals.rare.search import nearest_points
from cumprop.networks import MLP

Array = NDArray[Any]

_SPREAD = 2.0
"""The scale of the points from which a search starts, in standard deviations."""
_ALIKE = 0.7
"""Points of one direction, by the cosine between them, are one cause."""


@dataclass(eq=False)
class Advice:
    """Points z of an event, nearest first, at most `directions` of them, (k, n).

    Every training step moves the points by `steps` steps towards the nearest ones. Every `fresh`
    training steps (0: when no point is known) a search from `starts` random points looks for other
    causes. A point farther than `reach` is dropped: beyond 8 standard deviations along a direction
    lies 6e-16 of the probability. `points` may be given, as those of a known dangerous network are.

    >>> line = MLP([[[3.0, 4.0]]], [[-25.0]])                  # 3 x_1 + 4 x_2 > 25
    >>> advice = Advice()
    >>> flops = advice.update(line, np.random.default_rng(0))
    >>> advice.points.round(2).tolist()
    [[3.0, 4.0]]
    """

    steps: int = 5
    directions: int = 1
    fresh: int = 0
    starts: int = 24
    reach: float = 8.0
    points: Array = field(default_factory=lambda: np.empty((0, 0)))
    age: int = 0

    def update(self, margin: MLP, rng: np.random.Generator) -> int:
        """Move the points to where the output of `margin` is 0, and drop those that are far.

        Returns the FLOPs. Raises CumpropError where the input is not Gaussian or its covariance is
        singular. Cost: a forward and a backward pass for a step of a point, 20 for each start of a
        search.
        """
        search = self.age % self.fresh == 0 if self.fresh else not len(self.points)
        self.age += 1
        with counting() as flops:
            excess = _excess(margin)
            found = [self.points.reshape(-1, excess.n)]
            if len(self.points) and self.steps:
                found = [walked(excess, self.points, self.steps)]
            if search:
                starts = _SPREAD * rng.standard_normal((self.starts, excess.n))
                found.append(nearest_points(excess, starts))
        self.points = self._chosen(np.concatenate(found))
        return flops.total

    def _chosen(self, points: Array) -> Array:
        """The nearest points of different directions."""
        lengths = np.linalg.norm(points, axis=1)
        chosen: list[int] = []
        for i in np.argsort(lengths):
            if len(chosen) == self.directions or not 0 < lengths[i] <= self.reach:
                break
            cosines = points[chosen] @ points[i] / (lengths[chosen] * lengths[i])
            if not (cosines > _ALIKE).any():
                chosen.append(i)
        return points[chosen]


def walked(excess: Excess, z: Array, steps: int) -> Array:
    """The points z, (k, n), after steps half way to the nearest points of tangent planes of g = 0.

    The step is that of Hasofer, Lind, Rackwitz and Fiessler. A flat point stays.
    """
    for _ in range(steps):
        g, slope = excess.slopes(z)
        square = (slope * slope).sum(axis=1)
        shift = np.divide(
            (slope * z).sum(axis=1) - g, square, out=np.zeros_like(g), where=square > 0
        )
        z = np.where(square[:, None] > 0, (z + shift[:, None] * slope) / 2, z)
    return z


def _excess(margin: MLP) -> Excess:
    """The output of `margin` as a function of z."""
    if not margin.has_gaussian_input:
        raise CumpropError(f"advice is about a Gaussian input, not {margin.input.words}")
    ((_, excess),) = parts(margin, Event.parsed("y0 > 0", 1))
    if excess.n != margin.widths[0]:
        raise CumpropError("advice needs an input_cov of full rank: leave constant inputs out")
    return excess
