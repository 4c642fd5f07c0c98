"""A distillation experiment: the YAML of `configs/distill.yaml`, and its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from cumprop.experiments import config
from cumprop.experiments.models import Model, Positive, Rate, Samples, Seeds, known_activation
from cumprop.experiments.training_run import TrainingRun, once

COMMAND = "distill"
"""The value of `command:` in a configuration of a distillation."""

VERSION = 2
"""The version of the numbers of a run; version 1 drew students of width 2 from another stream."""


class Networks(Model):
    """Properties of all teachers and students: depth, activation, seeds."""

    activation: Annotated[str, AfterValidator(known_activation)] = "relu"
    depth: Positive
    dtype: Literal["float32", "float64"] = "float32"
    seeds: Seeds


class ShapeOf(Model):
    """The width of all layers of a teacher, and the width of a student's hidden layers."""

    width: Positive
    student_width: Positive


class Mechanistic(Model):
    """Gradient descent on the loss of an order: the order and the learning rate."""

    order: Annotated[int, Field(ge=2, le=3)]
    lr: Rate


class Sgd(Model):
    """Stochastic gradient descent with a batch whose step has the FLOPs of a step of the order."""

    lr: Rate


def _orders_once(orders: list[Mechanistic]) -> list[Mechanistic]:
    numbers = [entry.order for entry in orders]
    for order in numbers:
        if numbers.count(order) > 1:
            raise ValueError(f"lists order {order} twice; take one away")
    return orders


class HeldOut(Model):
    """The inputs that sample the true loss; no training uses them."""

    n_samples: Samples


class Distillation(Model):
    """A distillation experiment, as a file of `configs/` declares it."""

    command: Literal["distill"]
    network: Networks
    shapes: Annotated[list[ShapeOf], Field(min_length=1)]
    orders: Annotated[list[Mechanistic], Field(min_length=1), AfterValidator(_orders_once)]
    sgd: Sgd
    steps: Positive
    held_out: HeldOut


def load(path: str | Path, scale: str | None = None, sets: Sequence[str] = ()) -> Distillation:
    """The checked configuration in a YAML file, with `scale` and `sets` as for a sweep.

    Raises ConfigError with every problem, as `experiments.config.load`.
    """
    return config.load_as(Distillation, path, scale, sets)


@dataclass(frozen=True)
class Run(TrainingRun):
    """The determinants of one trajectory: the pair of networks, the method, the evaluation.

    `method` is "cumulant" or "sgd", whose batch matches the FLOPs of `order`.
    """

    version: ClassVar[int] = VERSION

    width: int
    student_width: int
    depth: int
    activation: str
    dtype: str
    seed: int
    method: str
    order: int
    lr: float
    n_steps: int
    n_samples: int

    @property
    def label(self) -> str:
        """The run in words."""
        return (
            f"{self.method} order={self.order} width={self.width} "
            f"student_width={self.student_width} seed={self.seed}"
        )


def runs(experiment: Distillation, name: str) -> list[Run]:
    """All runs of an experiment called `name`, each once, seed by seed."""
    network = experiment.network
    return once(
        Run(
            config=name,
            width=shape.width,
            student_width=shape.student_width,
            depth=network.depth,
            activation=network.activation,
            dtype=network.dtype,
            seed=seed,
            method=method,
            order=mechanistic.order,
            lr=mechanistic.lr if method == "cumulant" else experiment.sgd.lr,
            n_steps=experiment.steps,
            n_samples=experiment.held_out.n_samples,
        )
        for seed, shape, mechanistic, method in product(
            network.seeds, experiment.shapes, experiment.orders, ("cumulant", "sgd")
        )
    )
