"""One progress bar for a whole run of sweeps, in a terminal and, more slowly, in a log file."""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from cumprop.experiments.grid import Cell
from cumprop.sampling import TruthBlock, chunks_stored
from cumprop.sweep.engines import Outcome
from cumprop.sweep.tasks import Task

_LAYOUT = "{l_bar}{bar}| {n_fmt}/{total_fmt}FLOP [{elapsed}<{remaining}] {postfix}"
_SECONDS = 5.0


class Progress:
    """A bar that weighs each task by its predicted FLOPs.

    Cells count when they are finished. Blocks of truths may take minutes, so their files are looked
    at every five seconds; workers write them every twenty.
    """

    def __init__(self, blocks: Sequence[TruthBlock], cells: Sequence[Cell], results: Path) -> None:
        from tqdm import tqdm

        self.folder = results / "truth"
        self.blocks = defaultdict[str, dict[int, TruthBlock]](dict)
        for block in blocks:
            self.blocks[block.spec.key][block.start] = block
        tasks: list[Task] = [*blocks, *cells]
        self.bar = tqdm(
            total=sum(task.flops for task in tasks),
            unit_scale=True,
            bar_format=_LAYOUT,
            mininterval=0.1 if sys.stderr.isatty() else 10.0,
            smoothing=0,  # tasks differ too much for anything but the average speed
        )
        self.lock, self.done = threading.Lock(), threading.Event()
        self.watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self.watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.watcher.join()
        self.bar.close()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.write(line, file=sys.stderr)

    def finish(self, experiment: str, task: Task, outcome: Outcome) -> None:
        """Count a task that has ended."""
        with self.lock:
            self.bar.set_postfix_str(f"{experiment}: {outcome.label}", refresh=False)
            if isinstance(task, TruthBlock):
                task = self.blocks[task.spec.key].pop(task.start)
            self.bar.update(task.flops)

    def _watch(self) -> None:
        while not self.done.wait(_SECONDS):
            with self.lock:
                self.follow()

    def follow(self) -> None:
        """Move the bar by what blocks have grown, and its clock."""
        for blocks in self.blocks.values():
            if blocks:
                stored = chunks_stored(self.folder, next(iter(blocks.values())).spec)
                for start, block in blocks.items():
                    chunks = max(stored.get(start, 0), block.stored)
                    self.bar.update(block.flops_of(chunks))
                    blocks[start] = replace(block, stored=chunks)
        self.bar.update(0)
