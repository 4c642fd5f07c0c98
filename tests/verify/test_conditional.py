"""Conditional propagation: tails, means and expected errors where plain orders are far off.

True tails are plain samples, true means those of `zoo.truth_of`. The rule of the expected error was
chosen on the zoo, and is accepted on networks of docs/calibration_networks.py.
"""

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import cumprop
from cumprop import streams
from cumprop.estimators.conditional import Conditional
from cumprop.networks import gaussian_parts
from cumprop.sampling import replicates, standardised
from cumprop.sampling.designs import normals

sys.path.insert(0, str(Path(__file__).parent))
import zoo
from calibration_networks import random_networks, trained_networks

pytestmark = pytest.mark.verify

ALONG = Conditional(directions="event", nodes=32)


def of_output(network, output):
    """The network of one output."""
    *_, last = network.biases
    return network.replace(
        weights=[*network.weights[:-1], network.weights[-1][output : output + 1]],
        biases=[*network.biases[:-1], None if last is None else last[output : output + 1]],
        init_scale=None,
    )


def samples(network, n, seed):
    """Values of the output at n inputs."""
    rng, found = streams.sampling(seed, network.shape.width, repeat=1), []
    cov = network.input_cov
    root = None if cov is None else np.linalg.cholesky(cov + 1e-7 * np.eye(len(cov)))
    x = np.empty((50_000, network.widths[0]), np.float32)
    for _ in range(n // len(x)):
        normals(rng, x)
        z = x if root is None else network.input_mean + x @ root.T.astype(np.float32)
        found.append(network.forward(z.astype(np.float32))[:, 0])
    return np.concatenate(found)


@cache
def tail_ratios(kind, p, seeds, n):
    """Estimated over true probabilities: by plain order 2 and conditional on the nearest input."""
    rows = []
    for seed in seeds:
        if kind == "digits":
            whole = zoo.trained_networks(DISTILLED)[0][1]
            network = of_output(whole, seed)
        else:
            width, depth = kind
            network = of_output(cumprop.random_mlp(width=width, depth=depth, seed=seed), 0)
        threshold = float(np.quantile(samples(network, n, 1), 1 - p))
        truth = float(np.mean(samples(network, n, 2) > threshold))
        tail = network.above(threshold)
        plain = float(cumprop.estimate(tail, order=2).mean[0])
        conditional = float(cumprop.estimate(tail, ALONG).mean[0])
        rows.append((plain / truth, conditional / truth))
    return np.array(rows)


DISTILLED = next(i for i, recipe in enumerate(zoo.RECIPES) if recipe.kind == "distilled")


@pytest.mark.parametrize(
    ("kind", "p", "seeds", "n"),
    [
        ((32, 2), 1e-4, (0, 1, 2, 3), 4_000_000),
        ((128, 4), 1e-5, (0, 1), 2_000_000),
        ("digits", 1e-5, (0, 1, 2), 5_000_000),
    ],
    ids=["relu 32x2", "relu 128x4", "digits logits"],
)
def test_tails_are_within_a_factor_of_four(kind, p, seeds, n, record):
    plain, conditional = tail_ratios(kind, p, seeds, n).T
    name = kind if isinstance(kind, str) else f"random ReLU {kind[0]}x{kind[1]}"
    record(
        f"P(y > t) near {p:.0e}, {name}, over the sampled one: order 2, and given the direction of "
        "the nearest input of the event",
        f"{', '.join(f'{r:.2g}' for r in plain)} → {', '.join(f'{r:.2g}' for r in conditional)}",
        "within a factor of 4 given the direction, and the largest factor below that of order 2",
        bool((np.abs(np.log(conditional)) < np.log(4)).all())
        and np.abs(np.log(conditional)).max() < np.abs(np.log(np.maximum(plain, 1e-12))).max(),
    )


MEANS = {
    "policy lqr 6 48-48": (1, 2, 4),
    "policy lqr 4 32-32": (1, 2, 4),
    "advisory encounters 5": (1, 2, 4),
    "advisory encounters 12 100-100-100": (4,),
    "one-hot images 64-64-64-64": (1, 2, 4),
}


@pytest.mark.parametrize("name", MEANS)
def test_means_of_trained_networks(name, record):
    number = next(i for i, recipe in enumerate(zoo.RECIPES) if recipe.name.startswith(name))
    label, network = zoo.trained_networks(number)[0]
    truth = zoo.truth_of(network)
    unit = np.sqrt(truth.unit)

    def off(estimator):
        return float(np.linalg.norm(cumprop.estimate(network, estimator).mean - truth.mean) / unit)

    plain = off(cumprop.contract.build("cumulant", order=2))
    given = [off(Conditional(n_directions=k)) for k in MEANS[name]]
    record(
        f"errors of the means of {label}, output s.d.: order 2, and given "
        f"{', '.join(map(str, MEANS[name]))} directions of gradients",
        f"{plain:.2g} → {', '.join(f'{g:.2g}' for g in given)}",
        "at most two thirds of the error of order 2",
        max(given) <= plain / 1.5,
    )


def true_moments(network):
    """Of 1.5e10 FLOPs of orthogonal inputs, or of a Sobol sequence where they are few."""
    [(_, gaussian)] = gaussian_parts(network)
    network, _ = standardised(gaussian)
    n = int(np.clip(7.5e9 / sum(w.size for w in network.weights), 1e5, 5e5))
    few = network.widths[0] <= 8
    design = "sobol" if few else "orthogonal"
    n = 2 ** int(np.log2(n)) if few else n
    return replicates(network, n, design, np.random.default_rng(1))


@pytest.mark.parametrize("k", [1, 4])
def test_expected_errors_hold(k, record):
    """Trained networks of five kinds under three inputs, and random ones."""
    pairs = [pair for number in (8, 11, 14, 27, 39) for pair in trained_networks(number)]
    pairs += [pair for pair in random_networks() if max(pair[1].widths) <= 64][::2]
    ratios, covered = [], []
    for _, network in pairs:
        truth = true_moments(network)
        found = cumprop.estimate(network, "conditional", n_directions=k)
        noise = np.sqrt(truth.noise)
        off = np.abs(found.mean - truth.mean)
        size = np.sqrt(truth.variance.sum())
        true = np.sqrt(max((off**2).sum() - (noise**2).sum(), 0)) / size
        floor = 3 * np.sqrt((noise**2).sum()) / size
        if found.status == "ok":
            ratios.append(true / found.expected_error if true > floor else 0.0)
            covered.append(np.mean(off <= np.hypot(found.half_width, 1.96 * noise) + 1e-12))
    ratios = np.array(ratios)
    record(
        f"{len(ratios)} of {len(pairs)} means given {k} direction{'s' * (k > 1)} that say ok: true "
        "error at most twice the expected one; largest ratio",
        f"{np.mean(ratios <= 2):.1%}, {ratios.max():.2g}",
        "≥ 97%, ≤ 5",
        np.mean(ratios <= 2) >= 0.97 and ratios.max() <= 5,
    )
    record(
        f"95% of the outputs within half widths, share of the same {len(ratios)} networks",
        f"{np.mean(np.array(covered) >= 0.95):.1%}",
        "≥ 90%",
        np.mean(np.array(covered) >= 0.95) >= 0.9,
    )
