"""Acceptance of far quantiles: intervals against exact quantiles of networks of few inputs."""

from functools import cache

import numpy as np
import pytest
from scipy.stats import norm

import cumprop

pytestmark = pytest.mark.verify

LEVELS = (1e-9, 1e-6, 1e-3, 0.1, 1 - 1e-4, 1 - 1e-6, 1 - 1e-9)
SEEDS, CELLS = 4, 4000
GRID = 5e-5
"""The error of the grid's quantiles, that intervals may miss them by."""
BUDGET = 500_000


def networks():
    """Names, networks, and functions that give exact quantiles."""
    rng = np.random.default_rng(0)
    line = cumprop.MLP(rng.normal(size=(1, 1, 64)))
    sd = float(np.linalg.norm(line.weights[0]))
    yield "linear, 64 inputs", line, lambda q: sd * norm.ppf(q)
    for activation in ("relu", "tanh", "gelu"):
        network = cumprop.MLP(
            [rng.normal(size=s) / np.sqrt(s[1]) for s in ((16, 2), (16, 16), (1, 16))],
            [rng.normal(size=16), rng.normal(size=16), None],
            activation,
        )
        yield f"2-16-16-1, {activation}", network, on_a_grid(network)


def on_a_grid(network):
    """The quantiles of a network of two inputs, summed over square cells up to 8 s.d. away.

    Slopes are small, so that cells of 0.004 s.d. tell them: sums over cells of twice the width
    agree. Larger weights saturate `tanh`, and its ridges are thinner than any cells.
    """
    axis = (np.arange(CELLS) + 0.5) * (16 / CELLS) - 8
    mass = np.diff(norm.cdf(np.linspace(-8, 8, CELLS + 1)))
    mass[axis > 0] = mass[axis < 0][::-1]  # far cells without cancellation
    y = np.concatenate(
        [network.forward(np.stack([np.full(CELLS, x), axis], axis=1))[:, 0] for x in axis]
    )
    weights = np.outer(mass, mass).ravel()
    order = np.argsort(y)
    y, weights = y[order], weights[order]
    below, above = np.cumsum(weights), np.cumsum(weights[::-1])[::-1]
    return lambda q: y[np.searchsorted(below, q) if q < 0.5 else np.sum(above > 1 - q) - 1]


@cache
def answers():
    """Name of the case, exact quantile, scale of the law, and estimate, of every case and seed."""
    return [
        (
            f"{name}, {q!r}",
            float(exact(q)),
            float(exact(0.84) - exact(0.16)),
            network.quantile("y0", q, seed=seed, budget=BUDGET),
        )
        for name, network, exact in networks()
        for q in LEVELS
        for seed in range(SEEDS)
    ]


def misses(found, truth):
    low, high = found.interval
    return not low - GRID <= truth <= high + GRID


def unreliable():
    return [name for name, _, _, one in answers() if one.status.startswith("unreliable")]


def test_intervals_of_far_quantiles(record):
    kept = [case for case in answers() if not case[3].status.startswith("unreliable")]
    held = [not misses(one, truth) for _, truth, _, one in kept]
    widths = [np.diff(one.interval)[0] / scale for _, _, scale, one in kept]
    record(
        f"95% intervals of {len(kept)} quantiles at 1e-9 to 1 - 1e-9 of 4 networks, tolerance 0.1",
        f"{np.mean(held):.1%} hold; median width {np.median(widths):.2g} of the distance between "
        "the 16% and 84% quantiles; median "
        f"{np.median([one.passes for *_, one in kept]):,.0f} passes",
        "≥ 95%",
        np.mean(held) >= 0.95,
    )


def test_no_silent_misses(record):
    lost = [name for name, truth, _, one in answers() if misses(one, truth) and one.status == "ok"]
    record(
        "quantiles outside their interval while the status is ok, of the same",
        f"{len(lost)}{': ' if lost else ''}{'; '.join(lost)}",
        "none",
        not lost,
    )


def test_unreliable_quantiles(record):
    names = sorted({*unreliable()})
    record(
        f"of {len(answers())} such quantiles, by at most {BUDGET:,} passes a threshold: unreliable",
        f"{len(unreliable())}{': ' if names else ''}{'; '.join(names)}",
        "at most 5%",
        len(unreliable()) <= 0.05 * len(answers()),
    )
