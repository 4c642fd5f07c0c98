"""Sweeps: the cells and truths of an experiment, run side by side, resumed where they stopped."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cumprop import store
from cumprop.cells import Cell, Outcome, cells, forward_flops, is_stored, run_cell, truth_specs
from cumprop.errors import CumpropError
from cumprop.experiment import Config
from cumprop.plugins import load_plugin

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
        passes = self.n_samples * self.spec.passes
        return passes * forward_flops(self.spec.width, self.spec.depth)


@dataclass(frozen=True)
class Plan:
    """What a sweep is to compute."""

    name: str
    cells: list[Cell]
    truths: list[TruthJob]


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
    return Plan(name, cells(config, name), truths)


def run(
    plan: Plan,
    results: Path,
    jobs: int = 1,
    plugins: Sequence[Path] = (),
    debug: bool = False,
) -> Summary:
    """Compute what is not there yet, each cell a parquet part in `results/<name>/parts`.

    Safe to kill, to repeat and to run twice at once. Every job uses one BLAS thread; `jobs` of them
    run at a time. Failed cells become rows with a reason and are tried again by the next run.
    Raises CumpropError if a worker process dies.
    """
    folder = results / plan.name
    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    store.remove_leftovers(parts)
    store.write_plan(folder, (cell.key for cell in plan.cells))
    left = [cell for cell in plan.cells if not is_stored(cell, parts)]
    kept = len(plan.cells) - len(left)
    print(
        f"{len(plan.cells)} cells ({kept} already there), {len(plan.truths)} truths; "
        f"results go to {parts}",
        file=sys.stderr,
    )
    work: list[Cell | TruthJob] = [*plan.truths, *left]
    work.sort(key=_flops, reverse=True)  # long jobs first keep all workers busy to the end
    outcomes = _progress(_outcomes(work, results, parts, jobs, plugins, debug), work)
    failed = [outcome for outcome in outcomes if outcome.failed]
    lost = sum(outcome.is_cell for outcome in failed)
    return Summary(computed=len(left) - lost, kept=kept, failed=failed)


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

    _follow_parent()
    for plugin in plugins:
        load_plugin(plugin)
    with threadpool_limits(1):
        if isinstance(job, TruthJob):
            return _run_truth(job, results)
        return run_cell(job, parts, workers, debug)


@cache
def _follow_parent() -> None:
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


def _progress(outcomes: Iterator[Outcome], work: Sequence[Cell | TruthJob]) -> Iterator[Outcome]:
    """The outcomes, with a bar that weighs each job by its predicted FLOPs; slow in a log file."""
    from tqdm import tqdm

    layout = "{l_bar}{bar}| {n_fmt}/{total_fmt}FLOP [{elapsed}<{remaining}] {postfix}"
    total = sum(map(_flops, work))
    interval = 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(total=total, unit_scale=True, bar_format=layout, mininterval=interval) as bar:
        for outcome in outcomes:
            bar.set_postfix_str(outcome.label, refresh=False)
            bar.update(outcome.flops)
            yield outcome


def forecast(plan: Plan, jobs: int) -> list[dict[str, Any]]:
    """What a sweep takes if nothing is there yet: one row per estimator, width and depth.

    Columns: what, width, depth, cells, flops and bytes of one cell, minutes of all of them on
    `jobs` workers at the speed of this machine's matrix products. That is a lower bound: random
    numbers, small steps and waiting for memory come on top. The truths follow the cells.
    """
    speed = matmul_speed(plan.truths[0].spec.dtype) * jobs
    alike = defaultdict[tuple[str, int, int], list[tuple[int, int | None]]](list)
    for cell in plan.cells:
        what = (cell.description, cell.width, cell.depth)
        alike[what].append((cell.cost.flops, cell.cost.bytes))
    for job in plan.truths:
        what = (f"truth n_samples={job.n_samples}", job.spec.width, job.spec.depth)
        alike[what].append((job.flops, None))
    return [
        {
            "what": what,
            "width": width,
            "depth": depth,
            "cells": len(costs),
            "flops": costs[0][0],
            "bytes": costs[0][1],
            "minutes": sum(flops for flops, _ in costs) / speed / 60,
        }
        for (what, width, depth), costs in alike.items()
    ]


def matmul_speed(dtype: str) -> float:
    """FLOP/s of a matrix product on one thread of this machine, measured in about 0.1 s."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    a = np.ones((512, 512), dtype=dtype)
    with threadpool_limits(1):
        a @ a
        start, products = time.perf_counter(), 0
        while time.perf_counter() - start < 0.1:
            a @ a
            products += 1
        return products * 2 * 512**3 / (time.perf_counter() - start)
