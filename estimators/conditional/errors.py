"""The expected error of an average over nodes, from those at each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import Estimate
from cumprop.contract.laws import QUANTILE
from cumprop.contract.printing import percent
from cumprop.contract.trust import LARGEST_ERROR, LARGEST_STD_ERROR
from cumprop.flops import on_host

Array = NDArray[Any]

ROUNDING = 16.0
"""Differences of means below this multiple of eps times the mean are rounding."""


def with_errors(
    found: Estimate,
    weights: Array,
    parts: Sequence[Estimate],
    plain: Estimate | None,
    trials: Sequence[Estimate],
) -> Estimate:
    """The average `found` of the parts with its expected errors and a status.

    Errors of nodes may be alike, so that they add up. Their sum is believed by half: the expected
    error is its geometric mean with the error of `plain`, the estimate without conditions, where
    that is larger. To it adds the error of the nodes, which `trials` show: the distance from one
    average over fewer nodes, or the standard error of averages over blocks of the nodes. Estimates
    without signs have no expected error.
    """
    everything = parts if plain is None else [plain, *parts]
    unknown = [part for part in everything if part.signs is None or part.expected_error is None]
    if plain is None or unknown:
        return replace(found, status=(unknown or parts)[0].status)
    assert plain.signs is not None and plain.expected_error is not None
    host = on_host(found.mean)
    mean = host.astype(np.float64)
    rounding = ROUNDING * float(np.finfo(host.dtype).eps) * np.abs(mean)
    shifts = np.stack([on_host(part.mean) - mean for part in parts])
    squares = np.square(np.where(np.abs(shifts) > rounding, shifts, 0)).sum(axis=1)
    units = np.array([part.signs.unit for part in parts if part.signs is not None])
    unit = float(weights @ (units + squares))
    errors = np.array([part.expected_error for part in parts])
    alike = float(weights @ (errors * np.sqrt(units)))
    doubt = sqrt(max(1, plain.expected_error * sqrt(plain.signs.unit) / alike)) if alike else 1.0
    distance = _scatter([on_host(trial.mean) for trial in trials], mean)
    distance = np.where(distance > rounding, distance, 0)
    error = doubt * alike + float(np.linalg.norm(distance))
    std_error = None
    if found.expected_std_error is not None:
        stds = np.array([part.expected_std_error for part in parts])
        changes = doubt * float(weights @ (stds * units)) + sqrt(weights @ squares) * error
        std_error = changes / unit if unit > 0 else 0.0
        sizes = _stds(found)
        if (sizes > rounding).any():
            change = _scatter([_stds(trial) for trial in trials], sizes)
            std_error += float(np.linalg.norm(change) / np.linalg.norm(sizes))
    half_width = None
    if found.half_width is not None:
        half_width = doubt * found.half_width + QUANTILE * distance
    return _judged(
        replace(
            found,
            half_width=half_width,
            expected_error=error / sqrt(unit) if unit > 0 else 0.0,
            expected_std_error=std_error,
        )
    )


def _scatter(trials: Sequence[Array], mean: Array) -> Array:
    """The distance of one trial from the mean, or the standard error of the mean of several."""
    squares = sum((np.square(trial - mean) for trial in trials), np.zeros_like(mean))
    distance: Array = np.sqrt(squares / max(1, len(trials) * (len(trials) - 1)))
    return distance


def _stds(found: Estimate) -> Array:
    variances = on_host(found.cov).diagonal().astype(np.float64)
    stds: Array = np.sqrt(np.maximum(variances, 0))
    return stds


def _judged(found: Estimate) -> Estimate:
    """The estimate with the status that its expected errors give."""
    reasons, error = [], found.expected_error
    if not np.isfinite(on_host(found.mean)).all() or error is None or not isfinite(error):
        error, reasons = inf, ["the numbers leave the range of their type"]
    elif error > LARGEST_ERROR:
        reasons = [f"means are expected to be {error:.1g} output s.d. off"]
    if found.expected_std_error is not None and found.expected_std_error > LARGEST_STD_ERROR:
        off = percent(found.expected_std_error)
        reasons.append(f"standard deviations are expected to be {off} off")
    status = f"unreliable: {'; '.join(reasons)}; take adaptive" if reasons else "ok"
    return replace(found, expected_error=error, status=status)
