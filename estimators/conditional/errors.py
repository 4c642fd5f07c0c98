"""The expected error of an average over nodes, from the errors expected at each (mathematics §3.7)."""

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


def average(weights: Array, parts: Sequence[Estimate]) -> Array:
    """The weighted mean of the estimates, on the host."""
    mean: Array = weights @ np.stack([on_host(part.mean) for part in parts]).astype(np.float64)
    return mean


def with_errors(
    found: Estimate, weights: Array, parts: Sequence[Estimate], coarse: Array | None
) -> Estimate:
    """The average `found` of the parts with its expected errors and a status.

    Errors of different nodes may be alike, so that they add up; the distance from `coarse`, the
    mean by half as many nodes, is added, too.
    """
    known = [(part.signs, part.expected_error) for part in parts if part.signs is not None]
    if len(known) < len(parts) or any(error is None for _, error in known):
        return replace(found, status=parts[0].status)
    mean = on_host(found.mean).astype(np.float64)
    shifts = np.stack([on_host(part.mean) - mean for part in parts])
    squares = np.vecdot(shifts, shifts)
    units = np.array([signs.unit for signs, _ in known])
    distance = np.zeros_like(mean) if coarse is None else np.abs(mean - coarse)
    errors = np.array([error for _, error in known]) * np.sqrt(units)
    error = float(weights @ errors) + float(np.linalg.norm(distance))
    unit = float(weights @ (units + squares))
    std_error = None
    if found.expected_std_error is not None:
        stds = np.array([part.expected_std_error for part in parts])
        std_error = float(weights @ (stds * units)) + sqrt(weights @ squares) * error
        std_error = std_error / unit if unit > 0 else 0.0
    half_width = None if found.half_width is None else found.half_width + QUANTILE * distance
    return _judged(
        replace(
            found,
            half_width=half_width,
            expected_error=error / sqrt(unit) if unit > 0 else 0.0,
            expected_std_error=std_error,
        )
    )


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
