"""Cells: what a config asks for, each once, under a key of what determines its numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

import cumprop
from cumprop import contract
from cumprop.experiments.config import load, read
from cumprop.experiments.grid import cells

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
SWEEPS = [path for path in CONFIGS if read(path).child("command") is None]


class TestCells:
    def test_the_grid(self, experiment):
        planned = experiment(
            [{"name": "toy", "value": [1, 2], "tolerance": [0.1, 0.5], "repeats": 3}],
            "network.width=[4, 8]",
        )
        # width × depth × value × tolerance × seed × repeat
        assert len(planned.cells) == 2 * 2 * 2 * 2 * 2 * 3
        assert len({cell.key for cell in planned.cells}) == len(planned.cells)
        assert {cell.parameters["n_samples"] for cell in planned.cells} == {100, 4}
        assert len(planned.truths) == 2 * 2
        assert {task.spec.depth for task in planned.truths} == {2}

    def test_a_cell_listed_twice_runs_once(self, experiment):
        assert len(experiment([{"name": "toy"}, {"name": "toy", "value": 1}]).cells) == 4

    def test_keys_follow_what_determines_the_numbers(self, experiment):
        def keys(*sets, **parameters):
            planned = experiment([{"name": "toy", **parameters}], *sets)
            return {cell.key for cell in planned.cells}

        first = keys()
        assert keys() == first
        assert keys("truth.n_samples=9e3", "truth.design=iid") == first
        assert keys("network.depth=[1, 2, 3]") > first
        for changed in (
            keys(value=2),
            keys("network.dtype=float32"),
            keys("network.init=critical"),
            keys("network.activation=abs"),
            keys("network.readout=pre"),
            keys(tolerance=0.5),
        ):
            assert not changed & first

    def test_a_new_version_is_a_new_cell(self, experiment, monkeypatch):
        first = {cell.key for cell in experiment([{"name": "toy"}]).cells}
        monkeypatch.setattr(contract.get("toy"), "version", 2)
        assert not first & {cell.key for cell in experiment([{"name": "toy"}]).cells}

    @pytest.mark.parametrize("readout", ["output", "pre", "post"])
    def test_the_network_is_a_prefix_that_ends_at_the_readout(self, experiment, readout):
        deep = cumprop.random_mlp(4, 2, seed=1, dtype="float64")
        planned = experiment([{"name": "toy"}], f"network.readout={readout}")
        cell = next(c for c in planned.cells if (c.depth, c.seed) == (2, 1))
        expected = deep.prefix(1) if readout == "pre" else deep
        np.testing.assert_array_equal(cell.network().weights, expected.weights)
        assert cell.network().shape == cell.shape

    def test_labels_show_what_is_special(self, experiment):
        (cell, *_) = experiment([{"name": "toy", "value": 2, "tolerance": 0.5}]).cells
        assert cell.label == "toy value=2.0 n_samples=4 tolerance=0.5 width=4 depth=1 seed=0"


def test_a_network_and_an_estimator_that_are_listed_twice_are_one_cell(tmp_path):
    path = tmp_path / "test.yaml"
    path.write_text(
        "network: {width: [4, 8], depth: [1, 2], seeds: 2}\ntruth: {n_samples: 100}\n"
        "estimators: [{name: cumulant, order: [1, 2, 3]}, {name: monte_carlo, repeats: 2},\n"
        "  {name: cumulant, order: 2}]\n"
    )
    assert len(cells(load(path), "test")) == 2 * 2 * 2 * (3 + 2)


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_shipped_cells_differ_in_what_they_compute(path, scale):
    """No two cells of a shipped config agree in every column of a row but the key."""
    found = cells(load(path, scale), path.stem)
    contents = {json.dumps(cell.columns() | {"cell_key": None}, sort_keys=True) for cell in found}
    assert len(found) == len({cell.key for cell in found}) == len(contents) > 0
