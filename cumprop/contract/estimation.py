"""The functions `estimate` and `estimate_batch`, by which people run a backend on a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop import streams
from cumprop.contract.any_input import unsupported
from cumprop.contract.estimator import Estimate, Estimator
from cumprop.contract.probabilities import is_probability, judged
from cumprop.contract.registry import build
from cumprop.errors import CumpropError
from cumprop.flops import is_foreign
from cumprop.inputs.arrays import numbers
from cumprop.networks import MLP
from cumprop.parameters import typed

Array = NDArray[Any]


def estimate(
    network: MLP,
    estimator: str | Estimator = "cumulant",
    cov: bool = False,
    seed: int = 0,
    third: bool = False,
    **parameters: Any,
) -> Estimate:
    """Estimate E[f(x)] of `network` under the law of its input from the weights.

    `estimator` is a backend name with its `parameters`, or an instance. A backend that samples uses
    the random stream of `seed`, as `cumprop estimate --seed` does. A probability (`MLP.above`) that
    was not sampled has the status "unreliable". With `third`, `cumulant` of order 3 and up gives
    the third cumulants of the outputs, too, except under a mixture. Raises CumpropError where the
    backend does not support the network, or a parameter is wrong. Cost: `Estimate.flops`, and in
    advance `Estimator.predict_cost`.

    >>> import cumprop
    >>> network = cumprop.MLP([[[3.0, 4.0]], [[1.0]]])            # relu(3 x_1 + 4 x_2)
    >>> float(cumprop.estimate(network, "cumulant", order=2).mean[0].round(6))   # 5 / sqrt(2 pi)
    1.994711
    """
    estimator = supporting(network, estimator, parameters)
    cov, seed = typed(cov, bool, "cov"), streams.checked(seed)
    rng = streams.sampling(seed, network.shape.width) if estimator.draws else None
    further = {"third": True} if typed(third, bool, "third") and estimator.gives_third else {}
    found = estimator.estimate(network, cov=cov, rng=rng, **further)
    return judged(network, estimator, found) if is_probability(network) else found


def estimate_batch(
    network: MLP,
    means: ArrayLike,
    estimator: str | Estimator = "cumulant",
    cov: bool = False,
    **parameters: Any,
) -> list[Estimate]:
    """Estimates of `network` under B Gaussian inputs of different means, in one call.

    `means` are (B, n_0), arrays or tensors; the covariance of all inputs is that of the network.
    The numbers are those of `estimate` one by one; orders 1 to 3 of `cumulant`, kind basic, compute
    narrow networks side by side, and what all inputs share once. Raises CumpropError for means of
    another shape, for networks whose input is not Gaussian, and as `estimate` does. Cost: the sum
    of the `flops`.

    >>> import cumprop
    >>> network = cumprop.MLP([[[3.0, 4.0]], [[1.0]]])            # relu(3 x_1 + 4 x_2)
    >>> found = estimate_batch(network, [[0.0, 0.0], [9.0, 12.0]], order=2)
    >>> [round(float(one.mean[0]), 3) for one in found]
    [1.995, 75.0]
    """
    estimator = supporting(network, estimator, parameters)
    if not network.has_gaussian_input:
        raise CumpropError("a batch has Gaussian inputs: give MLP(input_cov=...) and the means")
    if not is_foreign(means):
        means = numbers(means, "means").astype(network.dtype)
    shape = np.shape(means)
    if len(shape) != 2 or shape[1] != network.widths[0]:
        raise CumpropError(f"means have shape {tuple(shape)}; give (B, {network.widths[0]})")
    found = estimator.estimate_batch(network, cast(Array, means), cov=typed(cov, bool, "cov"))
    return [judged(network, estimator, one) for one in found] if is_probability(network) else found


def instance(network: MLP, estimator: str | Estimator, parameters: Mapping[str, Any]) -> Estimator:
    """The estimator of a name and its parameters, or the given one, beside a network.

    Raises CumpropError where it is none, or `network` is none.
    """
    if not isinstance(network, MLP):
        raise CumpropError(
            f"network is {type(network).__name__}; give a cumprop.MLP, or cumprop.load(network)"
        )
    if isinstance(estimator, str):
        return build(estimator, **parameters)
    if not isinstance(estimator, Estimator):
        raise CumpropError(f"estimator is {estimator!r}; give the name or an instance of one")
    if parameters:
        raise CumpropError("parameters go with an estimator's name, not with an instance")
    return estimator


def supporting(
    network: MLP, estimator: str | Estimator, parameters: Mapping[str, Any]
) -> Estimator:
    """The `instance`, if it supports the network; raises CumpropError where it does not."""
    found = instance(network, estimator, parameters)
    reason = unsupported(found, network)
    if reason is not None:
        raise CumpropError(reason)
    return found
