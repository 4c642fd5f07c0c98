"""Class probabilities on trained classifiers: intervals, what they are worth, certificates.

Classifiers are those of `zoo.py`: digits one-hot and enlarged to 784 pixels, rings in 6 and 10
dimensions, advisories for aircraft (two). The intervals were calibrated on others (digits of 64
pixels with cross-entropy, clusters, wine, iris). Noise is isotropic around 20 data points each.
Truths are samples.
"""

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import cumprop
from cumprop.functionals.certificates import radius
from cumprop.functionals.classes import classified
from cumprop.functionals.samples import averages, clopper_pearson, sampled_outputs

sys.path.insert(0, str(Path(__file__).parent))
import zoo

pytestmark = pytest.mark.verify

CLASSIFIERS = (4, 8, 27, 28, 30, 31)
ORDERS = ({"order": 3}, {"order": 3, "kind": "tree"})
INPUTS, SAMPLES = 20, 50_000
IMAGES, TABLES = (0.1, 0.25, 0.5), (0.1, 0.3, 1.0)
MATTER = 0.02
"""Classes of at least this probability, estimated or true, are those that matter."""


def noisy(number, inputs):
    """Name, noise and network for every noise level and the first `inputs` points."""
    recipe = zoo.RECIPES[number]
    x, _ = zoo.data_of(recipe.data)
    weights, biases = zoo.kept(recipe)
    images = x.min() >= 0 and x.max() <= 1
    points = x[np.random.default_rng(1000 + number).choice(len(x), inputs, replace=False)]
    for level in IMAGES if images else TABLES:
        size = level if images else level * x.std()
        for point in points:
            given = np.float32(point), np.float32(size**2)
            yield recipe.name, level, cumprop.MLP(weights, biases, recipe.activation, *given)


@cache
def cases():
    """Truth and decisions of two closures for every case: names, then arrays."""
    found = []
    for number in CLASSIFIERS:
        for place, (name, level, network) in enumerate(noisy(number, INPUTS)):
            rng = np.random.default_rng([number, place])
            truth = averages(network, classified, SAMPLES, rng).mean[: network.widths[-1]]
            decisions = [cumprop.class_probabilities(network, **given) for given in ORDERS]
            passes = [d.flops.total / (2 * sum(w.size for w in network.weights)) for d in decisions]
            found.append((name, level, truth, decisions, passes))
        print(f"  {name}", flush=True)
    return found


@pytest.mark.parametrize("which", [0, 1], ids=["order 3", "tree"])
def test_intervals(record, which):
    """95% intervals of "ok" answers hold, beyond 2 standard errors of the truth."""
    every, matter, widths = [], [], []
    answers = [(truth, d[which]) for _, _, truth, d, _ in cases()]
    ok = [(truth, d) for truth, d in answers if d.status == "ok"]
    for truth, decision in ok:
        error = 2 * np.sqrt(truth * (1 - truth) / SAMPLES) + 3 / SAMPLES
        low, high = decision.interval
        holds = (truth >= low - error) & (truth <= high + error)
        every.extend(holds)
        matter.extend(holds[np.maximum(truth, decision.probabilities) >= MATTER])
        widths.append((high - low).max() / 2)
    measured = (
        f"{np.mean(every):.1%} of {len(every):,}; of the {len(matter):,} of {MATTER:.0%} or more "
        f"{np.mean(matter):.1%}; the widest of a case has a median half width of "
        f"{np.median(widths):.2g}; {len(ok)} of {len(answers)} ok"
    )
    name = ("order 3", "tree")[which]
    claim = f"95% intervals of class probabilities without samples, {name}, 6 classifiers"
    record(claim, measured, "≥ 95% of both", min(np.mean(every), np.mean(matter)) >= 0.95)


@pytest.mark.parametrize("which", [0, 1], ids=["order 3", "tree"])
def test_worth_in_samples(record, which):
    """N samples have the squared error Σ p (1 - p) / N over the classes."""
    worths, costs, levels = [], [], []
    for _, level, truth, decisions, passes in cases():
        scatter = (truth * (1 - truth)).sum()
        if scatter < 1e-3:
            continue  # one class is certain
        squared = np.square(decisions[which].probabilities - truth).sum()
        worths.append(scatter / max(squared - scatter / SAMPLES, scatter / SAMPLES))
        costs.append(passes[which])
        levels.append(level)
    by_level = {
        level: np.median([w for w, one in zip(worths, levels, strict=True) if one == level])
        for level in sorted({*levels})
    }
    words = ", ".join(f"{worth:,.0f} at noise {level:g}" for level, worth in by_level.items())
    median = float(np.median(worths))
    name = ("order 3", "tree")[which]
    record(
        f"samples that class probabilities without samples are worth, {name}: median",
        f"{median:,.0f} ({words}); cost of {np.median(costs):,.0f} samples",
        "≥ 500",
        median >= 500,
    )


def test_third_cumulants_lift_gaussian_outputs(record):
    """The squared error over all cases, with third cumulants and with two moments alone."""
    bent, flat = 0.0, 0.0
    for number in (4, 28, 30, 31):
        for place, (_, _, network) in enumerate(noisy(number, 5)):
            rng = np.random.default_rng([number, place])
            truth = averages(network, classified, SAMPLES, rng).mean[: network.widths[-1]]
            for order in (3, 2):
                found = cumprop.class_probabilities(network, order=order)
                squared = float(np.square(found.probabilities - truth).sum())
                bent, flat = (bent + squared, flat) if order == 3 else (bent, flat + squared)
    record(
        "squared error of class probabilities: third cumulants over Gaussian outputs, 60 cases",
        f"{bent / flat:.2f}",
        "≤ 0.7",
        bent <= 0.7 * flat,
    )


def test_certificates(record):
    """36 certificates at level 0.999 against 10⁶ samples: 4% for a false alarm."""
    above, made, shares = 0, 0, []
    for number in (12, 14, 30, 31):
        for place, (_, _, network) in enumerate(noisy(number, 3)):
            found = cumprop.class_probabilities(network, "monte_carlo", n_samples=100, certify=True)
            one = found.certificate
            rng = np.random.default_rng([7, number, place])
            wins = sum(
                np.count_nonzero(y.argmax(axis=1) == one.winner)
                for y in sampled_outputs(network, 10**6, rng)
            )
            most = radius(one.sigma, clopper_pearson([wins], 10**6, 0.998)[1, 0])
            above += one.radius > most
            if one.radius > 0 and np.isfinite(most):
                shares.append(one.radius / most)
            made += one.radius > 0
    record(
        "certified radii above those of 10⁶ samples, 36 inputs of 4 classifiers",
        f"{above}; {made} certified, a median of {np.median(shares):.0%} of the radius",
        "0",
        above == 0,
    )
