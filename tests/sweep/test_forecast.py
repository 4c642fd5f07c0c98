"""Forecasts: FLOPs, bytes and minutes of a sweep before it runs.

That the minutes are those of a clock is in tests/verify/test_forecast.py.
"""

import pytest

from cumprop.contract import Cost
from cumprop.flops import Work
from cumprop.sweep import forecast as forecast_module
from cumprop.sweep.forecast import forecast, overview
from cumprop.sweep.rates import SECONDS_PER_CELL, Rates


@pytest.mark.slow
def test_forecast(experiment):
    planned = experiment([{"name": "toy", "bytes": 5}, {"name": "toy", "value": 2}])
    rows = forecast(planned, workers=2)
    assert [(row["what"], row["depth"], row["cells"], row["bytes"]) for row in rows] == [
        ("toy n_samples=3 bytes=5", 1, 2, 5),
        ("toy value=2.0 n_samples=3", 1, 2, 0),
        ("toy n_samples=3 bytes=5", 2, 2, 5),
        ("toy value=2.0 n_samples=3", 2, 2, 0),
        ("truth n_samples=1000", 2, 2, None),
    ]
    assert rows[-1]["flops"] == 1000 * (3 * 2 * 4**2 + 2 * 4)
    assert all(row["minutes"] > 0 for row in rows)


def test_forecast_by_hand(experiment, monkeypatch):
    rates = Rates(sampling=1e9, products=1e10, entrywise=1e8, large=1e7, call=1e-3)
    monkeypatch.setattr(forecast_module, "measured", lambda dtype, workers: rates)
    assert rates.seconds(Cost(2 * 10**9, 0)) == pytest.approx(2)
    work = Work(calls=500, products=10**10, entrywise=10**8, large=10**7)
    assert rates.seconds(Cost(10**10 + 10**7 + 10**8, 0, work)) == pytest.approx(0.5 + 1 + 1 + 1)
    both = Cost(10**10 + 10**7 + 10**8, 0, work) + Cost(2 * 10**9, 0)
    assert rates.seconds(both) == pytest.approx(3.5 + 2)
    planned = experiment([{"name": "toy"}])  # of 1e10 FLOPs, run once
    rows = forecast(planned, workers=2)
    assert rows[0]["minutes"] == pytest.approx(2 * (10 + SECONDS_PER_CELL) / 2 / 60)
    truths = sum(task.flops for task in planned.truths) / 1e9
    (row,) = overview([planned], workers=2)
    expected = (4 * (10 + SECONDS_PER_CELL) + truths) / 2 / 60
    assert row["minutes"] == pytest.approx(expected)
    small = experiment([{"name": "cumulant", "order": 1}]).cells[0]
    twice = 2 * rates.seconds(small.cost) + SECONDS_PER_CELL
    assert rates.cell_seconds(small.cost) == pytest.approx(twice)
