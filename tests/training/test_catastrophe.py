"""The experiment on a costly rare event: its cases, runs, rows, check of estimates and figure."""

from pathlib import Path

import numpy as np
import pytest
from helpers import harness
from helpers.pictures import drawn, words

from cumprop import plots
from cumprop.cli import main
from cumprop.errors import ConfigError, CumpropError
from cumprop.experiments import catastrophe_config
from cumprop.plots import event_vs_flops, penalty_by_case
from cumprop.reproduction.report import report
from cumprop.results import verification
from cumprop.training.catastrophe import _threshold, case
from cumprop.training.catastrophe_runs import _share_within, figures, summary, trajectory

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIG = """\
command: train
network: {width: 8, depth: 1, teachers: [1], seeds: 1}
cases: [{task: imitation, probability: 1e-2}]
steps: 6
batch: 16
lr: 0.01
score: {times: 2, tolerance: 0.4, n_samples: 500, shift: 1.3}
methods:
  - {name: SGD, way: sampled}
  - {name: advised, way: conditional}
scales: {broken: {steps: 0}}
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "event.yaml"
    path.write_text(CONFIG)
    return path


def planned(path, *sets):
    return catastrophe_config.runs(catastrophe_config.load(path, sets=sets), "event")


def test_a_stated_error_without_end_holds_nothing():
    runs = [
        {"within": [True, True, False], "penalty_error": [np.inf, 0.1, 0.1]},
        {"within": None, "penalty_error": None},
        {"within": [True], "penalty_error": [np.inf]},
    ]
    assert _share_within(runs) == 0.5 and _share_within(runs[1:]) is None


class TestConfig:
    @pytest.mark.parametrize(
        ("change", "line"),
        [
            (("way: sampled", "way: sampeld"), "9:22 methods[0].way: must be one of"),
            (("advised", "SGD"), "9:3 methods: names two methods 'SGD'"),
            (("1e-2", "0.5"), "3:40 cases[0].probability: input should be less than 0.1"),
            (("batch: 16\n", ""), "1:1 batch: is missing"),
        ],
    )
    def test_mistakes_are_located(self, path, change, line):
        path.write_text(CONFIG.replace(*change))
        with pytest.raises(ConfigError) as caught:
            catastrophe_config.load(path)
        assert f"{path}:{line}" in str(caught.value)

    def test_every_run_once(self):
        experiment = catastrophe_config.load(ROOT / "configs" / "catastrophe.yaml")
        runs = catastrophe_config.runs(experiment, "catastrophe")
        network = experiment.network
        assert len(runs) == len({run.key for run in runs})
        assert len(runs) == len(experiment.methods) * len(network.teachers) * len(network.seeds)

    def test_cases_have_shapes_of_their_own(self, path):
        cases = "cases=[{task: imitation, probability: [1e-2, 1e-3]}, "
        cases += "{task: imitation, probability: 1e-2, width: [8, 16], depth: 2}]"
        runs = planned(path, cases, "methods=[{name: SGD, way: sampled}]")
        found = [(run.probability, run.width, run.depth) for run in runs]
        assert found == [(1e-2, 8, 1), (1e-3, 8, 1), (1e-2, 8, 2), (1e-2, 16, 2)]
        assert figures(runs) == ("penalty_by_case",)
        assert figures(runs[:1]) == figures([runs[0], runs[3]]) == ("event_vs_flops",)

    def test_other_commands_say_where_it_belongs(self, path, tmp_path, run):
        code, _, err = run("sweep", path)
        assert code == 2 and f"not a sweep; run `cumprop train {path}`" in err
        sweep = tmp_path / "sweep.yaml"
        sweep.write_text("network: {width: 4, depth: 1, seeds: 1}\n")
        code, _, err = run("train", sweep)
        assert code == 2 and "no experiment of training; run `cumprop sweep" in err


class TestCases:
    @pytest.mark.parametrize(("task", "outputs"), [("imitation", 1), ("controller", 2)])
    def test_the_teacher_pays_one(self, task, outputs):
        """The probability is near its target, and C E[(y − t)₊] of fresh samples near 1.

        The event is frequent enough to sample: 2·10⁵ inputs have a standard error of some 4%.
        """
        found = case(task, 8, 1, "relu", "float64", 1, 1e-2)
        x = np.random.default_rng(5).standard_normal((200_000, 8))
        penalties = found.cost * found.event.values(found.teacher, x)[:, 0]
        standard_error = penalties.std() / np.sqrt(len(x))
        assert found.teacher.widths[-1] == outputs
        assert abs(penalties.mean() - 1) < 4 * np.hypot(standard_error, 0.05 / 1.96)
        assert (penalties > 0).mean() == pytest.approx(1e-2, rel=0.4)

    def test_an_output_without_a_tail_has_no_threshold(self):
        found = case("imitation", 8, 1, "relu", "float64", 1, 1e-2)
        flat = found.teacher.replace(weights=[found.teacher.weights[0], np.zeros((1, 8))])
        with pytest.raises(CumpropError, match="no threshold with probability"):
            _threshold(flat, 0, 1e-2, 0.0)


class TestPenaltyByCase:
    """The figure of what is left over rarities and shapes."""

    @staticmethod
    def row(probability, width, depth, teacher, penalty):
        return {
            "task": "imitation", "probability": probability, "width": width, "depth": depth,
            "method": "SGD", "way": "sampled", "order": 2, "weight": 1.0, "directions": 2,
            "advice_steps": 5, "fresh": 50, "teacher": teacher, "seed": 0, "activation": "relu",
            "n_steps": 10, "lr": 0.1, "batch": 64, "true_penalty": [1.0, penalty],
        }  # fmt: skip

    def test_medians_over_rarities_and_widths(self):
        cases = ((1e-3, 8, 1), (1e-4, 8, 1), (1e-3, 16, 1))
        rows = [
            self.row(*case, teacher, 10.0**-k * (1 + 2 * teacher))
            for k, case in enumerate(cases)
            for teacher in (0, 1)
        ]
        figure = drawn(penalty_by_case, rows)
        titles = [axes.get_title() for axes in figure.axes]
        assert titles == ["imitation, 1 hidden layer, P = 0.001", "imitation, 8×1"]
        for axes, places, medians in zip(
            figure.axes, ([8, 16], [1e-4, 1e-3]), ([2, 0.02], [0.2, 2]), strict=True
        ):
            line = axes.get_lines()[1]  # the first is what the teacher pays
            np.testing.assert_allclose(line.get_xdata(), places)
            np.testing.assert_allclose(line.get_ydata(), medians)

    def test_one_case_is_no_comparison(self):
        with pytest.raises(CumpropError, match="all runs are of one rarity and width"):
            penalty_by_case.draw([self.row(1e-3, 8, 1, 0, 0.5)])


@pytest.mark.torch
class TestRuns:
    def run(self, path, *options):
        return main(["train", str(path), "--results", str(path.parent), "--workers", "1", *options])

    def rows(self, path):
        from cumprop.training.runs import read

        return read(path.with_suffix(""))

    def test_rows_hold_the_trajectory(self, torch, path, capsys):
        assert self.run(path) == 0
        assert "advised" in capsys.readouterr().out
        rows = {row["method"]: row for row in self.rows(path)}
        assert {*rows} == {"SGD", "advised"}
        for row in rows.values():
            assert row["step"] == [3, 6]
            assert row["flops"][1] > row["flops"][0] > 0
            for name in ("true_penalty", "true_probability"):
                low, value, high = (np.array(row[name + end]) for end in ("_low", "", "_high"))
                assert (low <= value).all() and (value <= high).all()
            assert row["teacher_probability_low"] < 0.02 and row["cost"] > 0
            assert row["shifted_penalty"] >= 0
        assert rows["SGD"]["true_loss"][0] != rows["SGD"]["true_loss"][1]
        assert rows["advised"]["events_seen"] == [0, 0]
        assert {rows["SGD"][name] for name in ("penalty_error", "within", "exploits")} == {None}
        advised = rows["advised"]
        estimates, errors, lows, highs = (
            np.array(advised[name])
            for name in ("penalty", "penalty_error", "true_penalty_low", "true_penalty_high")
        )
        within = (estimates - errors <= highs) & (lows <= estimates + errors)
        assert advised["within"] == within.tolist() and (errors > 0).all()
        count, problems = verification.verify(path.with_suffix(""))
        assert (count, problems) == (2, [])

    def test_finished_runs_stay_and_lost_ones_are_run_again(self, torch, path, capsys):
        self.run(path)
        first, second = sorted((path.with_suffix("") / "parts").glob("*.parquet"))
        before, lost = second.stat().st_mtime_ns, harness.read_part(first)
        first.unlink()
        capsys.readouterr()
        assert self.run(path, "--dry-run") == 0
        printed = capsys.readouterr()
        assert printed.out.count("\n") == 1 and f": {lost['method']}, 6 steps" in printed.out
        assert "2 runs (1 already there)" in printed.err and not first.exists()
        assert self.run(path) == 0
        assert second.stat().st_mtime_ns == before
        again = harness.read_part(first)
        for name in ("step", "flops", "loss", "penalty", "true_loss", "true_penalty"):
            assert again[name] == lost[name]

    def test_a_failed_run_is_a_row_with_its_reason(self, torch, path, monkeypatch, capsys):
        from cumprop.training import catastrophe_runs

        def refuse(*_):
            raise CumpropError("no threshold was found")

        monkeypatch.setattr(catastrophe_runs, "case", refuse)
        assert self.run(path) == 1
        assert ": SGD: failed: no threshold was found" in capsys.readouterr().err

    def test_a_run_that_diverges_at_once_says_so(self, torch, path):
        (run, _) = planned(path, "lr=1e30")
        with pytest.raises(CumpropError, match=r"diverged at step 2.*before the first score"):
            trajectory(run)

    def test_scores_before_an_overflow_are_kept(self, torch, path, monkeypatch):
        from cumprop.training import catastrophe_runs

        (run, _) = planned(path)
        whole, scores, calls = trajectory(run), catastrophe_runs._scores, []

        def overflowing(*given):
            calls.append(given)
            if len(calls) == 2:
                raise CumpropError("pre-activations overflow float32")
            return scores(*given)

        monkeypatch.setattr(catastrophe_runs, "_scores", overflowing)
        kept = trajectory(run)
        assert kept["status"] == "diverged at step 6: pre-activations overflow float32"
        assert kept["step"] == [3] and kept["true_loss"] == whole["true_loss"][:1]

    def test_figure_and_report(self, torch, path, tmp_path):
        self.run(path)
        written = plots.plot(tmp_path, tmp_path / "figures")
        assert {p.stem for p in written} == {"event_event_vs_flops"}
        rows = self.rows(path)
        figure = drawn(event_vs_flops, rows)
        for said in ("imitation, 8×1", "teacher: 0.01", "advised", "SGD", "the teacher pays 1"):
            assert said in words(figure)
        lines = {tuple(line.get_xdata()): line for line in figure.axes[0].get_lines()}
        for row in rows:
            totals = lines[tuple(row["flops"])].get_ydata()
            np.testing.assert_allclose(totals, np.add(row["true_loss"], row["true_penalty"]))
        (section,) = report(tmp_path).sections
        assert len(section.points) == 2

    def test_exploitation_is_noticed(self, torch, path):
        """An optimiser that sees an estimate of nothing leaves the true penalty as it is.

        Order 1 of a rare excess is far below the truth; the student starts as the teacher, which
        pays 1.
        """
        honest, blind = (
            trajectory(run)
            for run in planned(
                path,
                "network={width: 16, depth: 2, teachers: [1], seeds: [0]}",
                "cases=[{task: repair, probability: 1e-3}]",
                "steps=1",
                "score.times=1",
                "lr=1e-9",
                "methods=[{name: a, way: conditional}, {name: b, way: cumulant, order: 1}]",
            )
        )
        assert (honest["exploits"], honest["status"]) == ([False], "ok")
        assert blind["exploits"] == [True]
        assert blind["status"].startswith("exploits: the estimate is far below the true penalty")
        assert blind["true_penalty"][0] == pytest.approx(1, rel=0.5)
        (line, _) = sorted(
            summary(
                [
                    {
                        "task": "imitation",
                        "probability": 1e-3,
                        "width": 16,
                        "depth": 2,
                        "teacher": 1,
                    }
                    | {"seed": 0, "method": name}
                    | row
                    for name, row in (("a", honest), ("b", blind))
                ]
            ),
            key=lambda line: -line["flagged"],
        )
        assert (line["method"], line["flagged"]) == ("b", 1)
