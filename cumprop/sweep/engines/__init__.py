"""Engines: where the tasks of a sweep run, chosen by name; one file each.

An engine is a generator `outcomes(tasks, run, place)`. It calls `run(task, workers)` for every task
somewhere, `workers` of them side by side, and yields each task with its outcome as it ends, or with
`Lost` where its worker died. Tasks, `run` and outcomes are small and plain, so that any process can
take them; results go into the shared folder, not through the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Protocol, TypeVar

from cumprop.errors import ConfigError

ENGINES = ("local", "dask", "slurm")
"""The names; each is a module of this package, and an extra where it needs one."""

RETRIES = 3
"""How often a task is run again that lost its worker."""


class Task(Protocol):
    """What an engine knows of a task: its words, and what it is predicted to take."""

    @property
    def label(self) -> str: ...
    @property
    def flops(self) -> int: ...
    @property
    def bytes(self) -> int: ...


@dataclass(frozen=True)
class Outcome:
    """How a task of a sweep ended; `reason` says why it failed, None that it did not."""

    label: str
    reason: str | None = None

    @property
    def failed(self) -> bool:
        return self.reason is not None

    def __str__(self) -> str:
        return f"{self.label}: failed: {self.reason}" if self.failed else f"{self.label}: done"


T = TypeVar("T", bound=Task)
Run = Callable[[T, int], Outcome]


@dataclass(frozen=True)
class Lost:
    """A task's worker has died; `reason` says how."""

    reason: str


@dataclass(frozen=True)
class Place:
    """Where tasks run: an engine, `workers` side by side, and a `folder` for an engine's own files.

    `scheduler` is the address of a dask scheduler. In an `apart` place no task runs in this
    process. Tasks of an `alone` place may kill their worker: none is to take another with it.
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
    """All tasks and their outcomes as they end.

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
