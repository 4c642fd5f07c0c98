"""Forecasts of time against the seconds of the rows."""

from dataclasses import replace

import pytest

from cumprop.experiments.config import load
from cumprop.results import store
from cumprop.sweep.rates import measured
from cumprop.sweep.sweep import plan, run

pytestmark = pytest.mark.verify


def test_a_forecast_is_the_time_of_the_rows(record, tmp_path):
    """By FLOPs alone, narrow cells are off 1000-fold."""
    path = tmp_path / "test.yaml"
    path.write_text(
        "network: {width: [8, 128], depth: 4, seeds: 3}\ntruth: {n_samples: 2}\nestimators:\n"
        "  - {name: cumulant, order: [3, 4]}\n  - {name: monte_carlo, n_samples: 1e5}\n"
    )
    planned = replace(plan(load(path), "test"), truths=[])
    run(planned, tmp_path)
    seconds = store.read_rows(tmp_path).set_index("cell_key")["seconds"]
    rates = measured("float32")
    told = [cell for cell in planned.cells if cell.estimator == "cumulant" or cell.width == 128]
    ratios = {}
    for cell in told:
        ratios.setdefault(cell.label.partition(" seed=")[0], []).append(
            rates.seconds(cell.cost) / seconds[cell.key]
        )
    medians = [sorted(some)[1] for some in ratios.values()]
    assert len(medians) == 5
    record("forecast over measured seconds of orders 3 and 4 at widths 8 and 128 and of sampling",
           f"{min(medians):.2f} to {max(medians):.2f}", "within a factor of 3",
           all(1 / 3 < ratio < 3 for ratio in medians))  # fmt: skip
