"""Estimates under inputs of any law, from estimates of networks of Gaussian input."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract.input_cumulants import with_input_error
from cumprop.contract.printing import is_unreliable
from cumprop.errors import CumpropError
from cumprop.flops import added, on_host
from cumprop.inputs import Empirical
from cumprop.networks import gaussian_parts

if TYPE_CHECKING:
    from cumprop.contract.estimator import Estimate, Estimator
    from cumprop.networks import MLP

Array = NDArray[Any]
_NO_ROWS = (
    "{} takes no rows of data: fit a law to them (Empirical.smoothed, --components 1), or take "
    "monte_carlo or adaptive"
)
Run = Callable[["Estimator", "MLP"], "Estimate"]
"""A run of an estimator on a network of Gaussian input, or of rows of data that it averages."""


def under_any_input(estimator: Estimator, network: MLP, run: Run) -> Estimate:
    """The estimate of `network`, by `run` for each network of Gaussian input that it stands for.

    A mixture is the weighted sum over its components, to which sampling estimators give as many
    samples as their weights ask for. Rows of data are averaged by estimators that sample. Raises
    CumpropError where the estimator takes no rows.
    """
    if isinstance(network.input, Empirical):
        return _over_rows(estimator, network, network.input, run)
    weights, parts = zip(*gaussian_parts(network), strict=True)
    given = parts
    if estimator.by_moments:
        _, given = zip(*gaussian_parts(network, matched=True), strict=True)
    estimates, sampled = [], []
    for weight, part, taken in zip(weights, parts, given, strict=True):
        found = run(estimator if len(parts) == 1 else estimator.with_share(weight), taken)
        if part.depth > network.depth:
            found = with_input_error(estimator, part, found)
        estimates.append(_of_layers(found, network.depth))
        sampled.append(estimator.independent_samples(found) is not None)
    return estimates[0] if len(parts) == 1 else mixed(np.array(weights), estimates, sampled)


def unsupported(estimator: Estimator, network: MLP) -> str | None:
    """The reason why the estimator cannot take the network under its input; None where it can."""
    if network.has_gaussian_input:
        return estimator.supports(network)
    if isinstance(network.input, Empirical):
        averaging = estimator.over_rows(network.input.n_rows)
        return _NO_ROWS.format(estimator.name) if averaging is None else averaging.supports(network)
    parts = gaussian_parts(network, matched=estimator.by_moments)
    reasons = (estimator.supports(part) for _, part in parts)
    return next((reason for reason in reasons if reason is not None), None)


def independent_samples(estimator: Estimator, network: MLP, found: Estimate) -> int | None:
    """`Estimator.independent_samples` of an estimate of `network`: of rows, at most all of them."""
    if not isinstance(network.input, Empirical):
        return estimator.independent_samples(found)
    n_rows = network.input.n_rows
    averaging = estimator.over_rows(n_rows)
    n_samples = None if averaging is None else averaging.independent_samples(found)
    return None if n_samples is None else min(n_samples, n_rows)


def statuses(status: str) -> list[str]:
    """The statuses of the components of a mixture, those without doubt left out; else the status.

    >>> statuses("component 0: sampled; component 2: slow; odd"), statuses("slow; odd")
    (['sampled', 'slow; odd'], ['slow; odd'])
    """
    return [words for words in re.split(r"(?:^|; )component \d+: ", status) if words]


def _over_rows(estimator: Estimator, network: MLP, law: Empirical, run: Run) -> Estimate:
    averaging = estimator.over_rows(law.n_rows)
    if averaging is None:
        raise CumpropError(_NO_ROWS.format(estimator.name))
    found = run(averaging, network)
    wanted = getattr(estimator, "tolerance", None)
    if wanted is None or law.n_rows * wanted**2 >= 1:
        return found
    few = f"{law.n_rows:,} rows leave {law.n_rows**-0.5:.1g} output s.d."
    return replace(found, status=f"{few}; tolerance {wanted:g} takes {ceil(wanted**-2):,}")


def _of_layers(found: Estimate, depth: int) -> Estimate:
    """The estimate without the layers that stand for the input."""
    first = len(found.layer_means) - depth
    variances = found.layer_variances
    return replace(
        found,
        layer_means=found.layer_means[first:],
        layer_variances=None if variances is None else variances[first:],
    )


def mixed(weights: Array, parts: Sequence[Estimate], sampled: Sequence[bool]) -> Estimate:
    """The moments of a mixture of these `weights`, (m,), by the laws of total mean and covariance.

    `parts` are the estimates of the m components. The errors of those that are `sampled` (m flags)
    are independent; those of the others may be alike.

    >>> import cumprop
    >>> network = cumprop.MLP([[[1.0]]])
    >>> parts = [cumprop.estimate(network.replace(input_mean=m), cov=True) for m in (-1.0, 3.0)]
    >>> found = mixed(np.array([0.5, 0.5]), parts, [False, False])
    >>> found.mean.tolist(), found.cov.tolist()
    ([1.0], [[5.0]])
    """

    def total(values: Sequence[Any]) -> Any:
        return sum(w * value for w, value in zip(weights.tolist(), values, strict=True))

    def known(name: str) -> list[Any] | None:
        values = [getattr(part, name) for part in parts]
        return None if any(value is None for value in values) else values

    def total_error(values: Sequence[Any]) -> Any:
        errors = [w * on_host(value) for w, value in zip(weights, values, strict=True)]
        noise = [np.square(e) for e, one in zip(errors, sampled, strict=True) if one]
        alike = [e for e, one in zip(errors, sampled, strict=True) if not one]
        return np.sqrt(sum(noise) + np.square(sum(alike)))

    mean = total([part.mean for part in parts])
    shifts = [part.mean - mean for part in parts]
    covs, stderrs, widths = known("cov"), known("stderr"), known("half_width")
    samples, variances, errors = (
        known("n_samples"),
        known("layer_variances"),
        known("expected_error"),
    )
    units = [_sum_of_variances(part) for part in parts]
    error = None
    if errors is not None:
        wide = [on_host(d).astype(np.float64) for d in shifts]
        spread = sum(w * float(d @ d) for w, d in zip(weights, wide, strict=True))
        error = _error(errors, units, spread, weights, total_error)
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
        stderr=None if stderrs is None else total_error(stderrs),
        half_width=None if widths is None else total_error(widths),
        flops=added(*(part.flops for part in parts)),
        status=_joined(doubts),
        n_samples=None if samples is None else sum(samples),
        expected_error=error,
        expected_std_error=max(stds) if (stds := known("expected_std_error")) else None,
        layer_variances=None if variances is None else _layer_variances(total, parts, layer_means),
        signs=None,
        third=None,
    )


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
    errors: Sequence[float],
    units: Sequence[float | None],
    spread: float,
    weights: Array,
    total_error: Callable[[Sequence[float]], float],
) -> float:
    """The expected error in output standard deviations of the mixture, or a bound of it.

    `errors` are in those of the components, whose output variances sum up to `units`; `spread` is
    the same sum for the variance between components. By Cauchy and Schwarz, the error is at most
    the root of the weighted mean of the squared `errors`.
    """
    known = [unit for unit in units if unit is not None]
    if len(known) < len(units):
        return sqrt(float(weights @ np.square(errors)))
    unit = float(weights @ np.array(known)) + spread
    error = total_error([error * sqrt(one) for error, one in zip(errors, known, strict=True)])
    return float(error) / sqrt(unit) if unit > 0 else 0.0


def _sum_of_variances(part: Estimate) -> float | None:
    if part.cov is not None:
        return float(np.maximum(np.diagonal(on_host(part.cov)), 0).sum(dtype=np.float64))
    return None if part.signs is None else part.signs.unit


def _layer_variances(
    total: Callable[[Sequence[Any]], Any], parts: Sequence[Estimate], means: Sequence[Array]
) -> tuple[Array, ...]:
    """The variances of neurons, by the law of total variance."""
    layers = [
        [variances[layer] + on_host(part.layer_means[layer] - mean).astype(np.float64) ** 2
         for part in parts if (variances := part.layer_variances)]
        for layer, mean in enumerate(means)
    ]  # fmt: skip
    return tuple(map(total, layers))
