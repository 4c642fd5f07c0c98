"""Laws of expected errors, written by `docs/calibrate.py` (docs/calibration.md)."""

from __future__ import annotations

QUANTILE = 2.6
"""The half width of a 95% interval, in expected RMS errors."""
LAWS: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "order 1": ({"scale": 0.263}, {"scale": 0.735}),
    "order 2": (
        {"scale": 1.15, "step": 0.21, "moved": 0.92},
        {"scale": 1.26, "blur": 0.31, "nonlinear": 0.47, "spread": 0.25},
    ),
    "order 3": (
        {"scale": 0.979, "step": 0.47, "bend": 0.19, "moved": 0.85},
        {"scale": 0.955, "blur": 0.69, "nonlinear": 0.2},
    ),
    "order 3 tree": (
        {"scale": 0.875, "step": 0.68, "bend": 0.11, "moved": 1.07},
        {"scale": 0.419, "blur": 0.3, "spread": 0.98},
    ),
    "order 4": (
        {"scale": 0.74, "step": 0.21, "bend": 0.34, "moved": 0.8},
        {"scale": 1.1, "blur": 0.77, "spread": 0.57},
    ),
    "gaussian": (
        {"scale": 0.879, "step": 0.08, "bend": 0.24, "moved": 0.7},
        {"scale": 1.32, "bend": 0.52, "nonlinear": 0.41},
    ),
    "linearized": (
        {"scale": 1.3, "nonlinear": 0.25, "neglected": 0.63},
        {"scale": 6.25, "nonlinear": 0.57, "spread": 0.58},
    ),
    "unscented": (
        {"scale": 0.671, "nonlinear": 0.46, "neglected": 0.54},
        {"scale": 1.27, "nonlinear": 0.41, "spread": 0.25},
    ),
}
"""The expected error of the means, and of the standard deviations: scale · Π sign^power."""
