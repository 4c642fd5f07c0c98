"""Tasks: cells and blocks of truths, run in the same way in the process of any engine."""

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
    """The sampling that the estimates of one network are compared with.

    A `shard` (i, n) has the blocks whose number is i modulo n.
    """

    spec: TruthSpec
    n_samples: int
    shard: tuple[int, int] = (0, 1)

    @property
    def flops(self) -> int:
        return self.n_samples * self.spec.flops

    def remaining(self, results: Path) -> TruthTask:
        """The samples that are not stored, in whole chunks."""
        chunks = missing_chunks(results / "truth", self.spec, self.n_samples, self.shard)
        return replace(self, n_samples=chunks * self.spec.chunk_samples)

    def blocks(self, results: Path) -> list[TruthBlock]:
        """The tasks that sample the chunks that are not stored."""
        return gaps(results / "truth", self.spec, self.n_samples, self.shard)


Task = Cell | TruthBlock


@dataclass(frozen=True)
class Work:
    """The function that runs a task, called in the process of an engine.

    `seconds` is the time limit of a cell, `token` identifies one run of sweeps.
    """

    results: Path
    plugins: tuple[Path, ...] = ()
    debug: bool = False
    seconds: float | None = None
    token: str = field(default_factory=lambda: token_hex(4))

    def __call__(self, task: Task, workers: int) -> Outcome:
        """Run a task on one BLAS thread, beside other `workers`; a failure is an outcome."""
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
        """The folder in which the row of a cell is stored."""
        return self.results / cell.config / "parts"

    def give_up(self, task: Task, workers: int, reason: str) -> Outcome:
        """The outcome of a task that cannot be run; a cell gets a failed row."""
        if isinstance(task, Cell):
            return run_cell.give_up(task, self.parts(task), workers, reason)
        return Outcome(task.label, reason)

    def _stuck(self, cell: Cell) -> Path:
        return self.parts(cell) / f".{cell.key}.{self.token}.tmp"

    def _leave(self, cell: Cell, workers: int) -> None:
        """End this worker process, which a cell blocks, after its failed row is stored."""
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
    """The thread pools of this process, searched for again (milliseconds) after new imports."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
