"""Quantiles: thresholds that outputs exceed with a given probability (mathematics §9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop.contract import Estimate
from cumprop.errors import CumpropError
from cumprop.functionals.order_statistics import sampled_quantiles
from cumprop.networks import MLP

Array = NDArray[Any]

RESOLUTION = 1e-6
"""The precision of thresholds, in output standard deviations."""


@dataclass(frozen=True, eq=False)
class Quantiles:
    """Thresholds of each probability, (n_{L+1},), and the `estimates` that found them.

    `intervals` are 95% intervals, (2, n_{L+1}) each, for sampled thresholds, and else None.
    """

    thresholds: list[Array]
    intervals: list[Array] | None
    estimates: list[Estimate]


def quantiles(
    run: Callable[[MLP], Estimate],
    network: MLP,
    probabilities: Sequence[float],
    outputs: Estimate,
    n_samples: int | None,
    rng: np.random.Generator,
) -> Quantiles:
    """Thresholds, (n_{L+1},), that each output stays below with each of these probabilities.

    `n_samples` comes from `contract.independent_samples`. Where it is a number, the thresholds are
    order statistics of as many independent inputs from `rng`; where it is None, `tail_quantiles`
    searches them with the estimator `run`, and `outputs`, its estimate, must have a covariance.
    Raises CumpropError where it has none, and as `sampled_quantiles` and `tail_quantiles` do. Cost:
    up to 2 n_samples forward passes, or the estimates of `tail_quantiles` for each probability.

    >>> import cumprop
    >>> line = MLP([[[3.0, 4.0]]], [[1.0]], [])                               # Y ~ N(1, 25)
    >>> run = lambda network: cumprop.estimate(network, "cumulant", order=2, cov=True)
    >>> found = quantiles(run, line, [0.5, 0.975], run(line), None, np.random.default_rng(0))
    >>> [t.round(4).tolist() for t in found.thresholds]                       # 1 + 5 · 1.96
    [[1.0], [10.7998]]
    """
    if n_samples is not None:
        found, estimate = sampled_quantiles(network, probabilities, n_samples, rng)
        thresholds, intervals = [three[1] for three in found], [three[[0, 2]] for three in found]
        return Quantiles(thresholds, intervals, [estimate])
    if outputs.cov is None:
        raise CumpropError(
            "quantiles need standard deviations, which this estimator does not give; "
            "take cumulant of order 2 or more, or monte_carlo"
        )
    std = np.sqrt(np.diag(outputs.cov).clip(0))
    thresholds, estimates = [], []
    for q in probabilities:
        t, taken = tail_quantiles(run, network, q, outputs.mean, std)
        thresholds.append(t)
        estimates += taken
    return Quantiles(thresholds, None, estimates)


def tail_quantiles(
    run: Callable[[MLP], Estimate], network: MLP, q: float, mean: Array, std: Array
) -> tuple[Array, list[Estimate]]:
    """Thresholds t, (n_{L+1},), with P(Y_i > t_i) = 1 − q by the estimator `run`; its estimates.

    `mean` and `std`, (n_{L+1},) each, bound the search: for every law, the quantile q lies between
    mean − std √((1 − q)/q) and mean + std √(q/(1 − q)) (Cantelli). The threshold of an output that
    does not vary is its mean. A tail probability wrong by δ moves t by δ over the density there.
    Raises CumpropError where estimated tails do not cross 1 − q.
    Cost: 4 to 26 estimates of the network with one more layer of steps.

    >>> import cumprop
    >>> line = MLP([[[3.0, 4.0]]], [[1.0]], [])                               # Y ~ N(1, 25)
    >>> run = lambda network: cumprop.estimate(network, "cumulant", order=2)
    >>> t, estimates = tail_quantiles(run, line, 0.975, np.array([1.0]), np.array([5.0]))
    >>> t.round(4).tolist()                                                   # 1 + 5 · 1.96
    [10.7998]
    """
    from scipy.optimize import elementwise

    unit = standardised(network, mean, std)
    estimates: list[Estimate] = []

    def excess(z: Array, outputs: Array) -> Array:
        thresholds = np.zeros(len(mean))
        thresholds[outputs] = z
        estimates.append(run(unit.above(thresholds)))
        above: Array = estimates[-1].mean[outputs].astype(np.float64)
        return above - (1 - q)

    varying = np.flatnonzero(std > 0)
    z = np.zeros(len(mean))
    if len(varying):
        one = np.ones(len(varying))
        ends = (-one * sqrt((1 - q) / q) - 1, one * sqrt(q / (1 - q)) + 1)
        found = elementwise.find_root(
            excess, ends, args=(varying,), tolerances={"xatol": RESOLUTION, "xrtol": 0.0}
        )
        if not found.success.all():
            lost = ", ".join(map(str, varying[~found.success][:5]))
            raise CumpropError(
                f"no {q:g} quantile of output {lost}: its estimated tail does not cross "
                f"{1 - q:.3g}; take monte_carlo, or a quantile nearer to the middle"
            )
        z[varying] = found.x
    return mean + std * z, estimates


def standardised(network: MLP, mean: ArrayLike, std: Array) -> MLP:
    """The network of (Y_i − mean_i)/std_i; of Y_i − mean_i where std_i is 0.

    `mean` is a number or (n_{L+1},), `std` is (n_{L+1},); a negative std mirrors the output.

    >>> standardised(MLP([[[3.0, 4.0]]], [[1.0]], []), 1.0, np.array([5.0])).weights[0].round(6)
    array([[0.6, 0.8]])
    """
    *weights, last = network.weights
    *biases, bias = network.biases
    scale = np.where(std == 0, 1.0, std)
    shifted = -np.asarray(mean) if bias is None else bias - np.asarray(mean)
    return network.replace(
        weights=[*weights, last / scale[:, None]],
        biases=[*biases, np.broadcast_to(shifted, scale.shape) / scale],
    )
