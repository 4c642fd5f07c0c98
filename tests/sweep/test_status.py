"""Status: what is left and how long it takes, from files alone."""

import shutil

import pytest

from cumprop.experiments.config import load
from cumprop.results import store
from cumprop.sweep import status as status_module
from cumprop.sweep.engines import Place
from cumprop.sweep.rates import Rates
from cumprop.sweep.status import status
from cumprop.sweep.sweep import plan, remaining, run

CONFIG = """\
network: {width: 4, depth: 1, seeds: 2}
truth: {n_samples: 2}
estimators: [{name: cumulant, order: [1, 2]}, {name: monte_carlo, n_samples: 1000}]
"""


@pytest.fixture
def swept(tmp_path):
    path = tmp_path / "test.yaml"
    path.write_text(CONFIG)
    planned = plan(load(path), "test")
    run(planned, tmp_path, Place(workers=1))
    return planned


def test_what_is_left_takes_as_much_longer_as_what_is_done(swept, tmp_path, monkeypatch):
    rates = Rates(sampling=1e9, products=1e9, entrywise=1e8, large=1e8, call=1e-6)
    monkeypatch.setattr(status_module, "measured", lambda dtype: rates)
    folder = tmp_path / "test"
    (gone, *kept) = swept.cells
    (folder / "parts" / f"{gone.key}.parquet").unlink()
    took = store.read_rows(folder)["seconds"].sum()
    factor = took / sum(rates.seconds(cell.cost) for cell in kept)
    seconds = factor * rates.cell_seconds(gone.cost)
    assert status(folder).minutes == pytest.approx(seconds / 60)


def test_without_an_example_rates_alone_tell(swept, tmp_path, monkeypatch):
    rates = Rates(sampling=1e9, products=1e9, entrywise=1e8, large=1e8, call=1e-6)
    monkeypatch.setattr(status_module, "measured", lambda dtype: rates)
    for part in (tmp_path / "test" / "parts").iterdir():
        part.unlink()
    for truth in (tmp_path / "truth").rglob("*.npz"):
        truth.unlink()
    seconds = sum(rates.cell_seconds(cell.cost) for cell in swept.cells)
    seconds += sum(task.flops for task in swept.truths) / rates.sampling
    assert status(tmp_path / "test").minutes == pytest.approx(seconds / 60)


def test_a_sweep_half_way(swept, tmp_path):
    found = status(tmp_path / "test")
    assert (found.done, found.failed, found.left, found.sampled) == (6, 0, 0, 1.0)
    assert found.minutes == 0
    (gone, *_) = swept.cells
    (tmp_path / "test" / "parts" / f"{gone.key}.parquet").unlink()
    shutil.rmtree(tmp_path / "truth" / swept.truths[0].spec.key)
    found = status(tmp_path / "test")
    assert (found.done, found.left, found.sampled) == (5, 1, 0.5)
    assert found.minutes > 0
    (left,) = remaining([swept], tmp_path)
    assert (left.cells, len(left.truths)) == ([gone], 1)
    assert left.truths[0].n_samples == left.truths[0].spec.chunk_samples


def test_a_plan_without_its_work_says_less(swept, tmp_path):
    store.write_plan(tmp_path / "test", ["a", *(cell.key for cell in swept.cells)])
    found = status(tmp_path / "test")
    assert (found.left, found.sampled, found.minutes) == (1, None, None)
