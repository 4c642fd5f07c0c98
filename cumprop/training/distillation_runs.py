"""The runs of a distillation experiment: one row per shape, order, method and seed.

The row of a run holds its whole trajectory as lists, one entry per evaluated step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf, isfinite
from typing import Any

import numpy as np

from cumprop import streams
from cumprop.errors import CumpropError
from cumprop.experiments.distillation_config import Run
from cumprop.networks import MLP, random_mlp
from cumprop.training import distillation
from cumprop.training.descent import State
from cumprop.training.distillation import true_loss

Row = Mapping[str, Any]

RUNAWAY = 100
"""A run ends when its loss, as the method computes it, exceeds its start by this factor."""

FIGURES = ("loss_vs_flops",)
"""The figures that draw such runs."""


def figures(planned: Sequence[Run]) -> tuple[str, ...]:
    """The figures of an experiment."""
    return FIGURES


def trajectory(run: Run) -> dict[str, Any]:
    """The measured columns of a run.

    A run has diverged when the loss that its method computes is negative (a mean square never is),
    more than `RUNAWAY` times its start, or not finite, or when numbers leave the range of their
    type; it ends with that step. Raises CumpropError where that is before the first evaluation.
    """
    teacher = random_mlp(run.width, run.depth, run.seed, run.activation, dtype=run.dtype)
    student = distillation.random_student(teacher, run.student_width, run.seed)
    states, batch = _training(run, teacher, student)
    rng = streams.held_out(run.seed, run.width, run.student_width)
    x = rng.standard_normal((run.n_samples, run.width)).astype(run.dtype)
    targets = teacher.forward(x)
    wanted, status, rows = evaluated_steps(run.n_steps), "", list[tuple[Any, ...]]()
    step, first = 0, inf
    try:
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
    except CumpropError as error:  # what was evaluated is kept
        if not rows:
            raise
        status = f"diverged at step {step + 1}: {error}"
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
