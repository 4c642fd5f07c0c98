"""The error of a probability, the mean of a step 1[Y > t]."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract.any_input import independent_samples
from cumprop.contract.printing import NORMAL_QUANTILE, is_unreliable
from cumprop.networks import gaussian_parts

if TYPE_CHECKING:
    from cumprop.contract.estimator import Estimate, Estimator
    from cumprop.networks import MLP

Array = NDArray[Any]

FEW = 30
"""Fewer hits than these, or misses, do not show their own scatter."""
_WORST_GAIN = 1 / 3
"""Independent inputs that one input of any other design is worth at least: a scrambled net has at
most e times the variance of independent inputs, pairs at most twice."""
_OF_FEW_BLOCKS = 1.09
"""Student's quantile over the normal one where 16 blocks (Sobol's scramblings) show the error."""
_EXACT_FOR_GAUSSIAN = ("cumulant", "gaussian")


def is_probability(network: MLP) -> bool:
    """Whether each expected output is the probability of one event, as `MLP.above` makes it.

    >>> import cumprop
    >>> network = cumprop.random_mlp(width=4, depth=2, seed=0)
    >>> is_probability(network), is_probability(network.above(0.5))
    (False, True)
    """
    from cumprop.flops import on_host

    if not network.activations or network.activations[-1].name != "heaviside":
        return False
    return bool((np.count_nonzero(on_host(network.weights[-1]), axis=1) == 1).all())


def _is_of_gaussian(network: MLP) -> bool:
    """Whether the variable below the step is Gaussian, or a mixture of Gaussians."""
    return network.depth == 1 and all(part.depth == 1 for _, part in gaussian_parts(network))


def judged(network: MLP, estimator: Estimator, found: Estimate) -> Estimate:
    """The estimate of a probability; "unreliable" where it comes from an expansion, not samples.

    In a tail, means of a step by orders, matched moments or chosen points can be wrong by a factor
    of 10 to 1,000. The probability of a Gaussian Y is exact.
    """
    exact = estimator.name in _EXACT_FOR_GAUSSIAN and _is_of_gaussian(network)
    if exact or independent_samples(estimator, network, found) is not None:
        return found
    remedy = "monte_carlo" if estimator.name == "adaptive" else "monte_carlo or adaptive"
    doubt = (
        "unreliable: a tail probability that is not sampled can be wrong by a factor of 10 to "
        f"1,000; take {remedy}"
    )
    return replace(found, status=doubt if found.status == "ok" else f"{doubt}; {found.status}")


def interval(found: Estimate, independent: bool) -> Array | None:
    """Ends of the 95% intervals of sampled probabilities, (2, n); None where nothing was sampled.

    The interval of Clopper and Pearson for as many independent inputs as have the standard error of
    `found` (Korn and Graubard), at least 30 hits given: fewer count as hits of independent inputs.
    0 of N inputs leave up to 3/N (the rule of three), of N/3 where they were not `independent`.

    >>> from cumprop.contract.estimator import Estimate
    >>> none = Estimate(np.zeros(1), (), stderr=np.zeros(1), n_samples=1000)
    >>> interval(none, independent=True).round(4).tolist()
    [[0.0], [0.003]]
    """
    from scipy.special import betaincinv

    if found.n_samples is None or found.stderr is None or is_unreliable(found.status):
        return None
    p = np.clip(found.mean.astype(np.float64), 0, 1)
    if found.half_width is not None:
        error = found.half_width / NORMAL_QUANTILE
    else:
        error = found.stderr * (1.0 if independent else _OF_FEW_BLOCKS)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = p * (1 - p) / np.square(error, dtype=np.float64)
    hits = np.minimum(p, 1 - p) * found.n_samples
    n = np.where(hits < FEW, np.minimum(n, found.n_samples), n)
    fewest = found.n_samples * (1.0 if independent else _WORST_GAIN)
    n = np.where(np.isfinite(n) & (n > 0), n, fewest)
    tail = np.where((p > 0) & (p < 1), 0.025, 0.05)
    low = np.where(p > 0, betaincinv(np.maximum(n * p, 1e-300), n * (1 - p) + 1, tail), 0)
    high = np.where(p < 1, betaincinv(n * p + 1, np.maximum(n * (1 - p), 1e-300), 1 - tail), 1)
    return np.stack([low, high])
