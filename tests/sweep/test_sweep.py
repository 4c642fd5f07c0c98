"""Sweeps: every cell once, whatever is killed, repeated, run twice or failing."""

import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from helpers.harness import TOY, write_config

import cumprop
from cumprop.contract import get, load_plugin, shape_only_network
from cumprop.contract.plugins import temporary_plugins
from cumprop.experiments import columns
from cumprop.experiments.config import load
from cumprop.flops import TooLarge, arena
from cumprop.networks import Shape
from cumprop.results import store, verification
from cumprop.sampling import sample
from cumprop.sweep.engines import Outcome, Place
from cumprop.sweep.forecast import overview
from cumprop.sweep.progress import Progress
from cumprop.sweep.run_cell import borrow, run_cell
from cumprop.sweep.sweep import Plan, plan, run, run_all, shared

CLAIMS = """half_width=np.full(network.widths[-1], 0.5), expected_error=0.25,
    expected_std_error=0.125, n_samples=3, status="unreliable: a; take b")"""


def contents(parts):
    return {path.name: path.read_bytes() for path in parts.glob("*.parquet")}


class TestRows:
    def test_a_row_says_it_all(self, experiment, tmp_path):
        planned = experiment([{"name": "toy", "tolerance": 0.5, "repeats": 2}])
        summary = run(planned, tmp_path)
        assert (summary.computed, summary.kept, summary.failed) == (8, 0, [])
        rows = store.read_rows(tmp_path)
        assert set(rows["cell_key"]) == {cell.key for cell in planned.cells}
        assert set(rows["repeat"]) == {0, 1}
        row = rows.iloc[0]
        assert json.loads(row["parameters"])["n_samples"] == row["n_samples"] == 4
        assert json.loads(row["flops_components"]) == {"toy": 10}
        assert (row["flops"], row["status"], row["threads"], row["workers"]) == (10, "ok", 1, 1)
        assert row["mean"].shape == (4,)
        assert row["stderr"] is None
        assert list((tmp_path / "truth" / row["truth_key"]).glob("*.npz"))
        never_null = set(columns.SCHEMA.names) - {
            "order", "kind", "algorithm", "metric", "truncation", "design", "stderr",
            "half_width", "expected_error", "expected_std_error", "git_revision", "peak_bytes",
            "note",
        }  # fmt: skip
        assert rows[sorted(never_null)].notna().all(axis=None)

    def test_rows_carry_what_an_estimate_says_of_its_errors(self, tmp_path):
        text = TOY.replace("n_samples=self.n_samples)", CLAIMS).replace('"toy"', '"claiming"')
        (tmp_path / "claiming.py").write_text(text)
        with temporary_plugins():
            load_plugin(tmp_path / "claiming.py")
            for readout, known in (("output", True), ("pre", True), ("post", False)):
                write_config(tmp_path / "test.yaml", [{"name": "claiming"}], readout=readout)
                run(plan(load(tmp_path / "test.yaml"), "test"), tmp_path / readout)
                (row,) = store.read_folder(tmp_path / readout / "test")
                assert row["half_width"] == ([0.5] * 4 if known else None)
                assert row["expected_error"] == (0.25 if known else None)
                assert row["expected_std_error"] == (0.125 if known else None)
                assert row["status"] == "unreliable: a; take b"
            assert verification.verify(tmp_path / "output" / "test") == (1, [])

    def test_rows_of_tails_that_are_not_sampled_are_unreliable(self, experiment, tmp_path):
        estimators = [{"name": "cumulant", "order": 2}, {"name": "monte_carlo", "n_samples": 64}]
        run(experiment(estimators, "network.readout=tail(1)", "truth.design=importance"), tmp_path)
        rows = store.read_rows(tmp_path)
        for name, doubted in (("cumulant", True), ("monte_carlo", False)):
            status = rows.loc[rows["estimator"] == name, "status"]
            assert (status.str.startswith("unreliable: a tail probability") == doubted).all()

    def test_random_streams_belong_to_seed_width_and_repeat(self, experiment, tmp_path):
        run(experiment([{"name": "toy", "repeats": 2}]), tmp_path)
        rows = store.read_rows(tmp_path)
        for (seed, repeat), group in rows.groupby(["seed", "repeat"]):
            noise = cumprop.streams.sampling(seed, 4, repeat).random()
            for mean in group["mean"]:
                np.testing.assert_array_equal(mean, np.full(4, 1.0) + noise)

    def test_post_takes_the_last_layer_means(self, experiment, tmp_path):
        run(experiment([{"name": "toy"}], "network.readout=post"), tmp_path)
        assert all(np.all(mean == 7.0) for mean in store.read_rows(tmp_path)["mean"])

    @pytest.mark.slow
    def test_workers_do_not_change_the_numbers(self, experiment, toy, tmp_path):
        planned = experiment([{"name": "toy", "value": [1, 2, 3]}])
        run(planned, tmp_path / "one")
        run(planned, tmp_path / "two", Place(workers=2), plugins=[toy])
        one, two = (
            store.read_rows(tmp_path / n).set_index("cell_key")["mean"] for n in ("one", "two")
        )
        assert len(one) == 12
        for key in one.index:
            np.testing.assert_array_equal(one[key], two[key])


class TestSharing:
    """Experiments side by side: nothing is sampled or estimated twice."""

    def test_truths_are_merged_into_the_most_demanding(self, experiment):
        one = experiment([{"name": "toy"}])
        deep = replace(experiment([{"name": "toy"}], "network.depth=3"), name="deep")
        large = replace(experiment([{"name": "toy"}], "truth.n_samples=5e3"), name="large")
        merged = shared([one, deep, large])
        assert [len(plan.truths) for plan in merged] == [2, 0, 0]
        assert {(task.spec.depth, task.n_samples) for task in merged[0].truths} == {(3, 5000)}

    def test_cells_are_borrowed_under_the_same_conditions_only(self, experiment, tmp_path):
        one = experiment([{"name": "toy"}])
        cells = [replace(cell, config="other") for cell in one.cells]
        summaries = run_all(shared([one, Plan("other", cells, one.truths)]), tmp_path)
        assert [summary.computed for summary in summaries] == [4, 4]
        rows = store.read_rows(tmp_path).set_index(["config", "cell_key"])
        first, second = rows.loc["test"], rows.loc["other"]
        assert first["seconds"].equals(second["seconds"].reindex(first.index))
        cell = one.cells[0]
        assert not borrow(cell, tmp_path / "third" / "parts", workers=2)
        assert borrow(cell, tmp_path / "third" / "parts", workers=1)

    def test_an_experiment_says_how_many_workers_its_cells_have(self, experiment, tmp_path):
        one = experiment([{"name": "cumulant", "order": 1}], "workers=1")
        run(one, tmp_path, Place(workers=2))
        assert set(store.read_rows(tmp_path)["workers"]) == {1}

    def test_large_cells_are_left_out(self, experiment):
        estimators = [{"name": "toy", "bytes": 5}, {"name": "toy", "bytes": 50}]
        planned = experiment(estimators, "most_bytes=10")
        assert {cell.parameters["bytes"] for cell in planned.cells} == {5}
        assert planned.left_out == len(planned.cells) == 4

    def test_shards_are_the_whole_and_disjoint(self, experiment, tmp_path):
        planned = experiment([{"name": "toy", "value": [1, 2]}])
        shards = [planned.shard(number, 3) for number in (1, 2, 3)]
        keys = [cell.key for shard in shards for cell in shard.cells]
        assert sorted(keys) == sorted(cell.key for cell in planned.cells)
        blocks = [b for shard in shards for task in shard.truths for b in task.blocks(tmp_path)]
        assert sorted(b.spec.key for b in blocks) == sorted(t.spec.key for t in planned.truths)

    @pytest.mark.slow
    def test_an_overview_counts_shared_work_once(self, experiment):
        one = experiment([{"name": "toy"}])
        alone, again, serial = overview(
            [one, replace(one, name="again"), replace(one, name="serial", workers=1)], workers=2
        )
        assert (alone["cells"], alone["truths"]) == (4, 2)
        assert (again["minutes"], again["truths"]) == (0, 0)
        assert serial["minutes"] > 0

    def test_progress_follows_truths_in_their_files(self, experiment, tmp_path):
        one = experiment([{"name": "toy"}], "truth.n_samples=1e6")
        first, second = (block for task in one.truths for block in task.blocks(tmp_path))
        with Progress([first, second], one.cells, tmp_path) as progress:
            assert progress.bar.n == 0
            sample(tmp_path / "truth", replace(first, chunks=1))
            progress.follow()
            assert progress.bar.n == first.flops_of(1) == first.flops / 8
            progress.finish("test", first, Outcome("truth"))
            assert progress.bar.n == first.flops
            progress.finish("test", one.cells[0], Outcome("cell"))
            assert progress.bar.n == first.flops + 10**10


class TestPlanning:
    """Costs are predicted for what is to be computed, and for nothing else."""

    @pytest.fixture
    def asked(self, toy, monkeypatch):
        """The shapes that costs were predicted for."""
        asked = []
        cls = get("toy")
        predict = cls.predict_cost
        monkeypatch.setattr(
            cls, "predict_cost", lambda self, shape: asked.append(shape) or predict(self, shape)
        )
        return asked

    def test_what_is_stored_is_not_predicted(self, experiment, asked, tmp_path):
        def again(*sets):
            experiment([{"name": "toy", "bytes": 5}], *sets)
            asked.clear()
            planned = plan(load(tmp_path / "test.yaml", sets=sets), "test", tmp_path)
            return run(planned, tmp_path).kept, len(asked)

        run(experiment([{"name": "toy", "bytes": 5}], "most_bytes=10"), tmp_path)
        assert asked
        before = (tmp_path / "test" / "plan.json").read_bytes()
        assert again("most_bytes=10") == (4, 0)
        assert (tmp_path / "test" / "plan.json").read_bytes() == before
        assert again("most_bytes=3") == (4, 0)  # kept, however large
        (tmp_path / "test" / "plan.json").unlink()  # no word of their costs
        assert again("most_bytes=10") == (4, 4)
        assert (tmp_path / "test" / "plan.json").read_bytes() == before
        next((tmp_path / "test" / "parts").glob("*.parquet")).unlink()
        kept, predicted = again("most_bytes=10")
        assert kept == 3 and predicted >= 1

    def test_equal_cells_are_asked_once(self, experiment, asked):
        planned = experiment([{"name": "toy", "bytes": 50}], "most_bytes=10", "network.seeds=9")
        assert (planned.left_out, len(asked)) == (2 * 9, 2)

    def test_too_large_is_known_early(self):
        shape = Shape((16,) * 6, ("relu",) * 4)
        one = cumprop.contract.build("cumulant", order=4)
        needed = one.predict_cost(shape).bytes
        calls = []
        for most in (needed, needed - 1, needed // 10):
            type(one).predict_cost.cache_clear()
            with arena(at_most=most) as memory, suppress(TooLarge):
                one.estimate(shape_only_network(shape))
            calls.append(memory.calls)
            assert (memory.peak > most) == (most < needed)
        assert calls[0] > calls[1] > calls[2]


class TestFailures:
    @pytest.mark.slow
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("parameters", "sets", "reason"),
        [
            ({"value": -1}, (), "ValueError: value is negative"),
            ({}, ("network.width=7",), "no toys for width 7; take 8"),
            ({"bytes": 10**16}, (), "needs 10000000.0 GB"),
            ({"value": float("nan")}, (), "4 of 4 means are not finite"),
            ({"value": float("inf")}, (), "4 of 4 means are not finite"),
        ],
    )
    def test_a_failing_cell_is_a_row_with_a_reason(
        self, experiment, tmp_path, parameters, sets, reason
    ):
        planned = experiment(
            [{"name": "toy", **parameters}, {"name": "cumulant", "order": 1}], *sets
        )
        summary = run(planned, tmp_path)
        assert (summary.computed, len(summary.failed)) == (4, 4)
        rows = store.read_rows(tmp_path).set_index("estimator")
        assert all(note.startswith(reason) for note in rows.loc["toy", "note"])
        assert set(rows.loc["toy", "outcome"]) == {"failed"}
        assert rows.loc["toy", "status"].isna().all()
        assert rows.loc["toy", "mean"].isna().all()
        assert rows.loc["toy", "flops"].isna().all()
        assert set(rows.loc["cumulant", "outcome"]) == {"done"}
        assert rows.loc["cumulant", "note"].isna().all()

    def test_failed_cells_are_tried_again(self, experiment, tmp_path, monkeypatch):
        planned = experiment([{"name": "toy", "value": [1, -1]}])
        assert len(run(planned, tmp_path).failed) == 4
        monkeypatch.setenv("TOY_HEALED", "1")
        summary = run(planned, tmp_path)
        assert (summary.computed, summary.kept, summary.failed) == (4, 4, [])
        assert (store.read_rows(tmp_path)["status"] == "ok").all()

    def test_a_failing_truth_is_reported(self, experiment, tmp_path):
        (tmp_path / "truth").write_text("a file where the folder should be")
        summary = run(experiment([{"name": "toy"}]), tmp_path)
        assert summary.computed == 4
        labels = [outcome.label for outcome in summary.failed]
        assert len(labels) == 2 and all(label.startswith("truth width 4") for label in labels)


class TestResuming:
    def test_nothing_is_computed_twice(self, experiment, tmp_path):
        planned = experiment([{"name": "toy", "value": [1, 2]}])
        run(planned, tmp_path)
        before = contents(tmp_path / "test" / "parts")
        summary = run(planned, tmp_path)
        assert (summary.computed, summary.kept) == (0, 8)
        assert contents(tmp_path / "test" / "parts") == before

    def test_a_damaged_part_is_computed_anew(self, experiment, tmp_path, capsys):
        planned = experiment([{"name": "toy"}])
        run(planned, tmp_path)
        damaged = tmp_path / "test" / "parts" / f"{planned.cells[0].key}.parquet"
        damaged.write_bytes(b"half a fi")
        assert run(planned, tmp_path).computed == 1
        assert "damaged" in capsys.readouterr().err
        assert len(store.read_rows(tmp_path)) == 4

    @pytest.mark.slow
    def test_better_truth_costs_no_estimates(self, experiment, tmp_path):
        run(experiment([{"name": "toy"}]), tmp_path)
        before = store.read_rows(tmp_path)
        summary = run(experiment([{"name": "toy"}], "truth.n_samples=3000"), tmp_path)
        after = store.read_rows(tmp_path)
        assert (summary.computed, summary.kept) == (0, 4)
        assert set(after["truth_n_samples"]) == {3000}
        assert after["created"].equals(before["created"])
        deeper = experiment([{"name": "toy"}], "network.depth=[1, 2, 3]")
        assert run(deeper, tmp_path).kept == 4
        assert set(store.read_rows(tmp_path)["truth_key"]) == {t.spec.key for t in deeper.truths}

    def test_a_row_stored_meanwhile_is_left_alone(self, experiment, tmp_path):
        (cell, *_) = experiment([{"name": "toy"}]).cells
        run_cell(cell, tmp_path, workers=1)
        before = contents(tmp_path)
        assert run_cell(cell, tmp_path, workers=1) == Outcome(cell.label)
        assert contents(tmp_path) == before
