"""An experiment on a costly rare event: the YAML of `configs/catastrophe.yaml`, and its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from cumprop.experiments import config
from cumprop.experiments.models import (
    Grid,
    Model,
    Positive,
    Rate,
    Real,
    Samples,
    Seeds,
    known_activation,
    listed,
)
from cumprop.experiments.training_run import TrainingRun, once
from cumprop.parameters import whole

COMMAND = "train"
"""The value of `command:` in a configuration of such an experiment."""

VERSION = 3
"""The version of the numbers of a run."""

Way = Literal["sampled", "adversarial", "importance", "cumulant", "conditional"]
Task = Literal["imitation", "repair", "controller"]
Probability = Annotated[Real, Field(gt=0, lt=0.1)]
Count = Annotated[int, Field(ge=0), BeforeValidator(whole)]


class Networks(Model):
    """Teachers and their students, of one shape; `seeds` are those of the students."""

    activation: Annotated[str, AfterValidator(known_activation)] = "relu"
    width: Grid
    depth: Grid
    dtype: Literal["float32", "float64"] = "float32"
    teachers: Seeds
    seeds: Seeds


class Case(Model):
    """A task, the probabilities of its event under the teacher, and shapes if not the network's."""

    task: Task
    width: Grid | None = None
    depth: Grid | None = None
    probability: Annotated[
        list[Probability],
        Field(min_length=1),
        BeforeValidator(listed, json_schema_input_type=Probability | list[Probability]),
    ]


class Score(Model):
    """The measurement of the true losses, apart from training, at `times` steps of a run.

    `tolerance` is the relative half width of the rare-event estimator, `n_samples` are held-out
    inputs of the task, and `shift` is the standard deviation of the inputs of a last measurement.
    """

    times: Positive
    tolerance: Annotated[Real, Field(gt=0, lt=1)]
    n_samples: Samples
    shift: Rate


class Method(Model):
    """A way to estimate the penalty, its weight, its steps (`times` the others') and its advice.

    `directions`, `advice_steps` and `fresh` are those of `cumprop.training.Advice`.
    """

    name: str
    way: Way
    order: Positive = 2
    weight: Rate = 1.0
    times: Positive = 1
    directions: Positive = 2
    advice_steps: Count = 5
    fresh: Count = 50


def _named_once(methods: list[Method]) -> list[Method]:
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"names two methods {name!r}; give each a name of its own")
    return methods


class Catastrophe(Model):
    """An experiment on a costly rare event, as a file of `configs/` declares it."""

    command: Literal["train"]
    network: Networks
    cases: Annotated[list[Case], Field(min_length=1)]
    steps: Positive
    batch: Positive
    lr: Rate
    score: Score
    methods: Annotated[list[Method], Field(min_length=1), AfterValidator(_named_once)]


def load(path: str | Path, scale: str | None = None, sets: Sequence[str] = ()) -> Catastrophe:
    """The checked configuration in a YAML file, with `scale` and `sets` as for a sweep.

    Raises ConfigError with every problem, as `experiments.config.load`.
    """
    return config.load_as(Catastrophe, path, scale, sets)


@dataclass(frozen=True)
class Run(TrainingRun):
    """The determinants of one trajectory: the case, the student, the method, the measurement."""

    version: ClassVar[int] = VERSION

    task: str
    width: int
    depth: int
    activation: str
    dtype: str
    probability: float
    teacher: int
    seed: int
    method: str
    way: str
    order: int
    weight: float
    directions: int
    advice_steps: int
    fresh: int
    batch: int
    lr: float
    n_steps: int
    n_scores: int
    n_samples: int
    tolerance: float
    shift: float

    @property
    def label(self) -> str:
        """The run in words."""
        return (
            f"{self.task} probability={self.probability:g} width={self.width} depth={self.depth} "
            f"teacher={self.teacher} seed={self.seed}: {self.method}"
        )


def runs(experiment: Catastrophe, name: str) -> list[Run]:
    """All runs of an experiment called `name`, each once, seed by seed."""
    network, score = experiment.network, experiment.score
    return once(
        Run(
            config=name,
            task=case.task,
            width=width,
            depth=depth,
            activation=network.activation,
            dtype=network.dtype,
            probability=probability,
            teacher=teacher,
            seed=seed,
            method=method.name,
            way=method.way,
            order=method.order,
            weight=method.weight,
            directions=method.directions,
            advice_steps=method.advice_steps,
            fresh=method.fresh,
            batch=experiment.batch,
            lr=experiment.lr,
            n_steps=experiment.steps * method.times,
            n_scores=score.times,
            n_samples=score.n_samples,
            tolerance=score.tolerance,
            shift=score.shift,
        )
        for seed, teacher, case in product(network.seeds, network.teachers, experiment.cases)
        for width, depth, probability, method in product(
            case.width or network.width,
            case.depth or network.depth,
            case.probability,
            experiment.methods,
        )
    )
