"""Gradient descent on a sum of losses, each estimated in its own way."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from typing import Any, Literal

import numpy as np

from cumprop.networks import MLP
from cumprop.training.losses import Loss
from cumprop.training.source import Source
from cumprop.training.ways import Way
from cumprop.training.wiring import on_host, require_torch, tensor

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
    of_tensors: MLP

    @cached_property
    def student(self) -> MLP:
        """The student, with NumPy arrays."""
        return on_host(self.of_tensors)


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
    from cumprop.flops.torch_executed import TorchFlops

    weights = [tensor(w).requires_grad_() for w in student.weights]
    biases = [None if b is None else tensor(b).requires_grad_() for b in student.biases]
    trained = [*weights, *(b for b in biases if b is not None)]
    make = {"gd": torch.optim.SGD, "adam": torch.optim.Adam}[optimiser]
    stepper = make(trained, lr=lr, foreach=False)
    sources = [Source(term.loss.inputs(student), rng) for term in terms]
    costs: dict[Hashable, int] = {}
    flops = 0
    while all(bool(w.isfinite().all()) for w in trained):
        spent, g = flops, student.replace(weights=weights, biases=biases)
        present = g.replace(weights=_copies(weights), biases=_copies(biases))
        pairs = list(zip(terms, sources, strict=True))
        flops += sum(term.way.prepare(term.loss, g, source) for term, source in pairs)
        kind = tuple(term.way.work for term in terms)
        with nullcontext() if kind in costs else TorchFlops() as meter:
            values = [term.way(term.loss, g, source) for term, source in pairs]
            weighted = [
                value if term.weight == 1 else term.weight * value
                for value, term in zip(values, terms, strict=True)
            ]
            total = reduce(add, weighted)
            stepper.zero_grad()
            total.backward()
            stepper.step()
        flops += costs.setdefault(kind, 0 if meter is None else meter.total)
        estimates = tuple(float(value.detach()) for value in values)
        yield State(float(total.detach()), spent, estimates, present)


def _copies(tensors: Sequence[Any]) -> list[Any]:
    return [None if t is None else t.detach().clone() for t in tensors]
