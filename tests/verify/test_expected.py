"""Acceptance of expected values without samples: the classifiers and noise of `test_classes.py`."""

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import cumprop

sys.path.append(str(Path(__file__).parent))
import zoo

pytestmark = pytest.mark.verify

CLASSIFIERS = (4, 8, 27, 28, 30, 31)
ASKED = ("max", "min", "squared", "cross-entropy")
POINTS, SAMPLES = 6, 40_000
IMAGES, TABLES = (0.1, 0.25, 0.5), (0.1, 0.3, 1.0)


@cache
def answers():
    """What was asked, the answer by order 3 and that by samples, of every classifier and noise.

    Samples of every case have a seed of their own, so that errors of truths are independent.
    """
    found = []
    for number in CLASSIFIERS:
        recipe = zoo.RECIPES[number]
        x, _ = zoo.data_of(recipe.data)
        weights, biases = zoo.kept(recipe)
        images = x.min() >= 0 and x.max() <= 1
        rng = np.random.default_rng(2000 + number)
        for point in x[rng.choice(len(x), POINTS, replace=False)]:
            for level in IMAGES if images else TABLES:
                size = level if images else level * x.std()
                given = np.float32(point), np.float32(size**2)
                network = cumprop.MLP(weights, biases, recipe.activation, *given)
                label = int(rng.integers(network.widths[-1]))
                targets = {"squared": np.eye(network.widths[-1])[label], "cross-entropy": label}
                for what in ASKED:
                    given = {"what": what, "target": targets.get(what)}
                    plain = {"estimator": "monte_carlo", "n_samples": SAMPLES}
                    found.append(
                        (
                            what,
                            cumprop.expected(network, **given),
                            cumprop.expected(network, **given, **plain, seed=len(found)),
                        )
                    )
        print(f"  {recipe.name}", flush=True)
    return found


@pytest.mark.parametrize("asked", ASKED)
def test_intervals(record, asked):
    """95% intervals of "ok" answers hold, beyond the interval of the truth."""
    every = [(found, truth) for what, found, truth in answers() if what == asked]
    ok = [(found, truth) for found, truth in every if found.status == "ok"]
    misses = np.array([abs(found.value - truth.value) - truth.half_width for found, truth in ok])
    known = [found.half_width for found, _ in ok]
    halves = np.array([np.inf if half is None else half for half in known])
    deviations = np.array([truth.deviation for _, truth in ok])
    record(
        f"95% intervals of E[{asked}] without samples, order 3, 6 classifiers, {len(every)} cases",
        f"{np.mean(misses <= halves):.1%} hold, the farthest is {np.max(misses / halves):.1f} half "
        f"widths off; median half width {np.median(halves / deviations):.2g} s.d. of the function; "
        f"{len(ok)} of {len(every)} ok; without an interval {sum(h is None for h in known)}",
        "≥ 95%",
        np.mean(misses <= halves) >= 0.95,
    )
