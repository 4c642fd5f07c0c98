"""Events that `test_rare.py` is measured on, and their probabilities by independent methods.

| networks | outputs |
|---|---|
| random ReLU, tanh, GELU; width 16 to 256, depth 1 to 4 | one output above a threshold |
| trained classifiers (digits, wine, iris, rings, parity) | a logit, and differences of two |
| trained controllers that saturate, value functions, cubic polynomials, advisories | an output |

Truths are found by splitting, with code and levels of its own, and by plain samples above 1e-5,
by a long importance sampling with other seeds below. They are kept in `FOLDER`.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import cumprop
from cumprop.functionals.rare.event import Event
from cumprop.functionals.rare.passes import parts

sys.path.insert(0, str(Path(__file__).parent))
import zoo

FOLDER = zoo.FOLDER.parent / "rare"
VERSION = 2
"""Raised when events or truths change."""
RANDOM = (
    ("relu", 16, 1), ("relu", 32, 2), ("relu", 32, 4), ("relu", 64, 3), ("relu", 128, 4),
    ("relu", 128, 1),
    ("tanh", 16, 2), ("tanh", 32, 1), ("tanh", 32, 4), ("tanh", 64, 3), ("tanh", 128, 2),
    ("gelu", 16, 4), ("gelu", 32, 2), ("gelu", 64, 1), ("gelu", 64, 3), ("gelu", 256, 1),
)  # fmt: skip
"""Activation, width and depth."""
TRAINED = (
    (3, "y0", 1), (3, "y1 - y8", 1), (12, "y0 - y2", 0), (14, "y1 - y0", 0), (15, "y2 - y1", 0),
    (11, "y0", 1), (19, "y0", 0), (20, "y0", 0), (22, "y1", 0), (23, "y0", 0), (24, "y0", 0),
    (25, "y0 - y1", 0), (29, "y2 - y0", 0), (31, "y2 - y1", 0), (32, "y3", 2), (40, "|y1|", 0),
)  # fmt: skip
"""Number of a recipe of `zoo`, the left side of an event, and the number of its input."""
PARTICLES, RUNS = 1000, 8
PLAIN = 4_000_000
TOLERANCE = 0.03
LADDERS = ((1e-2, 1e-4, 1e-6, 1e-8), (1e-3, 1e-5, 1e-6, 1e-9))
"""Probabilities of the four thresholds, of even and odd networks."""


@dataclass(frozen=True, eq=False)
class Case:
    """A network and the left side of its events."""

    name: str
    network: cumprop.MLP
    left: str

    @property
    def excess(self):
        """The function g of the event `left > 0`, or of one that all inputs are in."""
        event = Event.parsed(f"{self.left} > 0", self.network.widths[-1])
        [(_, excess)] = parts(self.network, event)
        return excess


def random_cases():
    for i, (activation, width, depth) in enumerate(RANDOM):
        init = "critical" if activation == "tanh" else "he"
        network = cumprop.random_mlp(width, depth, 7000 + i, activation, init=init)
        yield Case(f"{activation} {width}x{depth}", network, "y0")


def trained_cases():
    for number, left, law in TRAINED:
        name, network = zoo.trained_networks(number)[law]
        yield Case(name, network, left)


@dataclass(frozen=True)
class Pair:
    """A threshold, and two unbiased estimates of its probability with their standard errors."""

    name: str
    threshold: float
    splitting: tuple[float, float]
    sampling: tuple[float, float]

    @property
    def disagreement(self):
        """The difference of both estimates in standard errors."""
        (a, s), (b, t) = self.splitting, self.sampling
        return (a - b) / np.hypot(s, t)

    @property
    def best(self):
        """The probability and its standard error: both estimates, weighted by 1/error².

        Where they differ by more than four standard errors, splitting has missed a mode; weights of
        samples are bounded, so that they can miss, too, but not find what is not there.
        """
        (a, s), (b, t) = self.splitting, self.sampling
        if abs(self.disagreement) > 4:
            return max(self.splitting, self.sampling)
        weights = np.array([s**-2, t**-2])
        return float(weights @ [a, b] / weights.sum()), float(weights.sum() ** -0.5)


def pairs(number, case):
    """The four pairs of a case."""
    digest = hashlib.sha256(repr((VERSION, number, case.left)).encode())
    for array in (*case.network.weights, case.network.input_mean, case.network.input_cov):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    path = FOLDER / f"{digest.hexdigest()[:16]}.npy"
    if not path.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        rows = np.array(list(measured(number, case)))
        np.save(path, rows)
    return [
        Pair(f"{case.name}, {case.left} > {t:.4g}", t, (a, s), (b, u))
        for t, a, s, b, u in np.load(path).tolist()
    ]


def measured(number, case):
    """Threshold, and the estimates by splitting and by samples with their errors, of each pair."""
    excess, rng = case.excess, np.random.default_rng([number, 1])
    wanted = LADDERS[number % 2]
    levels, sizes, thresholds = climbed(excess, wanted, rng)
    split = np.array([climb(excess, levels, sizes, rng) for _ in range(RUNS)])
    split = split[:, np.searchsorted(levels, thresholds)]
    for i, (t, p) in enumerate(zip(thresholds, wanted, strict=True)):
        a, s = split[:, i].mean(), split[:, i].std(ddof=1) / np.sqrt(RUNS)
        if p > 1e-5:
            n = int(min(4000 / p, PLAIN * min(1, 64 / max(case.network.widths))))
            hits = sum(np.sum(excess(excess.draw(10_000, rng)) > t) for _ in range(n // 10_000))
            b, u = hits / n, np.sqrt(hits) / n
        else:
            event, seed = f"{case.left} > {t!r}", 1000 + 10 * number + i
            found = case.network.probability(event, tolerance=TOLERANCE, seed=seed)
            b, u = found.probability, np.diff(found.interval)[0] / 4
            if abs(a - b) > 2.5 * np.hypot(s, u):  # the mean of 16 seeds, and their scatter
                more = [
                    case.network.probability(event, seed=100_000 + 100 * seed + j).probability
                    for j in range(16)
                ]
                b, u = np.mean(more), np.std(more, ddof=1) / 4
        yield t, a, s, b, u


def climbed(excess, wanted, rng):
    """Levels at medians of particles with their step sizes, and thresholds of probabilities."""
    z = excess.draw(PARTICLES, rng)
    g, probability, size = excess(z), 1.0, 0.9
    levels, sizes, thresholds = [], [], []
    while len(thresholds) < len(wanted):
        level = np.median(g)
        missing = wanted[len(thresholds)]
        if missing > 0.4 * probability:
            level = float(np.quantile(g, 1 - missing / probability))
            thresholds.append(level)
        levels.append(level)
        probability *= np.mean(g > level)
        z, g, size = moved(excess, *copied(z, g, level, rng), level, size, rng)
        sizes.append(size)
    return np.array(levels), sizes, thresholds


def climb(excess, levels, sizes, rng):
    """The unbiased probabilities of all levels by one run."""
    z = excess.draw(PARTICLES, rng)
    g, shares = excess(z), []
    for level, size in zip(levels, sizes, strict=True):
        shares.append(np.mean(g > level))
        if not shares[-1]:
            return np.cumprod(shares + [0.0] * (len(levels) - len(shares)))
        z, g, _ = moved(excess, *copied(z, g, level, rng), level, size, rng)
    return np.cumprod(shares)


def copied(z, g, level, rng):
    alive = np.flatnonzero(g > level)
    chosen = alive[rng.integers(len(alive), size=len(z))]
    return z[chosen], g[chosen]


def moved(excess, z, g, level, size, rng):
    """Particles after four moves of one size, and the size for moves of 30% acceptance."""
    accepted = 0.0
    for _ in range(4):
        proposed = np.sqrt(1 - size**2) * z + size * excess.draw(len(z), rng)
        values = excess(proposed)
        good = values > level
        z, g = np.where(good[:, None], proposed, z).astype(z.dtype), np.where(good, values, g)
        accepted += good.mean() / 4
    return z, g, min(0.99, size * np.exp(accepted - 0.3))
