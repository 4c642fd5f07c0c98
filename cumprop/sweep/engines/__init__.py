"""Engines, the places where the tasks of a sweep run: chosen by name, one file each.

An engine is a generator `outcomes(tasks, run, place)`. It calls `run(task, workers)` for every task
in some process, `workers` of them side by side, and yields each task with its outcome as it ends,
or with `Lost` where its worker died. Tasks, `run` and outcomes are small and plain, so that they
can be sent to any process; results go into the shared folder, not through the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Protocol, TypeVar

from cumprop.errors import ConfigError

ENGINES = ("local", "dask", "slurm")
"""The names of engines; each is a module of this package, and an extra if it needs a package."""

RETRIES = 3
"""The number of times that a task which lost its worker is run again."""


class Task(Protocol):
    """The properties of a task that an engine knows."""

    @property
    def label(self) -> str:
        """The task in words."""

    @property
    def flops(self) -> int:
        """Predicted FLOPs."""

    @property
    def bytes(self) -> int:
        """Predicted memory in bytes."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task of a sweep; `reason` says why it failed, None if it did not."""

    label: str
    reason: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the task failed."""
        return self.reason is not None

    def __str__(self) -> str:
        return f"{self.label}: failed: {self.reason}" if self.failed else f"{self.label}: done"


T = TypeVar("T", bound=Task)
Run = Callable[[T, int], Outcome]


@dataclass(frozen=True)
class Lost:
    """The outcome of a task whose worker died; `reason` says how."""

    reason: str


@dataclass(frozen=True)
class Place:
    """The place of tasks: an engine, `workers` side by side, a `folder` for an engine's own files.

    `scheduler` is the address of a dask scheduler. In an `apart` place no task runs in this
    process. Tasks of an `alone` place may kill their worker, so that each has a worker of its own.
    """

    engine: str = "local"
    workers: int = 1
    scheduler: str | None = None
    folder: Path = Path("results")
    apart: bool = False
    alone: bool = False


def outcomes(
    tasks: Sequence[T], run: Run[T], place: Place, give_up: Callable[[T, int, str], Outcome]
) -> Iterator[tuple[T, Outcome]]:
    """Yield all tasks and their outcomes as they end.

    A task whose worker dies is run again, alone, three times; then `give_up(task, workers, reason)`
    makes its outcome. Raises ConfigError where the engine is unknown or its packages are missing.
    """
    engine = _engine(place.engine)
    left, lost = list(tasks), list[tuple[T, Lost]]()
    for attempt in range(1 + RETRIES):
        if not left:
            return
        lost = []
        ends: Iterator[tuple[T, Outcome | Lost]]
        ends = engine(left, run, replace(place, alone=attempt > 0))
        for task, ended in ends:
            if isinstance(ended, Lost):
                lost.append((task, ended))
            else:
                yield task, ended
        left = [task for task, _ in lost]
    for task, last in lost:
        yield (
            task,
            give_up(
                task,
                place.workers,
                f"{last.reason}, {1 + RETRIES} times; give it more memory (fewer --workers), "
                "a smaller width or a lower order",
            ),
        )


def _engine(name: str) -> Callable[..., Iterator[tuple[T, Outcome | Lost]]]:
    if name not in ENGINES:
        raise ConfigError(f"unknown engine {name!r}; choose one of {', '.join(ENGINES)}")
    try:
        module = import_module(f"cumprop.sweep.engines.{name}")
    except ImportError as error:
        raise ConfigError(
            f"--engine {name} needs {error.name or name}: pip install 'cumprop[{name}]'"
        ) from None
    found: Callable[..., Iterator[tuple[T, Outcome | Lost]]] = module.outcomes
    return found
