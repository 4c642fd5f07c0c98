"""Tasks: cells and blocks of truths, run alike in whatever process an engine has for them."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from cumprop.contract import load_plugin
from cumprop.experiments.grid import Cell
from cumprop.sampling import TruthBlock, TruthSpec, gaps, missing_chunks, sample
from cumprop.sweep import resource_limits, run_cell
from cumprop.sweep.engines import Outcome
from cumprop.sweep.resource_limits import took_too_long

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@dataclass(frozen=True)
class TruthTask:
    """The sampling that one network is compared with.

    Of a `shard` (i, n) it is the blocks whose number is i modulo n.
    """

    spec: TruthSpec
    n_samples: int
    shard: tuple[int, int] = (0, 1)

    @property
    def flops(self) -> int:
        return self.n_samples * self.spec.flops

    def remaining(self, results: Path) -> TruthTask:
        """What is still to be sampled, in whole chunks."""
        chunks = missing_chunks(results / "truth", self.spec, self.n_samples, self.shard)
        return replace(self, n_samples=chunks * self.spec.chunk_samples)

    def blocks(self, results: Path) -> list[TruthBlock]:
        """The tasks that sample what is not stored yet."""
        return gaps(results / "truth", self.spec, self.n_samples, self.shard)


Task = Cell | TruthBlock


@dataclass(frozen=True)
class Work:
    """How tasks are run; called in the process that runs one.

    `seconds` is the time limit of a cell, `token` tells one run of sweeps from all others.
    """

    results: Path
    plugins: tuple[Path, ...] = ()
    debug: bool = False
    seconds: float | None = None
    token: str = field(default_factory=lambda: token_hex(4))

    def __call__(self, task: Task, workers: int) -> Outcome:
        """Run a task on one BLAS thread, one of `workers` side by side; a failure is an outcome."""
        for plugin in self.plugins:
            load_plugin(plugin)
        with _libraries(len(sys.modules)).limit(limits=1):
            if isinstance(task, TruthBlock):
                return self._sample(task)
            if self._stuck(task).exists():  # and has ended its worker
                return Outcome(task.label, took_too_long(self.seconds or 0))
            limit = resource_limits.time_limit(self.seconds, lambda: self._leave(task, workers))
            return run_cell.run_cell(task, self.parts(task), workers, self.debug, limit)

    def parts(self, cell: Cell) -> Path:
        """Where the row of a cell is stored."""
        return self.results / cell.config / "parts"

    def give_up(self, task: Task, workers: int, reason: str) -> Outcome:
        """The outcome of a task that cannot be run; that of a cell is stored."""
        if isinstance(task, Cell):
            return run_cell.give_up(task, self.parts(task), workers, reason)
        return Outcome(task.label, reason)

    def _stuck(self, cell: Cell) -> Path:
        return self.parts(cell) / f".{cell.key}.{self.token}.tmp"

    def _leave(self, cell: Cell, workers: int) -> None:
        """End this worker process, which a cell does not give back, and leave word why."""
        self.give_up(cell, workers, took_too_long(self.seconds or 0))
        self._stuck(cell).touch()
        os._exit(1)

    def _sample(self, task: TruthBlock) -> Outcome:
        try:
            with resource_limits.memory(task.bytes):
                sample(self.results / "truth", task)
        except Exception as error:
            if self.debug:
                traceback.print_exc()
            return Outcome(task.label, str(error))
        return Outcome(task.label)


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> ThreadpoolController:
    """The thread pools of this process; looked for, which takes milliseconds, after new imports."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
