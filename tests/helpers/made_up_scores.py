"""Scores of the right order of magnitude, for figures."""

import numpy as np
import pandas as pd

from cumprop.results.scores import GROUP


def table(seeds=5, depths=(4,), orders=(1, 2, 3), **changes):
    """Made-up scores of the right order of magnitude: one row per estimator and seed."""
    rng = np.random.default_rng(0)
    estimators = [
        *({"estimator": "monte_carlo", "design": "iid", "n_samples": n, "vn": 1 / n,
           "flops": 660_000 * n} for n in (11, 111, 1111, 11111)),
        *({"estimator": "monte_carlo", "design": "orthogonal", "n_samples": n, "vn": 0.2 / n,
           "flops": 860_000 * n} for n in (512, 5120)),
        {"estimator": "gaussian", "vn": 4e-5, "flops": 3e9},
        *({"estimator": "cumulant", "kind": "basic", "order": order,
           "vn": 4e-5 * 80.0 ** (2 - order), "flops": [1e6, 2e8, 1e9, 3e11][order - 1]}
          for order in orders),
        {"estimator": "cumulant", "kind": "augmented", "order": 2, "vn": 1.1e-5, "flops": 8e8},
    ]  # fmt: skip
    rows = []
    for depth in depths:
        for seed in range(seeds):
            for estimator in estimators:
                variance, vn = 0.3 * np.exp(rng.normal(0, 0.1)), estimator["vn"]
                mse = vn * variance * np.exp(rng.normal(0, 0.2))
                rows.append(
                    dict.fromkeys(GROUP)
                    | {"config": "made_up", "width": 256, "depth": depth, "readout": "output"}
                    | {"activation": "relu", "init": "he", "dtype": "float32", "seed": seed}
                    | {"truth_design": "orthogonal", "truth_n_samples": 4_000_000, "n_groups": 16}
                    | {"truth_gain": 0.2, "flops_convention": "executed-1", "conditions": "here"}
                    | {"seconds": 1.0, "outcome": "done", "note": None, "status": "ok"}
                    | dict.fromkeys(
                        ("expected_error", "noise_low", "noise_high", "resolved"), np.nan
                    )
                    | {"mse": mse, "variance": variance}
                    | {"mse_se": 0.3 * np.sqrt(variance * mse) * 1e-3}
                    | {name: value for name, value in estimator.items() if name != "vn"}
                )
    return pd.DataFrame(rows).assign(**changes).astype({"order": float, "n_samples": float})
