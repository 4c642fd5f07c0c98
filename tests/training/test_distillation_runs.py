"""Experiments of distillation: their configuration, runs, rows and figure."""

import sys
from math import isinf
from pathlib import Path

import numpy as np
import pytest
from helpers import harness
from helpers.pictures import drawn, words

import cumprop
from cumprop import plots
from cumprop.cli import main
from cumprop.errors import ConfigError, CumpropError
from cumprop.experiments import config as sweep_config
from cumprop.experiments import distillation_config
from cumprop.plots import loss_vs_flops
from cumprop.reproduction.report import report
from cumprop.results import store, verification
from cumprop.training.distillation import random_student, sampled_loss
from cumprop.training.wiring import require_torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIG = """\
command: distill
network: {depth: 2, seeds: 2}
shapes: [{width: 6, student_width: 3}]
orders: [{order: 2, lr: 0.2}]
sgd: {lr: 0.1}
steps: 8
held_out: {n_samples: 1000}
scales: {broken: {steps: 0}}
"""


def test_missing_torch_is_one_line_with_the_remedy(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CumpropError, match=r"pip install 'cumprop\[torch\]'"):
        require_torch()
    path = tmp_path / "distill.yaml"
    path.write_text(CONFIG)
    assert main(["distill", str(path), "--results", str(tmp_path / "results")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "results").exists()


class TestConfig:
    @pytest.fixture
    def write(self, tmp_path):
        def write(text):
            path = tmp_path / "test.yaml"
            path.write_text(text)
            return path

        return write

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            (("lr: 0.2", "lr: 0"), "4:25 orders[0].lr: must be greater than 0, got 0"),
            (("order: 2", "order: 1"), "4:18 orders[0].order: must be at least 2, got 1"),
            (("}]\nsgd", "}, {order: 2, lr: 1}]\nsgd"), "4:9 orders: lists order 2 twice"),
            (("depth", "dept"), "2:11 network.dept: unknown key (did you mean 'depth'?)"),
            (("steps: 8\n", ""), "1:1 steps: is missing; add it"),
            (("width: 6", "width: six"), "3:18 shapes[0].width: must be a whole number, got 'six'"),
            (("seeds: 2", "activation: rleu, seeds: 2"), "2:33 network.activation: unknown"),
        ],
    )
    def test_mistakes_are_located(self, write, change, line):
        path = write(CONFIG.replace(*change))
        with pytest.raises(ConfigError) as caught:
            distillation_config.load(path)
        assert any(text.startswith(f"{path}:{line}") for text in str(caught.value).splitlines())

    def test_scales_and_settings(self, write):
        path = write(CONFIG)
        assert distillation_config.load(path, None, ["steps=4"]).steps == 4
        with pytest.raises(ConfigError, match=r"8:26 steps: must be at least 1"):
            distillation_config.load(path, "broken")

    def test_validate_checks_all_scales_and_sweep_names_the_command(self, write, capsys):
        path = write(CONFIG)
        assert main(["validate", str(path)]) == 2
        assert capsys.readouterr().err == f"{path}:8:26 steps: must be at least 1, got 0\n"
        with pytest.raises(ConfigError, match=r"1:10 command: not a sweep; run `cumprop distill"):
            sweep_config.load(path)

    def test_every_run_once_and_keys_tell_them_apart(self):
        experiment = distillation_config.load(ROOT / "configs" / "distill.yaml")
        runs = distillation_config.runs(experiment, "distill")
        assert len(runs) == len({run.key for run in runs}) == 2 * 2 * 2 * 10
        assert {(run.method, run.order, run.lr) for run in runs} == {
            ("cumulant", 2, 0.5),
            ("cumulant", 3, 0.1),
            ("sgd", 2, 0.25),
            ("sgd", 3, 0.25),
        }


@pytest.mark.torch
class TestRuns:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "test.yaml"
        path.write_text(CONFIG)
        return path

    def run(self, path, *words):
        return main(["distill", str(path), "--results", str(path.parent), "--workers", "1", *words])

    def rows(self, path):
        from cumprop.training.runs import read

        return read(path.with_suffix(""))

    def test_rows_hold_the_trajectory(self, torch, path):
        assert self.run(path) == 0
        rows = self.rows(path)
        assert len(rows) == 4
        for row in rows:
            assert (row["step"], row["status"]) == ([0, 1, 2, 3, 4, 5, 6, 7, 8], "ok")
            assert (np.diff(row["flops"]) == row["flops"][1]).all()
            assert row["true_loss"][-1] < row["true_loss"][0]
            assert 0 < row["true_loss_se"][0] < row["true_loss"][0] / 5
            assert (row["batch"] is None) == (row["method"] == "cumulant")
            assert row["torch_version"] and row["cpu"] and row["created"]
        cost = {row["method"]: row["flops"][-1] for row in rows}
        assert cost["sgd"] == pytest.approx(cost["cumulant"], rel=0.05)
        by_seed = {(row["method"], row["seed"]): row["true_loss"][0] for row in rows}
        assert by_seed["sgd", 1] == by_seed["cumulant", 1] != by_seed["cumulant", 0]

    def test_true_loss_is_unbiased(self, torch, path):
        """Held-out and fresh samples agree within 4 s.e. (one false alarm in 10⁴)."""
        from cumprop.training.distillation import true_loss

        f = cumprop.random_mlp(6, 2, seed=0)
        g = random_student(f, 3, seed=0)
        rng = np.random.default_rng(0)
        x, y = (rng.standard_normal((50_000, 6)).astype(np.float32) for _ in "xy")
        (a, a_se), (b, b_se) = (true_loss(g, z, f.forward(z)) for z in (x, y))
        assert abs(a - b) < 4 * np.hypot(a_se, b_se)
        assert a == pytest.approx(sampled_loss(f, g, x), rel=1e-5)

    def test_finished_runs_stay_and_lost_ones_are_run_again(self, torch, path, capsys):
        assert self.run(path) == 0
        parts = sorted((path.with_suffix("") / "parts").glob("*.parquet"))
        before = [part.stat().st_mtime_ns for part in parts]
        lost = harness.read_part(parts[0])
        parts[0].unlink()
        capsys.readouterr()
        assert self.run(path) == 0
        assert "4 runs (3 already there)" in capsys.readouterr().err
        assert [p.stat().st_mtime_ns for p in parts[1:]] == before[1:]
        again = harness.read_part(parts[0])
        for name in ("step", "flops", "loss", "true_loss", "batch"):
            assert again[name] == lost[name]

    def test_a_run_that_diverges_says_so(self, torch, path):
        assert self.run(path, "--set", "orders=[{order: 2, lr: 1e4}]") == 0
        from cumprop.training.distillation_runs import diverged, summary

        line, sampled = summary(self.rows(path))
        assert (line["diverged"], sampled["diverged"], line["reduction"]) == (2, 0, 0)
        assert isinf(line["end"])
        for row in filter(diverged, self.rows(path)):
            assert row["status"].startswith(f"diverged at step {row['step'][-1]}: estimated loss")

        (panel, *_) = drawn(loss_vs_flops, self.rows(path)).axes
        crosses = [line for line in panel.get_lines() if line.get_marker() == "x"]
        assert len(crosses) == 2
        assert np.isfinite(panel.get_ylim()).all()

    def test_losses_before_an_overflow_are_kept(self, torch, path, monkeypatch):
        from cumprop.training import distillation_runs

        def overflowing(run, teacher, student):
            states, batch = training(run, teacher, student)

            def first():
                yield next(states)
                raise CumpropError("pre-activations overflow float32")

            return first(), batch

        training = distillation_runs._training
        monkeypatch.setattr(distillation_runs, "_training", overflowing)
        assert self.run(path) == 0
        for row in self.rows(path):
            assert row["step"] == [0] and distillation_runs.diverged(row)
            assert row["status"] == "diverged at step 1: pre-activations overflow float32"

    def test_only_what_was_last_asked_for_is_shown(self, torch, path):
        self.run(path)
        self.run(path, "--set", "steps=4")
        assert {row["n_steps"] for row in self.rows(path)} == {4}

    def test_compacted_runs_are_drawn_without_their_parts(self, torch, path, tmp_path):
        self.run(path)
        rows, folder = self.rows(path), path.with_suffix("")
        assert main(["results", "compact", str(folder)]) == 0
        reference = tmp_path / "reference" / "test"
        reference.mkdir(parents=True)
        for name in ("parts.parquet", "plan.json"):
            (folder / name).rename(reference / name)
        from cumprop.training.runs import read

        by_key = [sorted(some, key=lambda row: row["cell_key"]) for some in (rows, read(reference))]
        assert by_key[0] == by_key[1]
        drawn = plots.plot(reference.parent, tmp_path / "figures")
        assert {p.stem for p in drawn} == {"test_loss_vs_flops"}
        (section,) = report(reference.parent).sections
        assert ([*section.figures], len(section.points)) == (["loss_vs_flops"], 2)

    def test_other_commands_leave_the_runs_alone(self, torch, path, tmp_path, capsys):
        assert self.run(path) == 0
        assert main(["status", str(tmp_path)]) == 0
        assert capsys.readouterr().out.splitlines()[-1].split() == ["test", "4", "0", "0"]
        assert main(["score", str(tmp_path)]) == 1
        assert "run `cumprop sweep CONFIG` first" in capsys.readouterr().err

    def test_the_figure(self, torch, path, tmp_path):
        self.run(path)
        written = plots.plot(tmp_path, tmp_path / "figures")
        assert [p.name for p in written] == [
            f"test_loss_vs_flops.{s}" for s in ("pdf", "svg", "png")
        ]
        with pytest.raises(CumpropError, match="holds nothing that mse_vs_flops could show"):
            plots.plot(tmp_path, tmp_path / "figures", ["mse_vs_flops"])
        rows = self.rows(path)
        figure = drawn(loss_vs_flops, rows)
        for said in ("width 6, student 3, K=2", "2 seeds", "1·10³ held-out inputs", "8 steps"):
            assert said in words(figure)
        lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
        assert len(lines) == 4
        curves = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 2]
        for line, method in zip(curves, ("cumulant", "sgd"), strict=True):
            losses = [row["true_loss"][1:] for row in rows if row["method"] == method]
            np.testing.assert_allclose(line.get_ydata(), np.median(losses, axis=0))


def test_stored_rows_are_sound_and_of_the_version_that_computed_them():
    """results/reference/distill has the streams of version 1, which no run now claims."""
    folder = ROOT / "results" / "reference" / "distill"
    assert verification.verify(folder) == (80, [])
    planned = distillation_config.load(ROOT / "configs" / "distill.yaml", "laptop")
    now = distillation_config.runs(planned, "distill")
    stored = store.read_plan(folder)
    assert {run.key_of(1) for run in now} == set(stored)
    assert not {run.key for run in now} & set(stored)


def test_a_changed_row_is_no_row_of_an_earlier_version():
    (row, *_) = store.read_folder(ROOT / "results" / "reference" / "distill")
    assert list(verification._wrong(row, False, str)) == []
    (problem,) = verification._wrong(row | {"lr": 0.7}, False, str)
    assert "its columns are those of" in problem
