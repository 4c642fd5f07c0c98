"""The orders from cheap to dear, and their expected errors (mathematics §10)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import stand_in
from cumprop.contract import Estimator, build
from cumprop.networks import Shape

Array = NDArray[Any]


@dataclass(frozen=True)
class Candidate:
    """A choice of `parameters` of `cumulant`, with its `law` for `Expansion.error`.

    Its FLOPs are about `work` · n^(3 + `power`) · (L - 1)^`growth`, plus `moments` for each neuron
    whose Gaussian moments need quadrature.
    """

    name: str
    parameters: dict[str, Any]
    law: tuple[float, float, float, float]
    work: float
    growth: int
    moments: int
    power: int = 0

    @property
    def estimator(self) -> Estimator:
        return build("cumulant", **self.parameters)

    def flops(self, shape: Shape) -> float:
        """FLOPs to within a factor of two where matrix products dominate; takes no time."""
        n_0, n_1, *_ = shape.widths
        hidden = shape.widths[1:-1]
        curved = sum(
            n
            for n, name in zip(hidden, shape.activations, strict=True)
            if stand_in(name).by_quadrature
        )
        moments = self.moments * curved
        if len(hidden) < 2:
            return moments + 4 * sum(a * b for a, b in pairwise(shape.widths))
        cubes = [a * b * (a + b) / 2 for a, b in pairwise(hidden)]
        products = np.mean(cubes) * max(hidden) ** self.power * (shape.depth - 1) ** self.growth
        return float(n_1**2 * n_0 + self.work * products + moments)


CANDIDATES = (
    Candidate("order 2", {"order": 2}, (0.50, 2, 1, 0), 4, 1, 12_000),
    Candidate("order 3", {"order": 3}, (0.82, 1.38, 0, 0.79), 6.9, 2, 28_000),
    Candidate("order 3 tree", {"order": 3, "kind": "tree"}, (0.83, 0.06, 0, 1.12), 13, 2, 32_000),
    Candidate("order 4", {"order": 4}, (0.49, 2.58, 0, 0.35), 8.7, 2, 32_000, 1),
)
"""The orders that are tried, from cheap to dear.

Order 1 is not among them: after one hidden layer it costs as much as order 2, elsewhere order 2 is
better by far, and the change between them says little about the error of order 2."""
QUANTILE = 2.4
"""The 95% quantile of |error| over all outputs and networks, in expected RMS errors."""
LARGEST = 0.6
"""The largest step q for which the laws are calibrated; beyond it no order is tried."""
FEW_INPUTS = 8
"""With fewer effective inputs, no order is tried, because orders may agree and be wrong."""
WORTH = 0.4
"""The largest share of the FLOPs of sampling that an order may take, since it may fail."""
CHEAP = 0.1
"""An order with no more than this share of the FLOPs of sampling is tried in any case."""
HOPELESS = 2.0
"""Order 2 is left out where its expected error exceeds this multiple of the tolerance at best."""
DIVERGING = 2.0
"""A change that is larger than the one before by this factor shows that orders diverge."""


def effective_inputs(shape: Shape, input_cov: Array | None = None) -> float:
    """The effective number of inputs: n_0 for a covariance σ² I, else (tr Σ0)² / tr Σ0².

    Σ0 is a matrix (n_0, n_0), its diagonal (n_0,) or a number.

    >>> effective_inputs(Shape((4, 9, 9, 1), ("relu", "relu")), np.diag([1.0, 1.0, 0.0, 0.0]))
    2.0
    """
    if input_cov is None or input_cov.ndim == 0 or not input_cov.any():
        return float(shape.widths[0])
    cov = input_cov / np.abs(input_cov).max().astype(np.float64)
    variances = cov.diagonal() if cov.ndim == 2 else cov
    return float(variances.sum() ** 2 / np.sum(cov * cov))


def unexplained(z: Array, x: Array) -> float:
    """The share of Var[x] that no linear function of z explains, from samples (m, n).

    Each neuron is regressed on its own pre-activation; the share is one of sums over the neurons.
    Squared residuals are divided by 1 - h, h the leverage of their sample (the HC2 of MacKinnon and
    White 1985), which leaves little bias where m is as small as 8.

    >>> z = np.random.default_rng(0).normal(size=(1000, 50))
    >>> round(unexplained(z, 3 * z + 1), 9), round(unexplained(z, np.maximum(z, 0)), 2)
    (0.0, 0.27)
    """
    m = len(z)
    if m < 3:
        return 1.0
    z, x = (a.astype(np.float64) - a.mean(axis=0, dtype=np.float64) for a in (z, x))
    squares = np.add.reduce(z * z, axis=0)
    inverse = 1 / np.where(squares > 0, squares, 1)
    residual = x - z * (np.add.reduce(z * x, axis=0) * inverse)
    lever = np.maximum(1 - 1 / m - z * z * inverse, 1 / m**2)  # 0 where one sample is all there is
    left = float(np.sum(residual * residual / lever))
    return min(1.0, left / (float(np.sum(x * x)) * m / (m - 1) or 1))


@dataclass(frozen=True)
class Expansion:
    """The expected errors of orders on a network of this shape (mathematics §10).

    `inputs` are effective inputs; the `nonlinearity` ν is the sum of `unexplained` over the layers.

    >>> wide, narrow = (Expansion(Shape((n,) * 4, ("relu",) * 2), n, 0.5) for n in (256, 32))
    >>> round(narrow.error(CANDIDATES[0]) / wide.error(CANDIDATES[0]))
    8
    """

    shape: Shape
    inputs: float
    nonlinearity: float

    @property
    def q(self) -> float:
        """The size of a step: q² = Σ 1/n_l over the layers 0 to L - 1."""
        return sqrt(sum(1 / n for n in (self.inputs, *self.shape.widths[1:-2])))

    def error(self, candidate: Candidate, change: float = 1) -> float:
        """The expected RMS error of a candidate, in output s.d., by its law.

        The law is a · q^b · ν^c · change^d; `change` is the change of the means since the candidate
        before. Order 2 needs none.
        """
        a, b, c, d = candidate.law
        return float(a * self.q**b * self.nonlinearity**c * change**d)

    def candidates(self, tolerance: float) -> list[tuple[int, Candidate]]:
        """The candidates to try, with their numbers.

        Order 2 is left out where its expected error is too large even if multiplied by √ν, as is
        possible for near-linear networks.
        """
        best = self.error(CANDIDATES[0]) * sqrt(min(1.0, self.nonlinearity))
        skipped = int(self.shape.depth > 1 and best > HOPELESS * tolerance)
        return list(enumerate(CANDIDATES))[skipped:]

    def why_not(self, k: int, error: float, tolerance: float, sampling: float) -> str | None:
        """The reason to sample, for `sampling` FLOPs, instead of running candidate k.

        `error` is the error of the candidate before.
        """
        exact = self.shape.depth <= 1
        if (self.q > LARGEST or self.inputs < FEW_INPUTS) and not exact:
            return "too few inputs or neurons for an expansion"
        if CANDIDATES[k].flops(self.shape) > WORTH * sampling:
            return f"{CANDIDATES[k].name} takes more FLOPs"
        if exact or CANDIDATES[k].flops(self.shape) <= CHEAP * sampling:
            return None
        for candidate in CANDIDATES[k:]:
            error = self.error(candidate, error)
            if error <= tolerance and candidate.flops(self.shape) <= WORTH * sampling:
                return None
        return "no order gets there for fewer FLOPs"


def diverging(changes: list[float], rounding: float) -> bool:
    """Whether the last change is larger than the one before it, by more than `rounding`.

    All numbers are in output standard deviations.
    """
    return len(changes) > 1 and changes[-1] > max(DIVERGING * changes[-2], rounding)
