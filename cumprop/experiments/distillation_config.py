"""A distillation experiment: the YAML of `configs/distill.yaml`, and its runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from cumprop import files
from cumprop.experiments import columns, config, yaml_loader
from cumprop.experiments.models import Model, Positive, Real, Seeds, known_activation
from cumprop.parameters import whole

COMMAND = "distill"
"""The command that a configuration with `command: distill` is for."""

VERSION = 2
"""Raised whenever the numbers of a run change; 1 drew a width-2 student's as a tail's truth."""


Rate = Annotated[Real, Field(gt=0)]


class Networks(Model):
    """Properties of all teachers and students: depth, activation, seeds."""

    activation: Annotated[str, AfterValidator(known_activation)] = "relu"
    depth: Positive
    dtype: Literal["float32", "float64"] = "float32"
    seeds: Seeds


class ShapeOf(Model):
    """Width of a teacher, its input and output included, and of the student's hidden layers."""

    width: Positive
    student_width: Positive


class Mechanistic(Model):
    """An order whose loss is descended on, and the learning rate."""

    order: Annotated[int, Field(ge=2, le=3)]
    lr: Rate


class Sgd(Model):
    """Stochastic gradient descent; its batch makes a step cost what it costs the order."""

    lr: Rate


def _orders_once(orders: list[Mechanistic]) -> list[Mechanistic]:
    numbers = [entry.order for entry in orders]
    for order in numbers:
        if numbers.count(order) > 1:
            raise ValueError(f"lists order {order} twice; take one away")
    return orders


class HeldOut(Model):
    """Inputs that the true loss is sampled with; no training sees them."""

    n_samples: Annotated[int, Field(ge=2), BeforeValidator(whole)]


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
    """The checked configuration in a YAML file, read and refused like that of a sweep."""
    found, problems = config.validated(config.read(path, scale, sets), Distillation)
    yaml_loader.refuse(problems)
    assert found is not None
    return found


@dataclass(frozen=True)
class Run:
    """All that determines one trajectory: the pair of networks, the method, what is evaluated.

    `method` is "cumulant" or "sgd", whose batch matches the FLOPs of `order`.
    """

    config: str
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

    @cached_property
    def key(self) -> str:
        """Hash of what determines the numbers, 16 hex digits; the name of the run's part."""
        return self.key_of(VERSION)

    def key_of(self, version: int) -> str:
        """The key of this run's numbers as a version of the program gave them."""
        content = {k: v for k, v in asdict(self).items() if k != "config"}
        content |= {"version": version, "schema_version": columns.SCHEMA_VERSION}
        return files.content_hash(json.dumps(content, sort_keys=True))

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
    found = (
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
    return list({run.key: run for run in found}.values())
