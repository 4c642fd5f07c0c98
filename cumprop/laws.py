"""Laws of expected errors, written by `docs/calibrate.py` (docs/calibration.md)."""

from __future__ import annotations

QUANTILE = 2.4
"""Half widths are so many expected RMS errors."""
LAWS: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "order 1": (
        {"scale": 1.08, "nonlinear": 0.03, "neglected": 0.21},
        {"scale": 0.54},
    ),
    "order 2": (
        {"scale": 2.03, "step": 0.31, "bend": 0.39, "neglected": 0.58},
        {"scale": 2.63, "blur": 0.62, "nonlinear": 0.33},
    ),
    "order 3": (
        {"scale": 1.61, "step": 0.54, "bend": 0.47, "neglected": 0.6},
        {"scale": 2.14, "blur": 0.83, "nonlinear": 0.09},
    ),
    "order 3 tree": (
        {"scale": 1.14, "step": 0.69, "bend": 0.29, "neglected": 0.9},
        {"scale": 0.859, "blur": 0.52, "correction": 0.76},
    ),
    "order 4": (
        {"scale": 0.882, "step": 0.2, "bend": 0.54, "neglected": 0.63},
        {"scale": 2.7, "blur": 0.84, "correction": 0.7},
    ),
    "gaussian": (
        {"scale": 1.62, "step": 0.26, "bend": 0.44, "neglected": 0.51},
        {"scale": 2.53, "bend": 0.64, "nonlinear": 0.28},
    ),
    "linearized": (
        {"scale": 1.76, "nonlinear": 0.33, "neglected": 0.41},
        {"scale": 5.26, "nonlinear": 0.65},
    ),
    "unscented": (
        {"scale": 0.813, "nonlinear": 0.35, "neglected": 0.61},
        {"scale": 0.84, "nonlinear": 0.35},
    ),
}
"""Of the means and of the standard deviations: scale · Π sign^power."""
