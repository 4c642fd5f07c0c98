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
ESTIMATES = {
    "order 3": (20, {"order": 3}),
    "tree": (20, {"order": 3, "kind": "tree"}),
    "order 2": (5, {"order": 2}),
}
"""The number of points, and the parameters of the estimate."""
POINTS, SAMPLES = 20, 30_000
IMAGES, TABLES = (0.1, 0.25, 0.5), (0.1, 0.3, 1.0)
MATTER = 0.02
"""Classes of at least this probability, estimated or true, are those that matter."""


@cache
def noisy(number):
    """A noise level, a network and its class probabilities by samples, for every level and point.

    Points come first in their order, so that the first of all levels are those of few points.
    """
    recipe = zoo.RECIPES[number]
    x, _ = zoo.data_of(recipe.data)
    weights, biases = zoo.kept(recipe)
    images = x.min() >= 0 and x.max() <= 1
    rng, found = np.random.default_rng(1000 + number), []
    for point in x[rng.choice(len(x), POINTS, replace=False)]:
        for level in IMAGES if images else TABLES:
            size = level if images else level * x.std()
            given = np.float32(point), np.float32(size**2)
            network = cumprop.MLP(weights, biases, recipe.activation, *given)
            truth = averages(network, classified, SAMPLES, rng).mean[: network.widths[-1]]
            found.append((level, network, truth))
    print(f"  {recipe.name}", flush=True)
    return found


@cache
def decided(name):
    """Levels, truths, decisions and passes that cost as much, for all classifiers."""
    points, parameters = ESTIMATES[name]
    found = []
    for number in CLASSIFIERS:
        for level, network, truth in noisy(number)[: 3 * points]:
            decision = cumprop.class_probabilities(network, **parameters)
            passes = decision.flops.total / (2 * sum(w.size for w in network.weights))
            found.append((level, truth, decision, passes))
    return found


@pytest.mark.parametrize("name", ["order 3", "tree"])
def test_intervals(record, name):
    """95% intervals of "ok" answers hold, beyond 2 standard errors of the truth."""
    every, matter, ratios, widths = [], [], [], []
    ok = [(truth, decision) for _, truth, decision, _ in decided(name) if decision.status == "ok"]
    for truth, decision in ok:
        error = 2 * np.sqrt(truth * (1 - truth) / SAMPLES) + 3 / SAMPLES
        half = np.diff(decision.interval, axis=0)[0] / 2
        low, high = decision.interval
        beyond = np.maximum(low - truth, truth - high) - error
        every.extend(beyond <= 0)
        matter.extend(beyond[np.maximum(truth, decision.probabilities) >= MATTER] <= 0)
        ratios.append(np.max((beyond + half) / np.maximum(half, 1e-9)))
        widths.append(half.max())
    measured = (
        f"{np.mean(every):.1%} of {len(every):,}; of the {len(matter):,} of {MATTER:.0%} or more "
        f"{np.mean(matter):.1%}; the farthest is {max(ratios):.1f} half widths off; the widest of "
        f"a case has a median half width of {np.median(widths):.2g}; {len(ok)} of "
        f"{len(decided(name))} ok"
    )
    claim = f"95% intervals of class probabilities without samples, {name}, 6 classifiers"
    record(claim, measured, "≥ 95% of both", min(np.mean(every), np.mean(matter)) >= 0.95)


@pytest.mark.parametrize("name", ["order 3", "tree"])
def test_worth_in_samples(record, name):
    """N samples have the squared error Σ p (1 - p) / N over the classes."""
    worths, costs, levels = [], [], []
    for level, truth, decision, passes in decided(name):
        scatter = (truth * (1 - truth)).sum()
        if scatter < 1e-3 or decision.status != "ok":
            continue  # one class is certain, or the answer says that it is not worth much
        squared = np.square(decision.probabilities - truth).sum()
        worths.append(scatter / max(squared - scatter / SAMPLES, scatter / SAMPLES))
        costs.append(passes)
        levels.append(level)
    by_level = {
        level: np.median([w for w, one in zip(worths, levels, strict=True) if one == level])
        for level in sorted({*levels})
    }
    words = ", ".join(f"{worth:,.0f} at noise {level:g}" for level, worth in by_level.items())
    median = float(np.median(worths))
    record(
        f'samples that "ok" class probabilities without samples are worth, {name}: median',
        f"{median:,.0f} ({words}); cost of {np.median(costs):,.0f} samples",
        "≥ 500",
        median >= 500,
    )


def test_third_cumulants_lift_gaussian_outputs(record):
    """The squared error over all cases, with third cumulants and with two moments alone."""
    few = 3 * ESTIMATES["order 2"][0]
    bent = [
        case
        for at in range(len(CLASSIFIERS))
        for case in decided("order 3")[3 * POINTS * at :][:few]
    ]
    squares = [
        sum(np.square(decision.probabilities - truth).sum() for _, truth, decision, _ in cases)
        for cases in (bent, decided("order 2"))
    ]
    ratio = squares[0] / squares[1]
    claim = "squared error of class probabilities: third cumulants over Gaussian outputs, 90 cases"
    record(claim, f"{ratio:.2f}", "≤ 0.7", ratio <= 0.7)


def test_certificates(record):
    """18 certificates at level 0.999 against 10⁶ samples: 2% for a false alarm."""
    above, made, shares = 0, 0, []
    for number in (27, 30, 31):
        for place, (_, network, _) in enumerate(noisy(number)[:6]):
            found = cumprop.class_probabilities(network, "monte_carlo", n_samples=100, certify=True)
            one = found.certificate
            rng = np.random.default_rng([7, number, place])
            wins = sum(
                np.count_nonzero(y.argmax(axis=1) == one.winner)
                for y in sampled_outputs(network, 10**6, rng)
            )
            most = radius(one.sigma, clopper_pearson([wins], 10**6, 0.998)[1, 0])
            above += one.radius > most
            made += one.radius > 0
            if one.radius > 0 and np.isfinite(most):
                shares.append(one.radius / most)
    record(
        "certified radii above those of 10⁶ samples, 18 inputs of 3 classifiers",
        f"{above}; {made} certified, a median of {np.median(shares):.0%} of the radius",
        "0",
        above == 0,
    )
