"""One progress bar for a whole run of sweeps, in a terminal and, more slowly, in a log file."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cumprop.cells import Cell, Outcome

if TYPE_CHECKING:
    from cumprop.sweep import TruthJob

_LAYOUT = "{l_bar}{bar}| {n_fmt}/{total_fmt}FLOP [{elapsed}<{remaining}] {postfix}"
_SECONDS = 5.0


class Progress:
    """A bar that weighs each job by its predicted FLOPs.

    Cells count when they are finished. Truths take minutes to days, so their files are looked at
    every five seconds; workers write them every twenty.
    """

    def __init__(self, truths: Sequence[TruthJob], cells: Sequence[Cell], results: Path) -> None:
        from tqdm import tqdm

        self.truths, self.folder = truths, results / "truth"
        self.sampled = self._sampled()
        whole = sum(job.flops for job in truths)
        self.bar = tqdm(
            total=whole - self.sampled + sum(cell.cost.flops for cell in cells),
            unit_scale=True,
            bar_format=_LAYOUT,
            mininterval=0.1 if sys.stderr.isatty() else 10.0,
            smoothing=0,  # jobs differ too much for anything but the average speed
        )
        self.done = threading.Event()
        self.watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self.watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.done.set()
        self.watcher.join()
        self.bar.close()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.write(line, file=sys.stderr)

    def finish(self, experiment: str, outcome: Outcome) -> None:
        """Count a job that has ended."""
        self.bar.set_postfix_str(f"{experiment}: {outcome.label}", refresh=False)
        if outcome.is_cell:
            self.bar.update(outcome.flops)
        else:
            self._follow()

    def _watch(self) -> None:
        while not self.done.wait(_SECONDS):
            self._follow()

    def _follow(self) -> None:
        """Move the bar by what truths have grown, and its clock."""
        sampled = self._sampled()
        grown, self.sampled = sampled - self.sampled, sampled
        self.bar.update(grown)

    def _sampled(self) -> int:
        from cumprop.truth import samples_stored

        return sum(
            job.flops_of(min(samples_stored(self.folder, job.spec), job.n_samples))
            for job in self.truths
        )
