"""Sweeps: the cells and truths of an experiment, run side by side, resumed where they stopped."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING

from cumprop import store
from cumprop.cells import Cell, Outcome, cells, forward_flops, is_stored, run_cell, truth_specs
from cumprop.errors import CumpropError
from cumprop.experiment import Config
from cumprop.plugins import load_plugin
from cumprop.progress import Progress

if TYPE_CHECKING:
    from cumprop.truth import TruthSpec


@dataclass(frozen=True)
class TruthJob:
    """The sampling that one network is compared with."""

    spec: TruthSpec
    n_samples: int

    @property
    def label(self) -> str:
        return f"truth width {self.spec.width} seed {self.spec.seed}"

    @property
    def flops(self) -> int:
        """FLOPs of the forward passes."""
        return self.flops_of(self.n_samples)

    def flops_of(self, n_samples: int) -> int:
        """Those of so many samples."""
        return n_samples * self.spec.passes * forward_flops(self.spec.width, self.spec.depth)


@dataclass(frozen=True)
class Plan:
    """What a sweep is to compute.

    `jobs` are the workers of its cells where the experiment says; `left_out` cells are too large.
    """

    name: str
    cells: list[Cell]
    truths: list[TruthJob]
    figures: list[str] = field(default_factory=list)
    jobs: int | None = None
    left_out: int = 0

    def shard(self, number: int, count: int) -> Plan:
        """The part `number` of `count` (from 1) that one of several machines takes."""
        mine = slice(number - 1, None, count)
        cells = sorted(self.cells, key=_flops, reverse=True)[mine]
        truths = sorted(self.truths, key=_flops, reverse=True)[mine]
        return replace(self, cells=cells, truths=truths)


@dataclass(frozen=True)
class Summary:
    """How a sweep ended; `kept` cells were there before."""

    computed: int
    kept: int
    failed: list[Outcome]


def plan(config: Config, name: str) -> Plan:
    """The cells and truths of an experiment; nothing is computed."""
    specs = {spec.key: spec for spec in truth_specs(config).values()}
    truths = [TruthJob(spec, config.truth.n_samples) for spec in specs.values()]
    wanted, most = cells(config, name), config.most_bytes
    kept = [cell for cell in wanted if most is None or cell.cost.bytes <= most]
    return Plan(name, kept, truths, config.figures, config.jobs, len(wanted) - len(kept))


def shared(plans: Sequence[Plan]) -> list[Plan]:
    """The plans with every truth only once, as deep and as large as the most demanding asks."""
    alike = defaultdict[str, list[TruthJob]](list)
    for job in (job for one in plans for job in one.truths):
        alike[job.spec.key].append(job)
    merged = {
        key: TruthJob(
            max((job.spec for job in jobs), key=lambda spec: spec.depth),
            max(job.n_samples for job in jobs),
        )
        for key, jobs in alike.items()
    }
    return [
        replace(one, truths=[t for job in one.truths if (t := merged.pop(job.spec.key, None))])
        for one in plans
    ]


def run(
    plan: Plan,
    results: Path,
    jobs: int = 1,
    plugins: Sequence[Path] = (),
    debug: bool = False,
) -> Summary:
    """`run_all` of one plan."""
    (summary,) = run_all([plan], results, jobs, plugins, debug)
    return summary


def run_all(
    plans: Sequence[Plan],
    results: Path,
    jobs: int = 1,
    plugins: Sequence[Path] = (),
    debug: bool = False,
) -> list[Summary]:
    """Compute what is not there yet, each cell a parquet part in `results/<name>/parts`.

    Safe to kill, to repeat and to run twice at once. Every job uses one BLAS thread; `jobs` of them
    run at a time, cells as many as their plan says. Failed cells become rows with a reason and are
    tried again by the next run. Raises CumpropError if a worker process dies.
    """
    left = {one.name: _left(one, results) for one in plans}
    truths = [job for one in plans for job in one.truths]
    progress = Progress(truths, [cell for some in left.values() for cell in some], results)
    summaries = []
    with progress:
        for one in plans:
            parts, n = results / one.name / "parts", len(one.cells)
            kept = n - len(left[one.name])
            progress.say(
                f"{one.name}: {n} cells ({kept} already there), {len(one.truths)} truths; "
                f"results go to {parts}"
            )
            stages: list[tuple[list[Cell | TruthJob], int]]
            if one.jobs is None:
                stages = [([*one.truths, *left[one.name]], jobs)]
            else:
                stages = [([*one.truths], jobs), ([*left[one.name]], one.jobs)]
            failed = []
            for work, workers in stages:
                work.sort(key=_flops, reverse=True)  # long jobs first: all busy to the end
                for outcome in _outcomes(work, results, parts, workers, plugins, debug):
                    progress.finish(one.name, outcome)
                    failed += [outcome] * outcome.failed
            lost = sum(outcome.is_cell for outcome in failed)
            summaries.append(Summary(len(left[one.name]) - lost, kept, failed))
    return summaries


def _left(plan: Plan, results: Path) -> list[Cell]:
    """The cells that are not stored; makes the plan's folder."""
    parts = results / plan.name / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    store.remove_leftovers(parts)
    store.write_plan(parts.parent, (cell.key for cell in plan.cells), plan.figures)
    return [cell for cell in plan.cells if not is_stored(cell, parts)]


def _flops(job: Cell | TruthJob) -> int:
    return job.flops if isinstance(job, TruthJob) else job.cost.flops


def _outcomes(
    work: Iterable[Cell | TruthJob],
    results: Path,
    parts: Path,
    jobs: int,
    plugins: Sequence[Path],
    debug: bool,
) -> Iterator[Outcome]:
    """Outcomes as the jobs finish."""
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    pool = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    try:
        yield from pool(
            delayed(_run_job)(job, results, parts, jobs, tuple(plugins), debug) for job in work
        )
    except TerminatedWorkerError as error:
        raise CumpropError(
            "a worker process was killed, probably for memory; "
            "what is finished is kept, run again with fewer --jobs"
        ) from error


def _run_job(
    job: Cell | TruthJob,
    results: Path,
    parts: Path,
    workers: int,
    plugins: tuple[Path, ...],
    debug: bool,
) -> Outcome:
    from threadpoolctl import threadpool_limits

    follow_parent()
    for plugin in plugins:
        load_plugin(plugin)
    with threadpool_limits(1):
        if isinstance(job, TruthJob):
            return _run_truth(job, results)
        return run_cell(job, parts, workers, debug)


@cache
def follow_parent() -> None:
    """In a worker process: leave Ctrl-C to the parent, and end soon after it is killed."""
    if parent_process() is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_truth(job: TruthJob, results: Path) -> Outcome:
    from cumprop.truth import load_or_extend

    try:
        load_or_extend(results / "truth", job.spec, job.n_samples)
    except Exception as error:
        return Outcome(job.label, f"failed: {error}", job.flops, is_cell=False)
    return Outcome(job.label, "ok", job.flops, is_cell=False)
