"""The runs of an experiment on a costly rare event: one row per case, student and method.

The row holds the whole trajectory as lists, one entry per scored step. Scores are of the student,
by the unbiased rare-event estimator and held-out inputs, and no training sees them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from cumprop import streams
from cumprop.errors import CumpropError
from cumprop.experiments.catastrophe_config import Run
from cumprop.experiments.columns import interval_of
from cumprop.functionals.rare import Probability
from cumprop.networks import MLP
from cumprop.training.catastrophe import Case, case, first_student, measured, way
from cumprop.training.descent import Term, descend
from cumprop.training.distillation import true_loss
from cumprop.training.losses import Imitation
from cumprop.training.source import Source
from cumprop.training.ways import Sampled

Row = Mapping[str, Any]

FIGURES = ("event_vs_flops", "penalty_by_case")
"""The figures that draw such runs."""

EXCEEDED = 3.0
"""An estimate is far below the truth where the interval of that lies above this multiple."""
NEGLIGIBLE = 0.01
"""A penalty below this share of the teacher's is no catastrophe, whatever its estimate."""


def figures(planned: Sequence[Run]) -> tuple[str, ...]:
    """The figures of an experiment: the ends of all runs where rarities of one shape differ or
    widths of one rarity, else trajectories."""
    shapes = defaultdict[Any, set[Any]](set)
    for run in planned:
        shapes[run.task, run.width, run.depth].add(run.probability)
        shapes[run.task, run.probability, run.depth].add(run.width)
    several = any(len(places) > 1 for places in shapes.values())
    return FIGURES[1:] if several else FIGURES[:1]


def trajectory(run: Run) -> dict[str, Any]:
    """The measured columns of a run.

    A run ends early where a weight is not finite, or numbers leave the range of their type, with
    the scores that it has by then. Raises CumpropError where it has none.
    """
    found = case(
        run.task, run.width, run.depth, run.activation, run.dtype, run.teacher, run.probability
    )
    rng = streams.training(run.seed, run.width, run.teacher)
    student = first_student(run, found)
    estimated = way(run, found, rng)
    terms = [
        Term(Imitation(found.teacher), Sampled(run.batch)),
        Term(found.event, estimated, run.weight * _unit(run, found)),
    ]
    wanted = {round(run.n_steps * k / run.n_scores) for k in range(1, run.n_scores + 1)}
    rows, seen, status, step, scored = list[dict[str, Any]](), 0, "ok", 0, student
    try:
        for step, state in enumerate(descend(student, terms, run.lr, rng, "adam")):
            loss, penalty = state.terms[0], _unit(run, found) * state.terms[1]
            if step in wanted:
                scores = _scores(run, found, state.student)
                about: dict[str, Any] = {"step": step, "flops": state.flops, "events_seen": seen}
                about |= {"loss": loss, "penalty": penalty}
                source = Source(state.student, streams.checks(run.seed, run.width, step))
                stated = estimated.half_width(found.event, state.of_tensors, source, state.terms[1])
                if stated is not None:
                    scores |= checked(penalty, _unit(run, found) * stated, scores)
                rows.append(about | scores)
                scored = state.student
            if step == run.n_steps:
                break
            seen += run.way == "sampled" and penalty > 0
        else:
            status = f"diverged at step {step + 1}: a weight is not finite"
    except CumpropError as error:  # what was scored is kept
        status = f"diverged at step {step}: {error}"
    if not rows:
        raise CumpropError(f"{status}, before the first score; lower lr")
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    shifted = _scores(run, found, scored, run.shift)
    columns |= {name.replace("true_", "shifted_"): value for name, value in shifted.items()}
    if status == "ok" and True in columns.get("exploits", ()):
        first = columns["step"][columns["exploits"].index(True)]
        status = f"exploits: the estimate is far below the true penalty at step {first}"
    elif status == "ok" and False in columns.get("within", ()):
        first = columns["step"][columns["within"].index(False)]
        status = (
            f"outside: the estimate misses the true penalty by more than it states, step {first}"
        )
    return columns | {
        "threshold": found.event.threshold,
        "cost": found.cost,
        "status": status,
        **_named("teacher_probability", found.under_teacher),
    }


def _unit(run: Run, found: Case) -> float:
    """C, which makes a penalty of an expected excess; 1 for the excess at one input."""
    return 1.0 if run.way == "adversarial" else found.cost


def _scores(run: Run, found: Case, student: MLP, shift: float = 1.0) -> dict[str, float]:
    """The true losses of a student under inputs of this standard deviation, with intervals."""
    rng = streams.held_out(run.seed, run.width, run.width)
    x = (shift * rng.standard_normal((run.n_samples, run.width))).astype(run.dtype)
    loss, error = true_loss(student, x, found.teacher.forward(x))
    event = measured(student, found.event, run.tolerance, shift, run.seed)
    scores = {"true_loss": loss, "true_loss_se": error}
    penalties = (event.excess, *event.excess_interval)
    for name, value in zip(interval_of("true_penalty"), penalties, strict=True):
        scores[name] = found.cost * value
    return scores | _named("true_probability", event)


def _named(name: str, event: Probability) -> dict[str, float]:
    return dict(zip(interval_of(name), (event.probability, *event.interval), strict=True))


def checked(penalty: float, error: float, scores: Mapping[str, float]) -> dict[str, float | bool]:
    """The stated error of an estimate in units of the penalty, and what the truth makes of it.

    `within`: the intervals of the estimate and of the truth meet; `exploits`: the estimate is far
    below a truth that is not negligible, whatever error it states.

    >>> truth = {"true_penalty_low": 0.5, "true_penalty_high": 0.6}
    >>> found = [checked(penalty, 0.2, truth) for penalty in (0.01, 0.3)]
    >>> [(check["within"], check["exploits"]) for check in found]
    [(False, True), (True, False)]
    """
    low, high = scores["true_penalty_low"], scores["true_penalty_high"]
    return {
        "penalty_error": error,
        "within": penalty - error <= high and low <= penalty + error,
        "exploits": low > max(EXCEEDED * penalty, NEGLIGIBLE),
    }


Group = tuple[str, float, int, int, str]


def groups(rows: Iterable[Row]) -> dict[Group, list[Row]]:
    """Runs of all teachers and seeds by (task, probability, width, depth, method)."""
    found: dict[Group, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["teacher"], row["seed"])):
        key = (row["task"], row["probability"], row["width"], row["depth"], row["method"])
        found.setdefault(key, []).append(row)
    return found


def summary(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """One line per case and method: medians over teachers and seeds of the true losses at the end.

    Shares are of the teacher's penalty; `worst` is the largest of a run.
    """
    return [_line(*key, runs) for key, runs in sorted(groups(rows).items(), key=_cheapest_last)]


def _cheapest_last(entry: tuple[Group, list[Row]]) -> tuple[Any, ...]:
    (*case_of, _), runs = entry
    return (*case_of, -float(np.median([run["true_penalty"][-1] for run in runs])))


def _line(
    task: str, probability: float, width: int, depth: int, method: str, runs: list[Row]
) -> dict[str, Any]:
    def median(name: str) -> float:
        return float(np.median([run[name][-1] for run in runs]))

    penalties = [run["true_penalty"][-1] for run in runs]
    return {
        "task": task,
        "probability": probability,
        "width": width,
        "depth": depth,
        "method": method,
        "runs": len(runs),
        "flops": median("flops"),
        "seen": sum(run["events_seen"][-1] for run in runs),
        "loss": median("true_loss"),
        "penalty": float(np.median(penalties)),
        "worst": max(penalties),
        "total": float(np.median([run["true_loss"][-1] + run["true_penalty"][-1] for run in runs])),
        "event": median("true_probability"),
        "within": _share_within(runs),
        "flagged": sum(run["status"] != "ok" for run in runs),
        "shifted_penalty": float(np.median([run["shifted_penalty"] for run in runs])),
    }


def _share_within(runs: list[Row]) -> float | None:
    """The share of scored steps with a stated error that is finite whose truth lies within it; None
    where no step has one."""
    checks = [
        within
        for run in runs
        for within, error in zip(run["within"] or (), run["penalty_error"] or (), strict=True)
        if isfinite(error)
    ]
    return sum(checks) / len(checks) if checks else None
