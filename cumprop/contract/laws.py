"""Laws of expected errors, written by `docs/calibrate.py` (docs/calibration.md)."""

from __future__ import annotations

QUANTILE = 2.3
"""The half width of a 95% interval, in expected RMS errors."""
LAWS: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "order 1": ({"scale": 0.264}, {"scale": 0.987}),
    "order 2": (
        {"scale": 1.32, "step": 0.22, "bend": 0.05, "moved": 0.83},
        {"scale": 1.4, "blur": 0.34, "nonlinear": 0.52, "spread": 0.26},
    ),
    "order 3": (
        {"scale": 0.868, "step": 0.55, "bend": 0.2, "moved": 0.74},
        {"scale": 0.909, "blur": 0.64, "nonlinear": 0.22},
    ),
    "order 3 tree": (
        {"scale": 0.748, "step": 0.75, "bend": 0.03, "moved": 1.09},
        {"scale": 0.451, "blur": 0.31, "spread": 0.94},
    ),
    "order 4": (
        {"scale": 0.596, "step": 0.48, "bend": 0.29, "moved": 0.79},
        {"scale": 1.18, "blur": 0.73, "spread": 0.66},
    ),
    "gaussian": (
        {"scale": 0.899, "step": 0.13, "bend": 0.2, "moved": 0.69},
        {"scale": 1.07, "bend": 0.51, "nonlinear": 0.45},
    ),
    "linearized": (
        {"scale": 1.17, "nonlinear": 0.21, "neglected": 0.62},
        {"scale": 5.1, "nonlinear": 0.53, "spread": 0.58},
    ),
    "unscented": (
        {"scale": 0.605, "nonlinear": 0.31, "neglected": 0.61},
        {"scale": 1.21, "nonlinear": 0.48, "spread": 0.18},
    ),
}
"""The expected error of the means, and of the standard deviations: scale · Π sign^power."""
