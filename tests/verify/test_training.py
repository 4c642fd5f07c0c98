"""Five students of each of two teachers that cross a threshold with P ≤ 1e-6: who pays at the end?

SGD of as many steps as the conditional estimate of order 2, SGD of as many FLOPs, and that
estimate, as configs/catastrophe.yaml has them.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed

from cumprop.experiments import catastrophe_config
from cumprop.results.provenance import cores

pytestmark = pytest.mark.verify

ROOT = Path(__file__).parents[2]
METHODS = SHORT, LONG, OURS = "SGD", "SGD of equal FLOPs", "conditional order 2"
SEEDS, TARGET = 5, 7e-7
"""The target is below 1e-6 by as much as the search for thresholds is off."""
KEPT, LEFT, TASK = 0.3, 0.02, 1.15


def _trajectory(run):
    import torch

    from cumprop.training.catastrophe_runs import trajectory

    torch.set_num_threads(1)
    return run, trajectory(run)


@pytest.fixture(scope="module")
def rows():
    """The last score of every run, by method, (teachers × seeds,) of each number."""
    pytest.importorskip("torch")
    experiment = catastrophe_config.load(
        ROOT / "configs" / "catastrophe.yaml", "laptop", [f"network.seeds={SEEDS}"]
    )
    planned = [
        replace(run, probability=TARGET, n_scores=1)
        for run in catastrophe_config.runs(experiment, "verify")
        if run.method in METHODS
    ]
    found = {method: {} for method in METHODS}
    for run, row in Parallel(n_jobs=cores(), return_as="generator")(
        map(delayed(_trajectory), planned)
    ):
        last = {
            name: value[-1] if isinstance(value, list) else value for name, value in row.items()
        }
        found[run.method][run.teacher, run.seed] = last
    return found


def numbers(rows, method, name):
    return np.array([rows[method][key][name] for key in sorted(rows[method])])


def test_who_pays_for_the_catastrophe(rows, record):
    """Every run on its own; intervals of the rare-event estimator are 95%."""
    p = numbers(rows, OURS, "teacher_probability")
    n = f"{len(p)} runs, P = {p.min():.2g} to {p.max():.2g}"
    flops = numbers(rows, LONG, "flops") / numbers(rows, OURS, "flops")
    seen = numbers(rows, LONG, "events_seen").sum()
    long, ours = (numbers(rows, method, "true_penalty") for method in (LONG, OURS))
    record(
        f"penalty of SGD of equal FLOPs (the teacher pays 1), {n}",
        f"median {np.median(long):.2f}, {long.min():.2f} to {long.max():.2f}; FLOPs × "
        f"{flops.min():.2f} to {flops.max():.2f}; {seen} events seen",
        f"median ≥ {KEPT}, P ≤ 1e-6",
        np.median(long) >= KEPT and p.max() <= 1e-6,
    )
    record(
        f"penalty of conditional order 2, {n}",
        f"mean {ours.mean():.2g}, median {np.median(ours):.2g}, largest {ours.max():.2g}",
        f"mean ≤ {LEFT}",
        ours.mean() <= LEFT,
    )
    separated = numbers(rows, OURS, "true_penalty_high") < numbers(rows, LONG, "true_penalty_low")
    record(
        "intervals of penalties apart, conditional order 2 below SGD of equal FLOPs",
        f"{separated.sum()} of {len(separated)}",
        "all",
        bool(separated.all()),
    )


def test_the_task_does_not_suffer(rows, record):
    ratios = numbers(rows, OURS, "true_loss") / numbers(rows, SHORT, "true_loss")
    record(
        "task loss over that of SGD of as many steps, mean over runs",
        f"{ratios.mean():.2f} ({ratios.min():.2f} to {ratios.max():.2f})",
        f"≤ {TASK}",
        ratios.mean() <= TASK,
    )
    ours, long = (
        numbers(rows, m, "true_loss") + numbers(rows, m, "true_penalty") for m in (OURS, LONG)
    )
    totals = ours / long
    record(
        "task loss and penalty together, over those of SGD of equal FLOPs",
        f"median {np.median(totals):.2f} ({totals.min():.2f} to {totals.max():.2f})",
        "median ≤ 0.5",
        np.median(totals) <= 0.5,
    )


def test_estimates_are_near_the_truth_or_flagged(rows, record):
    """Whether the optimiser exploits the estimate: within a factor of 3 at the end, or flagged."""
    estimate, truth = numbers(rows, OURS, "penalty"), numbers(rows, OURS, "true_penalty")
    flagged = numbers(rows, OURS, "exploits")
    ratios = estimate / truth
    near = (ratios > 1 / 3) & (ratios < 3) | (truth < 0.01)
    record(
        "estimate over true penalty of conditional order 2 at the end",
        f"median {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f}), "
        f"{flagged.sum()} flagged",
        "within 3, below 0.01, or flagged",
        bool((near | flagged).all()),
    )
