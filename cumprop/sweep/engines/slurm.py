"""Engine `slurm`: job arrays by submitit; without Slurm, processes of this machine."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from secrets import token_hex

import submitit
from submitit.core.utils import UncompletedJobError

from cumprop.sweep.engines import Lost, Outcome, Place, Run, T
from cumprop.sweep.engines.local import deaf_children, end_with

_BATCHES = 4
"""Array tasks per worker; each runs many tasks, so that slow ones are spread evenly."""
_WORKER_BYTES = 5e8
_MINUTES = 24 * 60
_POLL_SECONDS = 0.5


def outcomes(tasks: Sequence[T], run: Run[T], place: Place) -> Iterator[tuple[T, Outcome | Lost]]:
    """Run `tasks` in array tasks of one core and the predicted memory, `place.workers` at a time.

    The files of submitit are in `place.folder/.slurm` until the tasks end. The environment
    variables SBATCH_PARTITION, SBATCH_ACCOUNT and SBATCH_TIMELIMIT set partition, account and time
    limit.
    """
    folder = place.folder / ".slurm" / token_hex(4)
    executor = submitit.AutoExecutor(folder)
    at_once = place.workers * (1 if executor.cluster == "local" else _BATCHES)
    size = 1 if place.alone else math.ceil(len(tasks) / at_once)
    n_batches = math.ceil(len(tasks) / size)
    batches = [tasks[i::n_batches] for i in range(n_batches)]
    at_once = at_once if executor.cluster == "local" else n_batches
    try:
        for i in range(0, n_batches, at_once):
            yield from _finished(executor, batches[i : i + at_once], run, place.workers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another sweep is at work
            folder.parent.rmdir()


def _finished(
    executor: submitit.AutoExecutor, batches: Sequence[Sequence[T]], run: Run[T], workers: int
) -> Iterator[tuple[T, Outcome | Lost]]:
    most = max(task.bytes for batch in batches for task in batch)
    executor.update_parameters(
        name="cumprop",
        timeout_min=_MINUTES,
        cpus_per_task=1,
        mem_gb=math.ceil((most + _WORKER_BYTES) / 1e9),
        slurm_array_parallelism=workers,
    )
    n = len(batches)
    with deaf_children():
        tasks = executor.map_array(_run_batch, batches, [run] * n, [workers] * n)
    try:
        for task in submitit.helpers.as_completed(tasks, poll_frequency=_POLL_SECONDS):
            batch = batches[tasks.index(task)]
            try:
                ended: Sequence[Outcome | Lost] | Exception = task.result()
            except UncompletedJobError:
                ended = [Lost("its Slurm task was killed")] * len(batch)
            if isinstance(ended, Exception):
                raise ended
            yield from zip(batch, ended, strict=True)
    finally:
        for task in tasks:
            if executor.cluster != "local":
                task.cancel(check=False)
            elif not task.done():
                os.kill(int(task.job_id), signal.SIGKILL)  # its task follows


def _run_batch(batch: Sequence[T], run: Run[T], workers: int) -> list[Outcome] | Exception:
    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        end_with(os.getppid())
    try:
        return [run(task, workers) for task in batch]
    except Exception as error:  # the results cannot be stored
        return error
