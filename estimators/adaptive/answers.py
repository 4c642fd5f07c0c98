"""The answer of a search: the estimate of an order, or of samples, with errors and a status."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import Estimate
from cumprop.flops import added
from cumprop.networks import MLP

from ..blend.weights import Blended
from .decision import DOUBTED, Order
from .error_laws import QUANTILE
from .sampler import Sampler

Array = NDArray[Any]

SAMPLED = "sampled"
"""The first word of the status of a sampled answer."""
LOST = 1e-4
"""A larger rounding at the output, in output s.d., may be much in the layers before it."""


def accepted(sampler: Sampler, found: Estimate, order: Order, tolerance: float) -> Estimate:
    """The answer of an order."""
    network, rounding, reason = sampler.network, sampler.rounding(found), order.name
    if found.signs is not None:
        rounding = np.maximum(rounding, found.signs.rounding * np.sqrt(found.signs.shares))
    if order.looks_random:
        stderr = order.error * np.sqrt(sampler.unit * _shares(network))
        half_width = QUANTILE * stderr
    else:
        assert found.half_width is not None and found.signs is not None
        stderr = order.error * np.sqrt(found.signs.unit * found.signs.shares)
        half_width = DOUBTED * found.half_width
    if order.exact:
        reason += ", exact for one hidden layer" if network.depth else ", exact"
    elif order.change < inf:
        reason += f", which moves the means by {order.change:.1g} s.d."
    return replace(
        found,
        stderr=stderr + rounding,
        half_width=half_width + 2 * rounding,
        expected_error=order.error + (0.0 if sampler.constant else sampler.in_units(rounding)),
        flops=added(*sampler.spent),
        n_samples=sampler.passes,
        status=_status(reason, order.error, _about_std(found.expected_std_error, tolerance)),
    )


def sampled(sampler: Sampler, known: Estimate | None, both: Blended, reason: str) -> Estimate:
    """The answer of the samples, averaged by the weights of `both` with a `known` order if any."""
    found = sampler.samples
    choice = f"{SAMPLED} {found.n_samples:,} {found.design} inputs"
    if known:
        choice += f", with weight {both.weight:.2g} on the last order"
    else:
        known = Estimate(found.mean, found.layer_means, found.spread)
    order, w = both.left * np.sqrt(_shares(sampler.network)), both.weight
    stderr = np.hypot((1 - w) * np.sqrt(found.noise), order)
    half_width = np.hypot((1 - w) * found.half_width, QUANTILE * order)
    rounding = _rounding(sampler)
    error = 0.0 if sampler.constant else sampler.in_units(stderr)

    def mean(order: Any, samples: Any) -> Any:
        return both.mean(order, samples).astype(sampler.network.dtype)

    return Estimate(
        mean=mean(known.mean, found.mean),
        layer_means=tuple(map(mean, known.layer_means, found.layer_means)),
        cov=mean(known.cov, found.spread) if sampler.cov else None,
        stderr=np.hypot(stderr, rounding),
        half_width=np.hypot(half_width, 2 * rounding),
        flops=added(*sampler.spent),
        n_samples=sampler.passes,
        expected_error=error,
        expected_std_error=found.std_error,
        status=_status(choice, error, reason),
    )


def _rounding(sampler: Sampler) -> Array:
    """The rounding of each sampled mean: an ulp, or if that is much of an s.d., of all layers."""
    found = sampler.samples
    eps = float(np.finfo(sampler.network.dtype).eps)
    rounding: Array = eps * np.sqrt(found.variance + found.mean**2)
    if (rounding > LOST * np.sqrt(found.variance)).any() and sampler.rough is not None:
        rounding = np.maximum(rounding, sampler.rough.rounding * np.sqrt(sampler.rough.shares))
    return rounding


def _shares(network: MLP) -> Array:
    """The share of each output in the squared error of an order, from rows of the last map."""
    last = network.weights[-1].astype(np.float64)
    rows = np.square(last / (np.abs(last).max() or 1.0)).sum(axis=1)
    shares: Array = rows / (rows.sum() or 1.0)
    return shares


def _about_std(error: float | None, tolerance: float) -> str:
    """The words of a status about standard deviations that miss the tolerance."""
    if error is None or error <= tolerance:
        return "ok"
    return f"standard deviations are expected to be {error:.1%} off"


def _status(choice: str, error: float, note: str) -> str:
    parts = [choice, f"estimated error {error:.2g} output s.d."]
    return "; ".join(parts if note == "ok" else [*parts, note])
