"""Acceptance of far quantiles: intervals against exact quantiles of networks of few inputs."""

import numpy as np
import pytest
from scipy.stats import norm

import cumprop

pytestmark = pytest.mark.verify

LEVELS = (1e-9, 1e-6, 1e-3, 0.1, 1 - 1e-4, 1 - 1e-6, 1 - 1e-9)
SEEDS, CELLS = 6, 4000


def networks():
    """Names, networks, and functions that give exact quantiles."""
    rng = np.random.default_rng(0)
    line = cumprop.MLP(rng.normal(size=(1, 1, 64)))
    sd = float(np.linalg.norm(line.weights[0]))
    yield "linear, 64 inputs", line, lambda q: sd * norm.ppf(q)
    for activation in ("relu", "tanh", "gelu"):
        network = cumprop.MLP(
            [rng.normal(size=s) for s in ((16, 2), (16, 16), (1, 16))],
            [rng.normal(size=16), rng.normal(size=16), None],
            activation,
        )
        yield f"2-16-16-1, {activation}", network, on_a_grid(network)


def on_a_grid(network):
    """The quantiles of a network of two inputs, summed over square cells up to 8 s.d. away."""
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


def test_intervals_of_far_quantiles(record):
    held, doubtful, widths, passes = [], [], [], []
    for name, network, exact in networks():
        scale = exact(0.84) - exact(0.16)
        for q in LEVELS:
            for seed in range(SEEDS):
                found = network.quantile("y0", q, seed=seed)
                low, high = found.interval
                if found.status.startswith("unreliable"):
                    doubtful.append(f"{name}, {q:g}")
                    continue
                held.append(low <= exact(q) <= high)
                widths.append((high - low) / scale)
                passes.append(found.passes)
                if not held[-1]:
                    print(f"\n  {name}, {q}: {exact(q)}, {found}", flush=True)
    record(
        f"95% intervals of quantiles at 1e-9 to 1 - 1e-9, tolerance 0.1, {len(held)} of 4 networks",
        f"{np.mean(held):.1%} hold; median width {np.median(widths):.2g} of the distance between "
        f"the 16% and 84% quantiles; median {np.median(passes):,.0f} passes; "
        f"{len(doubtful)} unreliable",
        "≥ 95%, at most 2% unreliable",
        np.mean(held) >= 0.95 and len(doubtful) <= 0.02 * (len(held) + len(doubtful)),
    )
