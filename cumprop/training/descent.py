"""Gradient descent on a sum of losses, each estimated in its own way."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from operator import add
from typing import Any, Literal

import numpy as np

from cumprop.flops import on_host
from cumprop.networks import MLP
from cumprop.training.losses import Loss
from cumprop.training.source import Source
from cumprop.training.ways import Way
from cumprop.training.wiring import require_torch, tensor

Optimiser = Literal["gd", "adam"]


@dataclass(frozen=True)
class Term:
    """A loss, the way to estimate it, and its weight in the sum."""

    loss: Loss
    way: Way
    weight: float = 1.0


@dataclass(frozen=True)
class State:
    """A student in training: the loss as the method computes it, and the FLOPs spent so far.

    `terms` are the estimates of the single losses, without weights.
    """

    loss: float
    flops: int
    terms: tuple[float, ...]
    made: Callable[[], MLP]

    @cached_property
    def student(self) -> MLP:
        """The student, with NumPy arrays."""
        return self.made()


def descend(
    student: MLP,
    terms: Sequence[Term],
    lr: float,
    rng: np.random.Generator,
    optimiser: Optimiser = "gd",
) -> Iterator[State]:
    """Steps of the optimiser on the weighted sum of the terms; yields the student before each.

    Weights and the biases that the student has are trained; "gd" is w <- w - lr dL/dw, "adam" is
    Adam with its usual constants. The iterator ends only where a weight is not finite. The FLOPs of
    losses, advice, backward pass and update are counted in the first step of each kind of work.
    Raises CumpropError without PyTorch, and as the losses and estimators do.
    """
    torch = require_torch()
    weights = [tensor(w).requires_grad_() for w in student.weights]
    biases = [None if b is None else tensor(b).requires_grad_() for b in student.biases]
    trained = [*weights, *(b for b in biases if b is not None)]
    make = {"gd": torch.optim.SGD, "adam": torch.optim.Adam}[optimiser]
    stepper = make(trained, lr=lr, foreach=False)
    sources = [Source(term.loss.inputs(student), rng) for term in terms]
    costs = _Costs()
    while all(bool(w.isfinite().all()) for w in trained):
        spent, g = costs.total, student.replace(weights=weights, biases=biases)
        present = partial(_of_numbers, student, _copies(weights), _copies(biases))
        with costs.counting("advice", *(term.way.work for term in terms)):
            for term, source in zip(terms, sources, strict=True):
                term.way.prepare(term.loss, g, source)
        with costs.counting("step", *(term.way.work for term in terms)):
            values = [
                term.way(term.loss, g, source) for term, source in zip(terms, sources, strict=True)
            ]
            weighted = [
                value if term.weight == 1 else term.weight * value
                for value, term in zip(values, terms, strict=True)
            ]
            total = reduce(add, weighted)
            stepper.zero_grad()
            total.backward()
            stepper.step()
        estimates = tuple(float(value.detach()) for value in values)
        yield State(float(total.detach()), spent, estimates, present)


def _copies(tensors: Sequence[Any]) -> list[Any]:
    return [None if t is None else t.detach().clone() for t in tensors]


def _of_numbers(student: MLP, weights: Sequence[Any], biases: Sequence[Any]) -> MLP:
    return student.replace(
        weights=[on_host(w) for w in weights],
        biases=[None if b is None else on_host(b) for b in biases],
    )


class _Costs:
    """The FLOPs of a training, of which each kind of work is counted when it first runs."""

    def __init__(self) -> None:
        self.total = 0
        self._known: dict[Hashable, int] = {}

    @contextmanager
    def counting(self, *kind: Hashable) -> Iterator[None]:
        """Add the FLOPs inside the block, or those of the first block of this kind."""
        from cumprop.flops.torch_executed import TorchFlops

        if kind in self._known:
            yield
        else:
            with TorchFlops() as meter:
                yield
            self._known[kind] = meter.total
        self.total += self._known[kind]
