"""Estimates under inputs of any law, from estimates of networks of Gaussian input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract.printing import is_unreliable
from cumprop.errors import CumpropError
from cumprop.flops import added, on_host
from cumprop.inputs import Empirical, Gaussian
from cumprop.networks import gaussian_parts

if TYPE_CHECKING:
    from cumprop.contract.estimator import Estimate, Estimator
    from cumprop.networks import MLP

Array = NDArray[Any]
Run = Callable[["Estimator", "MLP"], "Estimate"]
"""A run of an estimator on a network of Gaussian input, or of rows of data that it averages."""


def under_any_input(estimator: Estimator, network: MLP, run: Run) -> Estimate:
    """The estimate of `network`, by `run` for each network of Gaussian input that it stands for.

    A mixture is the weighted sum over its components, to which sampling estimators give as many
    samples as their weights ask for. Rows of data are averaged by estimators that sample. Raises
    CumpropError where the estimator takes no rows.
    """
    if isinstance(network.input, Gaussian):
        return run(estimator, network)
    if isinstance(network.input, Empirical):
        return _over_rows(estimator, network, network.input, run)
    parts = gaussian_parts(network)
    estimates = []
    for weight, part in parts:
        found = run(estimator if len(parts) == 1 else estimator.with_share(weight), part)
        estimates.append(_of_layers(found, network.depth))
    return _mixed([weight for weight, _ in parts], estimates)


def unsupported(estimator: Estimator, network: MLP) -> str | None:
    """The reason why the estimator cannot take the network under its input; None where it can."""
    if isinstance(network.input, Empirical):
        return None
    reasons = (estimator.supports(part) for _, part in gaussian_parts(network))
    return next((reason for reason in reasons if reason is not None), None)


def _over_rows(estimator: Estimator, network: MLP, law: Empirical, run: Run) -> Estimate:
    n_rows = len(np.asarray(law.rows))
    averaging = estimator.over_rows(n_rows)
    if averaging is None:
        raise CumpropError(
            f"{estimator.name} takes no rows of data: fit a law to them (Empirical.smoothed, "
            "--components 1), or take monte_carlo or adaptive"
        )
    found = run(averaging, network)
    error, wanted = found.expected_error, getattr(estimator, "tolerance", None)
    if wanted is not None and error is not None and error > wanted:
        status = f"unreliable: {n_rows:,} rows leave {error:.1g} output s.d.; give more rows"
        return replace(found, status=status)
    return found


def _of_layers(found: Estimate, depth: int) -> Estimate:
    """The estimate without the layers that stand for the input."""
    first = len(found.layer_means) - depth
    variances = found.layer_variances
    return replace(
        found,
        layer_means=found.layer_means[first:],
        layer_variances=None if variances is None else variances[first:],
    )


def _mixed(weights: Sequence[float], parts: Sequence[Estimate]) -> Estimate:
    """The moments of a mixture of these weights, by the laws of total mean and covariance.

    Errors of components may be alike, so that half widths and expected errors add up; standard
    errors are independent.
    """
    if len(parts) == 1:
        return parts[0]

    def total(values: Sequence[Any]) -> Any:
        return sum(w * value for w, value in zip(weights, values, strict=True))

    def known(name: str) -> list[Any] | None:
        values = [getattr(part, name) for part in parts]
        return None if any(value is None for value in values) else values

    mean = total([part.mean for part in parts])
    shifts = [part.mean - mean for part in parts]
    covs, stderrs, widths = known("cov"), known("stderr"), known("half_width")
    samples, variances = known("n_samples"), known("layer_variances")
    layer_means = tuple(map(total, zip(*(part.layer_means for part in parts), strict=True)))
    if covs is not None:
        outer = [d[:, None] * d for d in shifts]
        covs = [cov + square for cov, square in zip(covs, outer, strict=True)]
    doubts = [
        f"component {c}: {part.status}" for c, part in enumerate(parts) if part.status != "ok"
    ]
    return replace(
        parts[0],
        mean=mean,
        layer_means=layer_means,
        cov=None if covs is None else total(covs),
        stderr=None if stderrs is None else _root_sum(weights, stderrs),
        half_width=None if widths is None else total(widths),
        flops=added(*(part.flops for part in parts)),
        status=_joined(doubts),
        n_samples=None if samples is None else sum(samples),
        expected_error=_error(weights, parts, [on_host(d) for d in shifts]),
        expected_std_error=max(stds) if (stds := known("expected_std_error")) else None,
        layer_variances=None if variances is None else _layer_variances(total, parts, layer_means),
        signs=None,
    )


def _root_sum(weights: Sequence[float], errors: Sequence[Array]) -> Array:
    root: Array = np.sqrt(sum((w * e) ** 2 for w, e in zip(weights, errors, strict=True)))
    return root


def _joined(doubts: Sequence[str]) -> str:
    """The statuses of components in one; it is unreliable where one of them is."""
    if not doubts:
        return "ok"
    poor = next((doubt for doubt in doubts if is_unreliable(doubt.partition(": ")[2])), None)
    if poor is None:
        return "; ".join(doubts)
    component, _, reason = poor.partition(": ")
    return f"unreliable: {component}, {reason.removeprefix('unreliable: ')}"


def _error(
    weights: Sequence[float], parts: Sequence[Estimate], shifts: list[Array]
) -> float | None:
    """The expected error in standard deviations of the mixture's outputs."""
    errors, unit = 0.0, 0.0
    for w, part, shift in zip(weights, parts, shifts, strict=True):
        if part.expected_error is None:
            return None
        variance = _sum_of_variances(part)
        if variance is None:
            return None
        errors += w * part.expected_error * sqrt(variance)
        unit += w * (variance + float(shift @ shift))
    return errors / sqrt(unit) if unit > 0 else 0.0


def _sum_of_variances(part: Estimate) -> float | None:
    if part.cov is not None:
        return float(np.maximum(np.diagonal(on_host(part.cov)), 0).sum(dtype=np.float64))
    return None if part.signs is None else part.signs.unit


def _layer_variances(
    total: Callable[[Sequence[Any]], Any], parts: Sequence[Estimate], means: Sequence[Array]
) -> tuple[Array, ...]:
    """The variances of neurons, by the law of total variance."""
    layers = [
        [variances[layer] + (part.layer_means[layer] - mean) ** 2 for part in parts
         if (variances := part.layer_variances)]
        for layer, mean in enumerate(means)
    ]  # fmt: skip
    return tuple(map(total, layers))
