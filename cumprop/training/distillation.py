"""Distillation from the weights: descend on the estimated loss of a student (mathematics §8).

The stacked network computes f(x) - g(x), and the order-K cumulants of its output give the loss
E|f(x) - g(x)|²/n, differentiable in the weights of both. Stochastic gradient descent on sampled
inputs is run for comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop import streams
from cumprop.contract import estimate
from cumprop.networks import MLP, he
from cumprop.training.descent import State, Term, descend
from cumprop.training.losses import Imitation, squared
from cumprop.training.ways import Mechanistic, Sampled
from cumprop.training.wiring import in_torch

Array = NDArray[Any]


def mechanistic_loss(difference: MLP, order: int = 2) -> Any:
    """The estimate of E|Y|²/n of a network with n outputs, by cumulants of order K ≥ 2.

    Of `stacked(f, g)` it is the loss between f and g: a number, or a tensor with a gradient. The
    truncated expansion leaves an error: order 2 takes the nonlinear parts of two neurons as
    independent, so that the loss of g = f is not 0, and order 3 can be negative. Raises
    CumpropError as `cumulant` does. Cost: that of `cumulant` with one more
    layer.

    >>> from cumprop.training.wiring import stacked
    >>> f, g = (MLP([[[1.0]], [[w]]], activations="identity") for w in (2.0, 5.0))
    >>> float(mechanistic_loss(stacked(f, g)))               # E|2x - 5x|²
    9.0
    """
    return estimate(squared(difference), "cumulant", order=order).mean[0]


def sampled_loss(f: MLP, g: MLP, x: Any) -> Any:
    """The mean of |f(x) - g(x)|²/n over inputs x, (N, n_0): an unbiased estimate of the loss."""
    return Imitation(f).values(g, x).mean()


def random_student(teacher: MLP, width: int, seed: int) -> MLP:
    """A He-initialised network with the teacher's input, output, depth, activations and dtype.

    The law of the input is also the teacher's.
    """
    widths = (teacher.widths[0], *(width,) * teacher.depth, teacher.widths[-1])
    rng = streams.student(seed, teacher.widths[1], width)
    scales = he(teacher.activations[0], teacher.depth + 1).w_var
    weights = [
        (sqrt(scale / n) * rng.standard_normal((m, n))).astype(teacher.dtype)
        for scale, (n, m) in zip(scales, pairwise(widths), strict=True)
    ]
    return teacher.replace(weights=weights, biases=None, init_scale=None)


def distil(teacher: MLP, student: MLP, order: int, lr: float) -> Iterator[State]:
    """Gradient descent on the order-K loss; yields the student before every step.

    The iterator ends only where a weight is not finite.
    """
    terms = [Term(Imitation(in_torch(teacher)), Mechanistic(order))]
    return descend(student, terms, lr, np.random.default_rng(0))


def sgd(
    teacher: MLP, student: MLP, batch: int, lr: float, rng: np.random.Generator
) -> Iterator[State]:
    """Gradient descent on `batch` fresh inputs of the teacher per step; yields as `distil` does.

    FLOPs of inputs are counted as `Source` does.
    """
    return descend(student, [Term(Imitation(in_torch(teacher)), Sampled(batch))], lr, rng)


def true_loss(student: MLP, x: Array, targets: Array) -> tuple[float, float]:
    """The mean of |f(x) - g(x)|²/n over inputs x, (N, n_0), and its standard error.

    `targets` are f(x), (N, n).
    """
    errors = np.asarray(student.forward(x), dtype=np.float64) - targets
    losses = np.mean(errors**2, axis=1)
    return float(losses.mean()), float(losses.std(ddof=1) / sqrt(losses.size))


def flops_per_step(states: Iterator[State]) -> int:
    """The FLOPs of the first step of a training, counted as it runs."""
    next(states)
    return next(states).flops


def matched_batch(teacher: MLP, student: MLP, order: int) -> int:
    """The batch for which a step of `sgd` has the FLOPs of a step of `distil`, rounded.

    The cost of `sgd` is affine in the batch, so that two batches determine it.
    """
    target = flops_per_step(distil(teacher, student, order, 0.0))
    rng = np.random.default_rng(0)
    one, two = (flops_per_step(sgd(teacher, student, n, 0.0, rng)) for n in (1, 2))
    return max(1, round(1 + (target - one) / (two - one)))
