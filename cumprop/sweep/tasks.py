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
from cumprop.experiments.grid import Cell, forward_flops
from cumprop.sampling import Gap, TruthSpec, gaps, missing_chunks, sample
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
    def label(self) -> str:
        spec = self.spec
        return f"truth width {spec.width} depth {spec.depth} seed {spec.seed}"

    @property
    def flops(self) -> int:
        """FLOPs of the forward passes."""
        return self.flops_of(self.n_samples)

    def flops_of(self, n_samples: int) -> int:
        """Those of so many samples."""
        return n_samples * self.spec.passes * forward_flops(self.spec.width, self.spec.depth)

    def remaining(self, results: Path) -> TruthTask:
        """What is still to be sampled, in whole chunks."""
        chunks = missing_chunks(results / "truth", self.spec, self.n_samples, self.shard)
        return replace(self, n_samples=chunks * self.spec.chunk_samples)

    def blocks(self, results: Path) -> list[TruthBlock]:
        """The tasks that sample what is not stored yet."""
        folder = results / "truth"
        return [TruthBlock(gap) for gap in gaps(folder, self.spec, self.n_samples, self.shard)]


@dataclass(frozen=True)
class TruthBlock:
    """One block of a truth, to be sampled as far as it is asked for."""

    gap: Gap

    @property
    def label(self) -> str:
        return TruthTask(self.gap.spec, 0).label

    @property
    def flops(self) -> int:
        return self.flops_of(self.gap.chunks)

    def flops_of(self, chunks: int) -> int:
        """FLOPs of the first so many chunks of the block, but for what was there before."""
        spec, new = self.gap.spec, max(min(chunks, self.gap.chunks) - self.gap.stored, 0)
        return TruthTask(spec, new * spec.chunk_samples).flops

    @property
    def bytes(self) -> int:
        return self.gap.spec.bytes


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
                sample(self.results / "truth", task.gap)
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
