"""Measurements behind the claims on low probabilities (Figure 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cumprop.experiments.columns import USUAL
from cumprop.reproduction.verdicts import AGREES, DISAGREES, OPEN, Measurement
from cumprop.results.points import Point, label, records
from cumprop.results.scores import GROUP
from cumprop.results.tail_scores import relative_errors

if TYPE_CHECKING:
    import pandas as pd

N_SAMPLES = 5695
"""The number of samples with the FLOPs of the paper's order 3."""
RARE = 100
"""The paper's first claim is about probabilities 1/N divided by this number."""
SMALL = 0.3
"""The largest relative error that counts as small."""


def small_when_rare(scores: pd.DataFrame) -> Measurement:
    """The relative errors of order 3 and of the best estimator in the bucket of p = 1/(100 N)."""
    bucket = int(np.floor(np.log10(1 / (RARE * N_SAMPLES)) + 0.5))
    found = [row for row in _rows(scores) if row["bucket"] == bucket]
    points = [row for row in found if _is_usual(row, order=3)]
    if not points:
        return Measurement(f"no neurons at 1e{bucket}", OPEN)
    (point,) = points
    if not point["low"] <= point["high"]:
        return Measurement(f"{_words(point)} at 1e{bucket}: one network tells no interval", OPEN)
    best = min(found, key=lambda row: float(row["relative_error"]))
    text = f"at 1e{bucket}, {point['neurons']} neurons: {_words(point)}; best: {_words(best)}"
    return Measurement(text, AGREES if point["low"] < SMALL else DISAGREES)


def best_when_rare(scores: pd.DataFrame) -> Measurement:
    """The errors of order 3 and of the best way to sample N inputs, in all buckets below 1/N."""
    rows = [row for row in _rows(scores) if 10.0 ** row["bucket"] < 1 / N_SAMPLES]
    words, wins = [], []
    for bucket in sorted({row["bucket"] for row in rows}, reverse=True):
        inside = [row for row in rows if row["bucket"] == bucket]
        ours = [row for row in inside if _is_usual(row, order=3)]
        theirs = [row for row in inside if row["n_samples"] == N_SAMPLES]
        if ours and theirs:
            rival = min(theirs, key=lambda row: float(row["relative_error"]))
            wins.append(ours[0]["high"] < rival["low"])
            words.append(f"1e{bucket}: {_words(ours[0])} against {_words(rival)}")
    if not words:
        return Measurement("no bucket below 1/N", OPEN)
    return Measurement("; ".join(words), AGREES if all(wins) else DISAGREES)


def _rows(scores: pd.DataFrame) -> list[Point]:
    """The buckets in which most neurons have scores, of the paper's methods."""
    scores = scores[scores["estimator"].isin(["cumulant", "monte_carlo"])]
    rows = records(relative_errors(scores, GROUP))
    return [row for row in rows if row["neurons"] > 0 and row["neurons"] >= row["dropped"]]


def _is_usual(row: Point, order: int) -> bool:
    wanted = USUAL | {"estimator": "cumulant", "order": order}
    return all(row[name] == value for name, value in wanted.items())


def _words(row: Point) -> str:
    if row["estimator"] == "cumulant":
        name = label(row)
    else:
        name = f"{row['n_samples']:.0f} samples"
        if '"extrapolate": "none"' not in row["parameters"]:
            name += ", extrapolated"
    return f"{name} {row['relative_error']:.2g} ({row['low']:.2g} to {row['high']:.2g})"
