"""Ways to estimate a loss and its gradient: from samples, at the advice, or from the weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import numpy as np

from cumprop.contract import estimate
from cumprop.contract.printing import NORMAL_QUANTILE
from cumprop.estimators.conditional import Conditional as Along
from cumprop.estimators.conditional import Rule, interval
from cumprop.networks import MLP
from cumprop.training.advice import Advice
from cumprop.training.losses import Loss
from cumprop.training.source import Source
from cumprop.training.wiring import on_host

CHECKED = 4096
"""Samples at the advice that measure the error of an estimate."""


class Way(ABC):
    """A way to estimate a loss of a student whose weights are tensors."""

    @abstractmethod
    def __call__(self, loss: Loss, student: MLP, source: Source) -> Any:
        """The estimate, a tensor of shape () with a gradient."""

    def half_width(self, loss: Loss, student: MLP, source: Source, found: float) -> float | None:
        """The error that the way states of its estimate `found`: half of a 95% interval.

        None where the number is no estimate, or a single one says nothing of its error.
        """
        return None

    def prepare(self, loss: Loss, student: MLP, source: Source) -> int:
        """Bring up to date what the way knows, before every step; returns the FLOPs of that."""
        return 0

    @property
    def work(self) -> Hashable:
        """The kind of step, of which every one has the same FLOPs."""
        return None


@dataclass(frozen=True)
class Sampled(Way):
    """The mean over `batch` fresh inputs: unbiased."""

    batch: int

    def __call__(self, loss: Loss, student: MLP, source: Source) -> Any:
        values = loss.values(student, source.draw(self.batch))
        return values.sum() / values.numel()


@dataclass(frozen=True)
class Mechanistic(Way):
    """The estimate by cumulants up to `order`, from the weights alone."""

    order: int = 2

    def __call__(self, loss: Loss, student: MLP, source: Source) -> Any:
        return estimate(loss.network(student), "cumulant", order=self.order).mean[0]

    def half_width(self, loss: Loss, student: MLP, source: Source, found: float) -> float | None:
        """The half width of the estimator, which is calibrated (docs/calibration.md)."""
        whole = estimate(loss.network(on_host(student)), "cumulant", order=self.order)
        return None if whole.half_width is None else float(whole.half_width[0])


@dataclass(frozen=True)
class Advised(Way):
    """A way that uses the nearest dangerous inputs; no gradient goes through them."""

    advice: Advice

    def half_width(self, loss: Loss, student: MLP, source: Source, found: float) -> float | None:
        """The distance from a sampled estimate at the same advice, and the noise of that.

        The error holds what the estimate misses of the causes that the advice knows. Other causes
        count as far as samples around these show them, so that intervals with this half width hold
        less often than 95% where causes are unknown (docs/training.md). Samples that show no loss
        bound no error.
        Cost: `CHECKED` forward passes.
        """
        values = self.weighted(loss, student, source, CHECKED).mean(1)
        if not values.any():
            return inf
        noise = float(values.std()) / sqrt(CHECKED)
        return abs(float(values.mean()) - found) + NORMAL_QUANTILE * noise

    def weighted(self, loss: Loss, student: MLP, source: Source, number: int) -> Any:
        """Values of the loss with weights, (number, k), whose mean over all entries is unbiased.

        The inputs come in equal shares from N(m, I) around each point m (around 0 where none is
        known), and have the weight φ(z) over the density of this mixture.
        """
        points = self.advice.points if len(self.advice.points) else np.zeros((1, source.n))
        centres = source.tensor(points)
        chosen = source.rng.integers(len(points), size=number)
        z = source.normal(number) + centres[chosen]
        ratios = (z @ centres.T - (centres * centres).sum(1) / 2).exp()
        return loss.values(student, source.placed(z)) / ratios.mean(1)[:, None]

    def prepare(self, loss: Loss, student: MLP, source: Source) -> int:
        return self.advice.update(loss.margin(on_host(student)), source.rng)

    @property
    def work(self) -> Hashable:
        return len(self.advice.points)


@dataclass(frozen=True)
class ImportanceSampled(Advised):
    """The mean over `batch` weighted inputs around the points of the advice: unbiased."""

    batch: int = 64

    def __call__(self, loss: Loss, student: MLP, source: Source) -> Any:
        weighted = self.weighted(loss, student, source, self.batch)
        return weighted.sum() / weighted.numel()


@dataclass(frozen=True)
class Conditional(Advised):
    """The sum of one-dimensional integrals through the points of the advice, from the weights.

    Along the direction u of a point at distance β, E ℓ = ∫ φ(s) E[ℓ | u·z = s] ds. The inner means
    are those of the estimator `conditional`, at `nodes` values of s around β (`window`). The
    integral over all s does not depend on u, so that u takes no gradient. The integrals of several
    points are added, as they are where each holds a cause that the others miss.
    """

    order: int = 2
    nodes: int = 8

    def __call__(self, loss: Loss, student: MLP, source: Source) -> Any:
        inner, network = Along(order=self.order), loss.network(student)
        total = _nothing(student)
        for point in self.advice.points:
            distance = float(np.linalg.norm(point))
            rule = window(distance, self.nodes)
            total = total + inner.along(network, point / distance, rule).mean[0]
        return total


def window(distance: float, nodes: int) -> Rule:
    """Nodes of s around an event at this distance, and weights with the density φ(s) in them.

    Half of the nodes are Gauss–Legendre's of the 3 standard deviations before the event, where an
    inner mean falls smoothly to 0, and half of the 2 beyond, whose density has almost all of it.

    >>> rule = window(5.0, 16)
    >>> f"{rule.weights @ np.maximum(rule.nodes[:, 0] - 5.0, 0.0):.4g}"       # E[(z - 5)₊]
    '5.346e-08'
    """
    halves = [
        interval(low, high, nodes // 2)
        for low, high in ((distance - 3, distance), (distance, distance + 2))
    ]
    return Rule(
        np.concatenate([half.nodes for half in halves]),
        np.concatenate([half.weights for half in halves]),
    )


@dataclass(frozen=True)
class Adversarial(Advised):
    """The loss at the nearest dangerous inputs alone, one standard deviation beyond each.

    The value is no estimate of the loss: it knows nothing of how likely these inputs are.
    """

    def half_width(self, loss: Loss, student: MLP, source: Source, found: float) -> float | None:
        return None

    def __call__(self, loss: Loss, student: MLP, source: Source) -> Any:
        points = self.advice.points
        if not len(points):
            return _nothing(student)
        beyond = points * (1 + 1 / np.linalg.norm(points, axis=1, keepdims=True))
        values = loss.values(student, source.placed(source.tensor(beyond)))
        return values.sum() / values.numel()


def _nothing(student: MLP) -> Any:
    """Zero, with a gradient of zeros."""
    return student.weights[-1][0, 0] * 0
