"""Laws of expected errors, written by `docs/calibrate.py` (docs/calibration.md)."""

from __future__ import annotations

QUANTILE = 2.8
"""Half widths are so many expected RMS errors."""
LAWS: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "order 1": (
        {"scale": 0.262},
        {"scale": 0.54},
    ),
    "order 2": (
        {"scale": 1.64, "step": 0.3, "bend": 0.16, "moved": 0.84},
        {"scale": 2.59, "blur": 0.62, "nonlinear": 0.33},
    ),
    "order 3": (
        {"scale": 1.57, "step": 0.53, "bend": 0.43, "moved": 0.64},
        {"scale": 2.22, "blur": 0.84, "nonlinear": 0.09, "spread": 0.02},
    ),
    "order 3 tree": (
        {"scale": 1.11, "step": 0.68, "bend": 0.28, "moved": 0.91},
        {"scale": 0.861, "blur": 0.47, "spread": 0.84},
    ),
    "order 4": (
        {"scale": 0.876, "step": 0.2, "bend": 0.53, "moved": 0.64},
        {"scale": 2.4, "blur": 0.84, "spread": 0.69},
    ),
    "gaussian": (
        {"scale": 1.41, "step": 0.21, "bend": 0.35, "moved": 0.63},
        {"scale": 2.6, "bend": 0.64, "nonlinear": 0.29},
    ),
    "linearized": (
        {"scale": 1.79, "nonlinear": 0.24, "neglected": 0.54},
        {"scale": 5.64, "nonlinear": 0.7},
    ),
    "unscented": (
        {"scale": 0.549, "nonlinear": 0.31, "neglected": 0.69},
        {"scale": 0.866, "nonlinear": 0.44},
    ),
}
"""Of the means and of the standard deviations: scale · Π sign^power."""
