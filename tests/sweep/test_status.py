"""Status: what is left and how long it takes, from files alone."""

import shutil

import pytest

from cumprop.experiments.config import load
from cumprop.results import store
from cumprop.sweep import status as status_module
from cumprop.sweep.status import _cell_seconds, status
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
    run(planned, tmp_path)
    return planned


def test_cells_left_run_at_the_speed_of_the_nearest():
    done = [{"flops": flops, "seconds": s} for flops, s in ((4e12, 100), (1e10, 1), (1e8, 0.1))]
    assert _cell_seconds([], done) == 0
    assert _cell_seconds([2 * 10**10], done) == pytest.approx(2)
    assert _cell_seconds([10**12, 10**13], done) == pytest.approx(25 + 250)
    assert _cell_seconds([10**8, 10**7], done) == pytest.approx(2 * (0.1 + 0.01))  # run twice
    assert _cell_seconds([4 * 10**10], done[1:2]) == pytest.approx(4)


def test_what_has_no_example_runs_at_the_speed_of_matrix_products(monkeypatch):
    monkeypatch.setattr(status_module, "_matmul_speed", lambda: 1e10)
    assert _cell_seconds([3 * 10**10], []) == pytest.approx(3)


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
