"""Laws of expected errors, written by `docs/calibrate.py` (docs/calibration.md)."""

from __future__ import annotations

QUANTILE = 2.4
LAWS: dict[str, tuple[dict[str, float], dict[str, float]]] = dict.fromkeys(
    (
        "order 1",
        "order 2",
        "order 3",
        "order 3 tree",
        "order 4",
        "gaussian",
        "linearized",
        "unscented",
    ),
    ({"scale": 1.0, "step": 0.5, "bend": 0.5}, {"scale": 1.0, "blur": 1.0}),
)
