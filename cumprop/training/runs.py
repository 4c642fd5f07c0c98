"""The runs of a distillation experiment: one row per shape, order, method and seed.

The row of a run holds its whole trajectory as lists, one entry per evaluated step.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from math import inf, isfinite, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cumprop import files, streams
from cumprop.errors import CumpropError
from cumprop.experiments.columns import DONE, RUN_SCHEMA, failed, failure
from cumprop.experiments.distillation_config import VERSION, Run
from cumprop.flops import CONVENTION
from cumprop.networks import random_mlp
from cumprop.results import store
from cumprop.results.provenance import provenance
from cumprop.training import distillation

if TYPE_CHECKING:
    from cumprop.networks import MLP
    from cumprop.training.descent import State
    from cumprop.training.wiring import Array

Row = Mapping[str, Any]

RUNAWAY = 100
"""A run ends when its loss, as the method computes it, exceeds its start by this factor."""

FIGURES = ("loss_vs_flops",)
"""The figures that draw runs; other figures draw scores."""


def run_all(
    planned: Sequence[Run], folder: Path, workers: int = 1
) -> Iterator[tuple[Run, str | None]]:
    """Compute the runs that `folder` does not hold yet; yield each run with its failure or None.

    The function may be killed and repeated: an interrupted run leaves nothing and is run again.
    """
    from joblib import Parallel, delayed

    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(parts)
    store.write_plan(folder, (run.key for run in planned), FIGURES)
    left = [run for run in planned if not is_stored(run, parts)]
    pool = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
    yield from pool(delayed(_run)(run, parts, workers) for run in left)


def is_stored(run: Run, parts: Path) -> bool:
    """Whether the row of a run is stored, and did not fail."""
    row = store.read_cell(parts, run.key)
    return row is not None and not failed(row)


def _run(run: Run, parts: Path, workers: int) -> tuple[Run, str | None]:
    """Compute a run and store its row; a run that raises CumpropError gets a failed row."""
    import torch

    from cumprop.sweep.engines.local import follow_parent

    follow_parent()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        measured = {"outcome": DONE, **trajectory(run)}
    except CumpropError as error:
        measured = {**failure(str(error))}
    finally:
        torch.set_num_threads(threads)
    about = {
        "cell_key": run.key,
        "run_version": VERSION,
        "flops_convention": CONVENTION,
        "seconds": time.perf_counter() - start,
        "torch_version": version("torch"),
    }
    row = asdict(run) | measured | about | provenance(1, workers)
    store.write_part(parts, row, RUN_SCHEMA)
    return run, measured.get("note")


def trajectory(run: Run) -> dict[str, Any]:
    """The measured columns of a run.

    A run has diverged when the loss that its method computes is negative (a mean square never is),
    more than `RUNAWAY` times its start, or not finite; it ends with that step.
    """
    teacher = random_mlp(run.width, run.depth, run.seed, run.activation, dtype=run.dtype)
    student = distillation.random_student(teacher, run.student_width, run.seed)
    states, batch = _training(run, teacher, student)
    rng = streams.held_out(run.seed, run.width, run.student_width)
    x = rng.standard_normal((run.n_samples, run.width)).astype(run.dtype)
    targets = teacher.forward(x)
    wanted, status, rows = evaluated_steps(run.n_steps), "", list[tuple[Any, ...]]()
    first = inf
    for step, state in enumerate(states):
        first = min(first, RUNAWAY * state.loss) if step == 0 else first
        if not (isfinite(state.loss) and 0 <= state.loss <= first):
            status = f"diverged at step {step}: estimated loss {state.loss:.3g}"
        if step in wanted or status:
            true = true_loss(state.student, x, targets)
            rows.append((step, state.flops, state.loss, *true))
        if status or step == run.n_steps:
            break
    else:
        status = f"diverged at step {step + 1}: a weight is not finite"
    names = ("step", "flops", "loss", "true_loss", "true_loss_se")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    variance = float(targets.astype(np.float64).var(axis=0, ddof=1).mean())
    return {**columns, "batch": batch, "teacher_variance": variance, "status": status or "ok"}


def _training(run: Run, teacher: MLP, student: MLP) -> tuple[Iterator[State], int | None]:
    if run.method == "cumulant":
        return distillation.distil(teacher, student, run.order, run.lr), None
    batch = distillation.matched_batch(teacher, student, run.order)
    rng = streams.batches(run.seed, run.width, run.student_width, run.order)
    return distillation.sgd(teacher, student, batch, run.lr, rng), batch


def evaluated_steps(n_steps: int) -> set[int]:
    """The steps that are evaluated: 0, the last step, and four steps an octave between.

    >>> sorted(evaluated_steps(16))
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 16]
    """
    octaves = (round(2 ** (k / 4)) for k in range(4 * n_steps.bit_length()))
    return {0, n_steps, *(step for step in octaves if step < n_steps)}


def true_loss(student: MLP, x: Array, targets: Array) -> tuple[float, float]:
    """The mean of |f(x) - g(x)|²/n over inputs x, (N, n_0), and its standard error.

    `targets` are f(x), (N, n).
    """
    errors = np.asarray(student.forward(x), dtype=np.float64) - targets
    losses = np.mean(errors**2, axis=1)
    return float(losses.mean()), float(losses.std(ddof=1) / sqrt(losses.size))


def folders(results: Path) -> list[Path]:
    """`results` itself, or the folders in it that hold runs, without `reference`."""
    return store.folders(
        results, lambda folder: store.has_rows(folder) and not store.is_sweep(folder)
    )


def read(folder: Path) -> list[Row]:
    """The rows of the finished runs of the last request, or of all runs if it is not known."""
    plan = store.read_plan(folder)
    rows: list[Row] = [
        row
        for row in store.read_folder(folder)
        if not failed(row) and (plan is None or row["cell_key"] in plan)
    ]
    if not rows:
        raise CumpropError(f"{folder}: no finished runs; run `cumprop distill CONFIG` again")
    return rows


def groups(rows: Iterable[Row]) -> dict[tuple[int, int, int, str], list[Row]]:
    """Runs of all seeds by (width, student_width, order, method)."""
    found: dict[tuple[int, int, int, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (_group(row), row["seed"])):
        found.setdefault(_group(row), []).append(row)
    return found


def _group(row: Row) -> tuple[int, int, int, str]:
    return row["width"], row["student_width"], row["order"], row["method"]


def summary(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """One line per shape, order and method: cost of a step, and true loss at start and end.

    The numbers are medians over seeds, where a run that diverged ends with infinite loss;
    `reduction` is the median of start / end.
    """
    return [_line(*key, runs) for key, runs in groups(rows).items()]


def _line(
    width: int, student_width: int, order: int, method: str, runs: list[Row]
) -> dict[str, Any]:
    start = np.array([run["true_loss"][0] for run in runs])
    end = np.array([inf if diverged(run) else run["true_loss"][-1] for run in runs])
    return {
        "width": width,
        "student": student_width,
        "order": order,
        "method": method,
        "batch": runs[0]["batch"],
        "lr": runs[0]["lr"],
        "seeds": len(runs),
        "diverged": sum(map(diverged, runs)),
        "flops_per_step": max(run["flops"][-1] / max(run["step"][-1], 1) for run in runs),
        "start": float(np.median(start)),
        "end": float(np.median(end)),
        "reduction": float(np.median(start / end)),
        "teacher_variance": float(np.median([run["teacher_variance"] for run in runs])),
    }


def diverged(run: Row) -> bool:
    """Whether a run ended before its last step."""
    return bool(run["status"] != "ok")
