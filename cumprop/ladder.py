"""The orders from cheap to dear, and the errors to expect of them (mathematics §10)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.estimator import Estimator, Shape, build

Array = NDArray[Any]


@dataclass(frozen=True)
class Rung:
    """A fixed choice, `parameters` of `cumulant`, and what to expect of it on a network.

    Its RMS error is about a · q^b · d^c, where d is the change since the rung before and q the size
    of a step of the expansion: `law` is (a, b, c), fitted as mathematics §10 says. Its FLOPs are
    about `work` · n^(3 + `power`) · (L - 1)^`growth`.
    """

    name: str
    parameters: dict[str, Any]
    law: tuple[float, float, float] = (0.3, 1, 0)
    work: float = 0
    growth: int = 0
    power: int = 0

    @property
    def estimator(self) -> Estimator:
        return build("cumulant", **self.parameters)

    def error(self, q: float, change: float) -> float:
        """RMS error to expect, in output standard deviations."""
        a, b, c = self.law
        return float(a * q**b * change**c)

    def flops(self, shape: Shape) -> float:
        """Within a factor of two where matrix products are most of it; takes no time."""
        n_0, n_1, *_ = shape.widths
        hidden = shape.widths[1:-1]
        if not self.work or len(hidden) < 2:
            return 4 * sum(a * b for a, b in pairwise(shape.widths))
        cubes = [a * b * (a + b) / 2 for a, b in pairwise(hidden)]
        products = np.mean(cubes) * max(hidden) ** self.power * (shape.depth - 1) ** self.growth
        return float(n_1**2 * n_0 + self.work * products)


LADDER = (
    Rung("order 1", {"order": 1}),
    Rung("order 2", {"order": 2}, (1.18, 1.14, 0.91), 4, 1),
    Rung("order 3", {"order": 3}, (0.90, 1.54, 0.76), 6.9, 2),
    Rung("order 3 tree", {"order": 3, "kind": "tree"}, (0.91, 0.94, 0.90), 9.3, 3),
    Rung("order 4", {"order": 4}, (0.39, 1.14, 0.61), 8.7, 2, 1),
)
SPREAD = 1.3
"""An order is accepted if so many times its expected RMS error are within the tolerance."""
QUANTILE = 2.2
"""95% of |error|, of all outputs and networks together, are below so many expected RMS errors."""
SMALLEST = 0.2
"""Order 2 is not believed to be better than this times q², however little order 1 differs."""
LARGEST = 0.6
"""Beyond this q nothing is calibrated, and the expansion is not tried."""
CHEAP = 0.1
"""An order that takes no more than this share of what sampling would is tried in any case."""
DIVERGING = 2.0
"""A change that is so many times the one before it says that the expansion does not converge."""


def expansion_parameter(shape: Shape, input_cov: Array | None = None) -> float:
    """q, the size of a step of the expansion: q² = Σ 1/n_l over the layers 0 to L - 1.

    An input of covariance Σ0 counts as (tr Σ0)² / tr Σ0² neurons.

    >>> round(expansion_parameter(Shape((64, 64, 64, 10), ("relu", "relu"))) ** -2)
    32
    """
    inputs, *hidden = map(float, shape.widths[:-2] or shape.widths[:1])
    if input_cov is not None and input_cov.any():
        cov = input_cov.astype(np.float64)
        inputs = float(np.trace(cov) ** 2 / np.sum(cov * cov))
    return sqrt(sum(1 / n for n in (inputs, *hidden)))


def why_not(
    k: int, error: float, q: float, tolerance: float, shape: Shape, sampling: float
) -> str | None:
    """Why to sample, for so many FLOPs, and not to run rung k; `error` is that of the rung before.

    Nothing can be said before order 2, which is why order 1 is run only if order 2 will be.
    """
    if q > LARGEST and shape.depth > 1:
        return "too few inputs or neurons for an expansion"
    first = max(k, 1) if shape.depth > 1 else k
    if LADDER[first].flops(shape) > sampling:
        return f"{LADDER[first].name} takes more FLOPs"
    if LADDER[k].flops(shape) <= CHEAP * sampling:
        return None
    for rung in LADDER[k:]:
        error = rung.error(q, error)
        if k < 2 or error <= tolerance:
            return None
        if rung.flops(shape) > sampling:
            break
    return "no order gets there for fewer FLOPs"


def diverging(changes: list[float]) -> bool:
    """Whether the last change is larger than the one before it, and no rounding error."""
    return len(changes) > 1 and changes[-1] > max(DIVERGING * changes[-2], 1e-6)
