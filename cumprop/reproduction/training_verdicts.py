"""Measurements behind the claims on distillation: how far the true loss falls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from cumprop.reproduction.verdicts import AGREES, DISAGREES, OPEN, Measurement, times

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]

WIDTH = 16
"""The paper's teacher; its student has half the width."""
FALL = 5.0
"""A true loss that falls so many times has been trained."""
SLIGHTLY = 3.0
"""A loss up to so many times that of SGD is slightly worse."""


def trains(runs: pd.DataFrame) -> Measurement:
    """Loss at the start over loss at the end, of order 2 and of SGD at as many FLOPs."""
    falls = {name: _log_losses(runs, method) for method, name in _METHODS.items()}
    intervals = {name: _interval(start - end) for name, (start, end) in falls.items()}
    if not all(map(np.isfinite, (x for ends in intervals.values() for x in ends))):
        return _UNKNOWN
    text = "; ".join(f"{name} {_times(*ends)}" for name, ends in intervals.items())
    trained = all(high >= np.log(FALL) for _, _, high in intervals.values())
    return Measurement(text, AGREES if trained else DISAGREES)


def nears_sgd(runs: pd.DataFrame) -> Measurement:
    """Final loss of order 2 over that of SGD, network by network."""
    (_, ours), (_, theirs) = (_log_losses(runs, method) for method in _METHODS)
    middle, low, high = _interval(ours - theirs)
    if not np.isfinite([low, high]).all():
        return _UNKNOWN
    meets = low <= np.log(SLIGHTLY) and high >= 0
    text = f"{_times(middle, low, high)} the loss of SGD"
    return Measurement(text, AGREES if meets else DISAGREES)


_UNKNOWN = Measurement("a run diverged, or one network tells no interval", OPEN)
_METHODS = {"cumulant": "K=2", "sgd": "SGD"}


def _log_losses(runs: pd.DataFrame, method: str) -> tuple[Array, Array]:
    """Logarithms of the true loss at start and end, by seed; nan for a run that diverged."""
    chosen = runs[_shape(runs) & (runs["method"] == method)].sort_values("seed")
    ends = chosen["true_loss"].str[-1].where(chosen["status"] == "ok")
    return np.log(chosen["true_loss"].str[0].to_numpy(float)), np.log(ends.to_numpy(float))


def _shape(runs: pd.DataFrame) -> Any:
    return (runs["width"] == WIDTH) & (runs["student_width"] == WIDTH // 2) & (runs["order"] == 2)


def _interval(logs: Array) -> tuple[float, float, float]:
    """Mean of logarithms over seeds with its 95% t-interval."""
    n = logs.size
    if n < 2 or not np.isfinite(logs).all():
        return np.nan, np.nan, np.nan
    half_width = stdtrit(n - 1, 0.975) * logs.std(ddof=1) / np.sqrt(n)
    middle = logs.mean()
    return float(middle), float(middle - half_width), float(middle + half_width)


def _times(*logs: float) -> str:
    middle, low, high = (times(np.exp(x)) for x in logs)
    return f"{middle} ({low} to {high})"
