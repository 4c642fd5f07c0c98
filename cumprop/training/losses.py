"""Losses: each one is the expected output of a network that contains the student (mathematics §8).

A square, an excess and a step are layers like any other, so that every estimator of E[f(x)], and
every way to sample it, estimates every loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop.errors import CumpropError
from cumprop.flops import counted, is_foreign, plain, records_gradients
from cumprop.inputs import Empirical
from cumprop.networks import MLP
from cumprop.training.wiring import chained, in_torch, stacked, tournament, with_layer

Array = NDArray[Any]


class Loss(ABC):
    """A loss of a student g, the mean of ℓ(g, x) over inputs x."""

    @abstractmethod
    def network(self, student: MLP) -> MLP:
        """The network x -> ℓ(g, x), of one output, whose mean is the loss."""

    def values(self, student: MLP, x: Any) -> Any:
        """Numbers (N, k) for inputs (N, n_0), whose mean over all entries estimates the loss."""
        return self.network(student).forward(x)

    def inputs(self, student: MLP) -> MLP:
        """A network whose input is that over which the loss is a mean: the student as a rule."""
        return student

    def margin(self, student: MLP) -> MLP:
        """The network of one output that is above 0 where the event of this loss happens.

        Raises CumpropError for a loss that is not about an event.
        """
        raise CumpropError(
            f"{type(self).__name__} is not about an event, so that no input is nearest to it; "
            "give advice to TailExcess or TailProbability"
        )


@dataclass(frozen=True, eq=False)
class Imitation(Loss):
    """The squared error E|f(x) - g(x)|²/n of a student g against a target network f.

    >>> f, g = (MLP([[[1.0]], [[w]]], activations="identity") for w in (2.0, 5.0))
    >>> Imitation(f).network(g).forward([[1.0], [2.0]]).tolist()
    [[9.0], [36.0]]
    """

    target: MLP

    @cached_property
    def _target_in_torch(self) -> MLP:
        return in_torch(self.target)

    def _target_beside(self, student: MLP) -> MLP:
        return self._target_in_torch if is_foreign(student.weights[0]) else self.target

    def network(self, student: MLP) -> MLP:
        return squared(stacked(self._target_beside(student), student))

    def values(self, student: MLP, x: Any) -> Any:
        target = self._target_beside(student)
        difference = counted(target.forward(x)) - counted(student.forward(x))
        return plain(difference * difference)


@dataclass(frozen=True, eq=False)
class Regression(Loss):
    """The squared error of a student against data: inputs x, (N, n_0), and targets y, (N, m).

    The input of the loss is a row (x, y), of which y travels past the student as identity neurons.

    >>> data = Regression([[1.0], [2.0]], [[2.0], [5.0]])
    >>> student = MLP([[[1.0]], [[2.0]]])
    >>> data.network(student).forward(data.rows).tolist()
    [[0.0], [1.0]]
    """

    x: ArrayLike
    y: ArrayLike

    @property
    def rows(self) -> Array:
        """The rows (x, y), (N, n_0 + m)."""
        return np.concatenate([np.asarray(self.x), np.asarray(self.y)], axis=1)

    def network(self, student: MLP) -> MLP:
        n, m = student.widths[0], np.shape(self.y)[1]
        carried = MLP([np.eye(m, dtype=student.dtype)] * (student.depth + 1), None, "identity")
        outputs = chained(self._columns(0, n, student), student)
        targets = chained(self._columns(n, m, student), _beside(carried, student))
        return squared(stacked(outputs, targets))

    def _columns(self, start: int, number: int, student: MLP) -> MLP:
        """The network of no hidden layers whose outputs are some columns of the rows."""
        rows = self.rows
        chosen = np.eye(number, rows.shape[1], start, dtype=student.dtype)
        return _beside(MLP([chosen], input=Empirical(rows)), student)

    def inputs(self, student: MLP) -> MLP:
        return self.network(student)


@dataclass(frozen=True, eq=False)
class Event(Loss):
    """A loss about the event that an output is above a threshold, that of g or of d(g(x)).

    `downstream` is a known network d that takes the outputs of the student; the event is then one
    of its outputs.
    """

    threshold: float
    output: int = 0
    downstream: MLP | None = None
    activation: ClassVar[str]

    def margin(self, student: MLP) -> MLP:
        whole = student
        if self.downstream is not None:
            whole = chained(student, _beside(self.downstream, student))
        last, bias = whole.weights[-1], whole.biases[-1]
        if not 0 <= self.output < len(last):
            raise CumpropError(f"there is no output {self.output}: they are 0 to {len(last) - 1}")
        row = slice(self.output, self.output + 1)
        shift = np.array([-self.threshold], dtype=whole.dtype)
        if bias is not None:
            shift = plain(counted(bias[row]) + shift)
        return whole.replace(
            weights=[*whole.weights[:-1], last[row]],
            biases=[*whole.biases[:-1], shift],
            init_scale=None,
        )

    def network(self, student: MLP) -> MLP:
        return with_layer(self.margin(student), self.activation, np.ones((1, 1)))


@dataclass(frozen=True, eq=False)
class TailExcess(Event):
    """The expected excess E[(y - t)₊] of an output above a threshold t.

    >>> loss = TailExcess(threshold=2.0)
    >>> loss.network(MLP([[[1.0]]])).forward([[5.0], [1.0]]).tolist()
    [[3.0], [0.0]]
    """

    activation = "relu"


@dataclass(frozen=True, eq=False)
class TailProbability(Event):
    """The probability P(y > t). Samples show no gradient of it: 1{y > t} is flat.

    >>> loss = TailProbability(threshold=2.0)
    >>> loss.network(MLP([[[1.0]]])).forward([[5.0], [1.0]]).tolist()
    [[1.0], [0.0]]
    """

    activation = "heaviside"

    def values(self, student: MLP, x: Any) -> Any:
        """As `Loss.values`, (N, 1); raises CumpropError for a student in training."""
        if records_gradients(student.weights):
            raise CumpropError(
                "samples of 1{y > t} have no gradient; train on TailExcess, or mechanistically"
            )
        return super().values(student, x)


@dataclass(frozen=True, eq=False)
class ExpectedMaximum(Loss):
    """The expected largest output E[max_i y_i].

    >>> pair = MLP([[[1.0, 0.0], [0.0, 1.0]]])
    >>> ExpectedMaximum().network(pair).forward([[3.0, 5.0], [2.0, -1.0]]).tolist()
    [[5.0], [2.0]]
    """

    def network(self, student: MLP) -> MLP:
        knockout = tournament(student.widths[-1], "relu", student.dtype)
        return chained(student, _beside(knockout, student))


@dataclass(frozen=True, eq=False)
class CrossEntropy(Loss):
    """The expected cross-entropy E[log Σ_i exp(y_i) − y_label] of outputs as logits.

    >>> loss = CrossEntropy(label=0)
    >>> loss.network(MLP([[[1.0], [1.0]]])).forward([[2.0]]).round(4).tolist()      # log 2
    [[0.6931]]
    """

    label: int

    def network(self, student: MLP) -> MLP:
        """As `Loss.network`; raises CumpropError where the label is no output."""
        k = student.widths[-1]
        if not 0 <= self.label < k:
            raise CumpropError(f"there is no class {self.label}: give one from 0 to {k - 1}")
        against = np.eye(k, dtype=student.dtype) - np.eye(k, dtype=student.dtype)[self.label]
        logits = chained(student, _beside(MLP([against]), student))
        return chained(logits, _beside(tournament(k, "softplus", student.dtype), student))


def squared(network: MLP) -> MLP:
    """The network x -> |f(x)|²/n of a network f with n outputs."""
    n = network.widths[-1]
    return with_layer(network, "square", np.full((1, n), 1 / n))


def _beside(network: MLP, student: MLP) -> MLP:
    """The network with tensors as weights where the student has them."""
    return in_torch(network) if is_foreign(student.weights[0]) else network
