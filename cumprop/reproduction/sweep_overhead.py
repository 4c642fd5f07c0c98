"""Overhead: the seconds of a sweep per cell beyond the estimator."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from cumprop.experiments.models import Config
from cumprop.results import store
from cumprop.sweep.engines import Place
from cumprop.sweep.sweep import plan, run

N_CELLS = 10_000
QUICK = 200


def measure(n_cells: int, workers: int, folder: Path) -> dict[str, Any]:
    """Sweep `n_cells` trivial cells, cumulants of order 1 at width 4, on `workers` processes.

    `overhead_seconds` are the seconds of a worker per cell beyond `estimator_seconds`: for the
    network, the second run that traces memory, the row, and the sweep itself. Files are written
    below `folder` and deleted. The workers are started before.
    """
    planned = replace(plan(_config(n_cells), "overhead"), truths=[])
    warm = replace(plan(_config(workers), "warm"), truths=[])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".overhead-") as below:
        results, place = Path(below), Place(workers=workers)
        run(warm, results, place)
        start = time.perf_counter()
        run(planned, results, place)
        seconds = time.perf_counter() - start
        estimator = float(store.read_rows(results / "overhead")["seconds"].mean())
    return {
        "n_cells": n_cells,
        "workers": workers,
        "seconds": seconds,
        "estimator_seconds": estimator,
        "overhead_seconds": seconds * workers / n_cells - estimator,
    }


def _config(seeds: int) -> Config:
    return Config.model_validate(
        {
            "network": {"width": 4, "depth": 1, "seeds": seeds},
            "truth": {"n_samples": 2},
            "estimators": [{"name": "cumulant", "order": 1}],
        }
    )
