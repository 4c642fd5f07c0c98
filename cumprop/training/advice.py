"""Advice: the nearest inputs at which an event happens, kept current while a student learns.

In z ~ N(0, I), of which the input is a linear map, the density falls with |z|, so that the points
of the event nearest to 0 are the likeliest. One walk serves to find them and to follow them:
z <- z + (z' - z)/2, where z' is the point nearest to 0 at which the margin, linear around z, is 0
(Hasofer, Lind, Rackwitz and Fiessler). One step costs a forward and a backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import plain
from cumprop.networks import MLP
from cumprop.training.source import Source
from cumprop.training.wiring import require_torch

Array = NDArray[Any]

_SEARCH_STEPS = 30
_SPREAD = 2.0
"""The scale of the points from which a search starts, in standard deviations."""
_ALIKE = 0.7
"""Two points of one direction, by the cosine between them, are one cause."""
_ARRIVED = 0.2
"""A point has arrived where the margin, linear around it, is 0 within this share of its length."""


@dataclass(eq=False)
class Advice:
    """Points z of an event, nearest first, at most `directions` of them, (k, n).

    Every training step moves the points by `steps` steps of the walk. Every `fresh` training steps
    (0: only when no point is known) a search from `starts` random points looks for other causes.
    A point farther than `reach` is dropped: beyond 8 standard deviations lies 1e-15 of the
    probability. `points` may be given, as those of a known dangerous network are.

    >>> Advice(directions=2, steps=1).points.shape
    (0, 0)
    """

    steps: int = 5
    directions: int = 1
    fresh: int = 0
    starts: int = 64
    reach: float = 8.0
    points: Array = field(default_factory=lambda: np.empty((0, 0)))
    age: int = 0

    @property
    def work(self) -> tuple[int, bool]:
        """The number of points that the next update moves, and whether it searches."""
        search = self.age % self.fresh == 0 if self.fresh else not len(self.points)
        return len(self.points), search

    def update(self, margin: MLP, source: Source) -> None:
        """Move the points to where the `margin` of the present student is 0; drop what is far."""
        _, search = self.work
        self.age += 1
        found = [self.points.reshape(-1, source.n)]
        if len(self.points) and self.steps:
            found = [walked(margin, source, self.points, self.steps)[0]]
        if search:
            starts = _SPREAD * source.rng.standard_normal((self.starts, source.n))
            points, gaps = walked(margin, source, starts, _SEARCH_STEPS)
            found.append(points[gaps < _ARRIVED])
        self.points = self._chosen(np.concatenate(found))

    def _chosen(self, points: Array) -> Array:
        """The nearest points of different directions."""
        lengths = np.linalg.norm(points, axis=1)
        chosen: list[int] = []
        for i in np.argsort(lengths):
            if len(chosen) == self.directions or not 0 < lengths[i] <= self.reach:
                break
            units = points[chosen] / lengths[chosen, None]
            if not (units @ points[i] > _ALIKE * lengths[i]).any():
                chosen.append(i)
        return points[chosen]


def walked(margin: MLP, source: Source, points: Array, steps: int) -> tuple[Array, Array]:
    """The points after so many steps of the walk, and how far off they are: |margin| / |∇| |z|."""
    torch = require_torch()
    z = source.tensor(points)
    for _ in range(steps):
        z.requires_grad_()
        y = margin.forward(source.placed(z))[:, 0]
        (slope,) = torch.autograd.grad(y.sum(), z)
        with torch.no_grad():
            square = (slope * slope).sum(1).clamp(min=1e-12)
            shift = ((slope * z).sum(1) - y) / square
            gap = (y * y / (square * (z * z).sum(1))).sqrt()
            z = z + (slope * shift[:, None] - z) / 2
    found = plain(z).detach().numpy().astype(np.float64)
    return found, gap.numpy()
