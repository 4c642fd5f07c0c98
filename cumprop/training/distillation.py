"""Distillation from the weights: descend on the estimated loss of a student (mathematics §8).

The stacked network computes f(x) - g(x), and the order-K cumulants of its output give the loss
E|f(x) - g(x)|²/n, differentiable in the weights of both. Stochastic gradient descent on sampled
inputs is run for comparison. Only functions that train import PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop import streams
from cumprop.activations import side_by_side
from cumprop.contract import estimator
from cumprop.errors import CumpropError
from cumprop.flops import counted, plain
from cumprop.inputs import Gaussian
from cumprop.inputs.law import alike
from cumprop.networks import MLP, he
from cumprop.sampling import Inputs

Array = NDArray[Any]
Loss = Callable[[], Any]
"""A function that computes a loss of a network that is already built."""


def stacked(f: MLP, g: MLP) -> MLP:
    """The network x -> f(x) - g(x), whose widths are the sums of both networks' widths.

    The first maps are stacked, the hidden ones block-diagonal, the last is [W_f, -W_g]; the law of
    the input is that of `f`. Weights may be tensors. Raises CumpropError for networks that differ
    in input, output or depth, or have no hidden layer.

    >>> f, g = MLP([[[1.0]], [[2.0]]]), MLP([[[-1.0]], [[3.0]]])   # 2 relu(x), 3 relu(-x)
    >>> stacked(f, g).forward([[1.0], [-1.0]]).tolist()
    [[2.0], [-3.0]]
    """
    _check_pair(f, g)
    a, b = ([counted(w) for w in network.weights] for network in (f, g))
    hidden = [_block_diagonal(*blocks) for blocks in zip(a[1:-1], b[1:-1], strict=True)]
    weights = [np.concatenate([a[0], b[0]]), *hidden, np.concatenate([a[-1], -b[-1]], axis=1)]
    biases = None
    if any(bias is not None for bias in (*f.biases, *g.biases)):
        c, d = _biases(f), _biases(g)
        inner = [np.concatenate(pair) for pair in zip(c[:-1], d[:-1], strict=True)]
        biases = [plain(bias) for bias in (*inner, c[-1] - d[-1])]
    activations = [
        side_by_side((a, n), (b, m))
        for a, b, n, m in zip(
            f.activations, g.activations, f.widths[1:], g.widths[1:], strict=False
        )
    ]
    return f.replace(
        weights=[plain(w) for w in weights], biases=biases, activations=activations, init_scale=None
    )


def _check_pair(f: MLP, g: MLP) -> None:
    ends = [(n.widths[0], n.widths[-1], n.depth) for n in (f, g)]
    if ends[0] != ends[1] or not f.depth:
        raise CumpropError(
            f"networks of (inputs, outputs, hidden layers) {ends[0]} and {ends[1]} cannot be "
            "stacked; give two that agree, with a hidden layer at least"
        )
    if not alike(f.input, g.input):
        raise CumpropError("networks of different input distributions cannot be stacked")


def _block_diagonal(a: Array, b: Array) -> Array:
    upper = np.concatenate([a, np.zeros_like(a, shape=(len(a), b.shape[1]))], axis=1)
    lower = np.concatenate([np.zeros_like(b, shape=(len(b), a.shape[1])), b], axis=1)
    return np.concatenate([upper, lower])


def _biases(network: MLP) -> list[Array]:
    pairs = zip(network.weights, network.biases, strict=True)
    return [
        np.zeros_like(counted(w), shape=(len(w),)) if b is None else counted(b) for w, b in pairs
    ]


def mechanistic_loss(difference: MLP, order: int = 2) -> Any:
    """The estimate of E|Y|²/n of a network with n outputs, by cumulants of order K ≥ 2.

    Of `stacked(f, g)` it is the loss between f and g: a number, or a tensor with a gradient. The
    truncated expansion leaves an error: order 2 takes the nonlinear parts of two neurons as
    independent, so that the loss of g = f is not 0, and order 3 can be negative. Raises
    CumpropError as `cumulant` does. Cost: that of `cumulant` with a covariance.

    >>> f, g = (MLP([[[1.0]], [[w]]], activations="identity") for w in (2.0, 5.0))
    >>> float(mechanistic_loss(stacked(f, g)))               # E|2x - 5x|²
    9.0
    """
    estimate = estimator.estimate(difference, "cumulant", cov=True, order=order)
    mean, cov = counted(estimate.mean), counted(estimate.cov)
    return plain((mean * mean + cov.diagonal()).sum() / len(mean))


def sampled_loss(f: MLP, g: MLP, x: Any) -> Any:
    """The mean of |f(x) - g(x)|²/n over inputs x, (N, n_0): an unbiased estimate of the loss."""
    difference = counted(f.forward(x)) - counted(g.forward(x))
    return plain((difference * difference).sum() / difference.size)


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


@dataclass(frozen=True)
class State:
    """A student in training: its loss as the method computes it, and the FLOPs spent so far."""

    student: MLP
    loss: float
    flops: int


def distil(teacher: MLP, student: MLP, order: int, lr: float) -> Iterator[State]:
    """Gradient descent on the order-K loss; yields the student before every step.

    The iterator ends only where a weight is not finite.
    """

    def loss(f: MLP, g: MLP) -> Loss:
        return partial(mechanistic_loss, stacked(f, g), order)

    return _descend(teacher, student, loss, lr)


def sgd(
    teacher: MLP, student: MLP, batch: int, lr: float, rng: np.random.Generator
) -> Iterator[State]:
    """Gradient descent on `batch` fresh inputs of the teacher per step; yields as `distil` does.

    The FLOPs of a step include the map from standard normal numbers to inputs of N(μ0, Σ0), but
    neither the drawing of these numbers, nor the root of Σ0, nor inputs of another law.
    """
    torch, law = require_torch(), teacher.input
    inputs = Inputs(teacher) if isinstance(law, Gaussian) else None

    def loss(f: MLP, g: MLP) -> Loss:
        if inputs is None:
            x = torch.from_numpy(law.sample(batch, rng).astype(f.dtype))
            return lambda: sampled_loss(f, g, x)
        z = rng.standard_normal((batch, f.widths[0])).astype(f.dtype)
        return lambda: sampled_loss(f, g, inputs.placed(counted(torch.from_numpy(z))))

    return _descend(teacher, student, loss, lr)


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


def _descend(
    teacher: MLP, student: MLP, prepare: Callable[[MLP, MLP], Loss], lr: float
) -> Iterator[State]:
    """Steps w <- w - lr dL/dw; FLOPs of loss, backward pass and update are counted."""
    torch = require_torch()
    from cumprop.flops.torch_executed import TorchFlops

    f = teacher.replace(weights=[torch.tensor(w) for w in teacher.weights])
    weights, flops = [torch.tensor(w) for w in student.weights], 0
    while all(bool(w.isfinite().all()) for w in weights):
        g = student.replace(weights=[w.requires_grad_() for w in weights])
        loss = prepare(f, g)
        with TorchFlops() as meter:
            value = loss()
            gradients = torch.autograd.grad(value, weights)
            with torch.no_grad():
                stepped = [w - lr * d for w, d in zip(weights, gradients, strict=True)]
        arrays = [w.detach().numpy() for w in weights]
        yield State(student.replace(weights=arrays), float(value.detach()), flops)
        weights, flops = stepped, flops + meter.total


def require_torch() -> Any:
    """The module of PyTorch; raises CumpropError with the remedy where it is not installed."""
    try:
        import torch
    except ImportError:
        raise CumpropError(
            "distillation takes gradients with PyTorch, which is not installed: "
            "pip install 'cumprop[torch]'"
        ) from None
    return torch
