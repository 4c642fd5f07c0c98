"""Certified radii of randomised smoothing (Cohen, Rosenfeld and Kolter, 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from cumprop import streams
from cumprop.errors import CumpropError
from cumprop.flops import Flops, counting, on_host
from cumprop.functionals.samples import clopper_pearson, sampled_outputs
from cumprop.inputs import Gaussian
from cumprop.networks import MLP

Array = NDArray[Any]

LEVEL = 0.999
"""The confidence level of a certificate."""
SELECTION = 1000
"""Samples that select the class; fresh ones certify it."""
CERTIFICATION = 100_000
"""Samples that certify the class, where no tolerance says how many."""


@dataclass(frozen=True)
class Certificate:
    """A class and the radius, in units of the input, in which it stays the likeliest under noise.

    The class has at least the probability `lower` with confidence 0.999; the radius is
    σ Φ⁻¹(lower), 0 where `lower` is at most ½. `estimated_radius` is the same without a sample, an
    estimate that certifies nothing, None where the probabilities were sampled.
    """

    winner: int
    radius: float
    lower: float
    sigma: float
    n_samples: int
    estimated_radius: float | None = None

    def __str__(self) -> str:
        samples = f"{100 * LEVEL:g}%, {self.n_samples:,} samples"
        if self.radius == 0:
            words = f"no certificate: class {self.winner} may have less than half ({samples})"
        else:
            words = f"certified: class {self.winner} within radius {self.radius:.3g} ({samples})"
        if self.estimated_radius is None:
            return words
        return f"{words}; estimated without samples, no certificate: {self.estimated_radius:.3g}"


def noise_of(network: MLP) -> float:
    """The standard deviation σ of input noise N(μ, σ² I).

    Raises CumpropError for any other input.

    >>> noise_of(MLP([[[1.0, 1.0]]], input_mean=0.5, input_cov=0.25))
    0.5
    """
    law = network.input
    scatter = np.asarray(on_host(law.scatter)) if isinstance(law, Gaussian) else np.zeros(1)
    if scatter.ndim or not scatter > 0:
        raise CumpropError(
            f"a certificate needs equal Gaussian noise on all inputs, not {law.words}: give the "
            "input as input_mean and one number σ² as input_cov"
        )
    return float(np.sqrt(scatter))


def certified(
    network: MLP, sigma: float, likely: float | None, n_samples: int | None, seed: int
) -> tuple[Certificate, Flops]:
    """The certificate of the class that wins most often under noise of s.d. `sigma`, and its cost.

    `likely` is the estimated probability of the likeliest class. Cost: 1,000 forward passes and
    `n_samples`, by default 100,000.
    """
    n = n_samples or CERTIFICATION
    with counting() as flops:
        winner = int(_hits(network, SELECTION, seed, 1).argmax())
        hits = int(_hits(network, n, seed, 2)[winner])
    lower = float(clopper_pearson([hits], n, 2 * LEVEL - 1)[0, 0])
    return Certificate(
        winner,
        radius(sigma, lower),
        lower,
        sigma,
        n,
        None if likely is None else radius(sigma, likely),
    ), flops


def radius(sigma: float, probability: float) -> float:
    """The radius σ Φ⁻¹(p) of a class of probability p, 0 up to p = ½.

    >>> round(radius(0.5, 0.975), 6), radius(0.5, 0.4)
    (0.979982, 0.0)
    """
    return max(float(sigma * ndtri(min(probability, 1.0))), 0.0)


def _hits(network: MLP, n_samples: int, seed: int, part: int) -> Array:
    """How often each class wins, (k,)."""
    rng = streams.output_samples(seed, network.shape.width, part)
    hits = np.zeros(network.widths[-1], np.int64)
    for y in sampled_outputs(network, n_samples, rng):
        hits += np.bincount(y.argmax(axis=1), minlength=len(hits))
    return hits
