"""The benchmark: its arithmetic, its report and its refusals. No time is tested."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from cumprop import threads
from cumprop.cli import main
from cumprop.cli.bench import as_text
from cumprop.contract import Cost, Estimator, build
from cumprop.errors import CumpropError
from cumprop.networks import MLP, random_mlp
from cumprop.reproduction import benchmark, benchmark_page, reference_scores, sweep_overhead
from cumprop.reproduction.reference_scores import KnownError, KnownErrors
from cumprop.reproduction.throughput import check_threads, joint_rate
from cumprop.results.scores import GROUP
from cumprop.sweep import rates
from cumprop.sweep.rates import Effort

pytestmark = pytest.mark.slow

BRIEF = Effort(0.02, 1)
PROBLEM = {
    "width": 8, "depth": 1, "readout": "output",
    "activation": "relu", "init": "he", "dtype": "float32",
}  # fmt: skip
RIVALS = [{"passes_per_second": 1e5, "gain": 1.0}, {"passes_per_second": 8e4, "gain": 0.2}]


def scores(order=2, algorithm="auto", seeds=3, vn=1e-3, mse_se=1e-8, **changes):
    """Made-up scores of one estimator, spread over networks by a tenth."""
    parameters = json.dumps(asdict(build("cumulant", order=order, algorithm=algorithm)))
    row = dict.fromkeys(GROUP) | PROBLEM
    row |= {"estimator": "cumulant", "parameters": parameters, "truth_design": "orthogonal"}
    row |= {
        "truth_gain": 0.2,
        "conditions": "here",
        "outcome": "done",
        "status": "ok",
        "expected_error": np.nan,
        "n_groups": 16,
        "mse_se": mse_se,
    }
    row |= {"variance": 0.5, "flops": 1e6, "seconds": 1.0} | changes
    spread = np.linspace(0.9, 1.1, seeds)
    return pd.DataFrame([row | {"seed": s, "mse": 0.5 * vn * spread[s]} for s in range(seeds)])


@pytest.fixture
def known(monkeypatch):
    """Reads a table of made-up scores as if a sweep had left it."""

    def read(*tables):
        table = pd.concat(tables, ignore_index=True)
        monkeypatch.setattr("cumprop.results.scores.score", lambda results: table)
        return KnownErrors.read("results/made_up")

    return read


@pytest.fixture(scope="module")
def report():
    estimators = [build("cumulant", order=1), build("cumulant", order=2), build("gaussian")]
    return benchmark.run(estimators, [(8, 1), (8, 2)], [1], BRIEF, None)[0]


class TestRatio:
    def test_it_is_seconds_of_sampling_over_seconds(self):
        known = KnownError(vn_mse=1e-6, low=5e-7, high=2e-6, resolved=True, n_networks=5)
        entry = benchmark.compared(known, 0.01, RIVALS)
        assert entry["ratio_iid"] == pytest.approx(1e6 / 1e5 / 0.01)
        assert entry["ratio_iid_low"] == pytest.approx(entry["ratio_iid"] / 2)
        assert entry["ratio_iid_high"] == pytest.approx(entry["ratio_iid"] * 2)
        # a fifth of the samples at four fifths of the speed
        assert entry["ratio_orthogonal"] == pytest.approx(entry["ratio_iid"] / 4)

    def test_an_error_near_zero_gives_no_upper_end(self):
        known = KnownError(vn_mse=1e-6, low=-1e-7, high=2e-6, resolved=False, n_networks=5)
        entry = benchmark.compared(known, 0.01, RIVALS)
        assert entry["ratio_iid_high"] is None and entry["ratio_iid_low"] > 0

    @pytest.mark.parametrize("seconds", [0.01, None])
    def test_without_a_measured_error_it_is_unknown(self, seconds):
        entry = benchmark.compared(None, seconds, RIVALS)
        assert len(entry) == 9 and set(entry.values()) == {None}

    def test_without_a_measured_gain_the_orthogonal_one_is_unknown(self):
        known = KnownError(1e-6, 5e-7, 2e-6, True, 5)
        entry = benchmark.compared(known, 0.01, [RIVALS[0], RIVALS[1] | {"gain": None}])
        assert entry["ratio_iid"] is not None and entry["ratio_orthogonal"] is None

    def test_what_did_not_run_keeps_its_error(self):
        entry = benchmark.compared(KnownError(1e-6, 5e-7, 2e-6, True, 5), None, RIVALS)
        assert entry["vn_mse"] == 1e-6 and entry["ratio_iid"] is None


class TestJointRate:
    def test_processes_add_up(self):
        one = np.array([[0.0, 0.5], [0.5, 1.0]])
        assert joint_rate([one], 10) == (20.0, 2)
        assert joint_rate([one, one], 10) == (40.0, 4)

    def test_only_the_time_when_all_were_at_work_counts(self):
        alone_then_slow = np.array([[0.0, 0.1], [0.1, 0.2], [1.0, 2.0], [2.0, 3.0]])
        late = np.array([[1.0, 1.5], [1.5, 2.0], [2.0, 2.5], [2.5, 3.0]])
        assert joint_rate([alone_then_slow, late], 10) == (10.0 + 20.0, 6)

    def test_one_after_the_other_is_refused(self):
        with pytest.raises(CumpropError, match="side by side"):
            joint_rate([np.array([[0.0, 1.0]]), np.array([[1.0, 2.0]])], 10)


class TestKnownErrors:
    def test_the_error_is_that_of_the_same_estimator_and_problem(self, known):
        errors = known(scores(order=2, vn=1e-3), scores(order=3, vn=1e-5))
        found = errors.of(build("cumulant", order=2), PROBLEM)
        assert found.vn_mse == pytest.approx(1e-3) and found.resolved and found.n_networks == 3
        assert found.low < found.vn_mse < found.high
        assert errors.of(build("cumulant", order=3), PROBLEM).vn_mse == pytest.approx(1e-5)
        assert errors.of(build("cumulant", order=4), PROBLEM) is None
        assert errors.of(build("cumulant", order=2, kind="augmented"), PROBLEM) is None
        for name, value in {"width": 9, "depth": 2, "readout": "pre", "init": "critical"}.items():
            assert errors.of(build("cumulant", order=2), PROBLEM | {name: value}) is None

    def test_the_algorithm_does_not_matter(self, known):
        errors = known(scores(algorithm="dense"))
        assert errors.of(build("cumulant", order=2), PROBLEM) is not None

    def test_most_networks_win(self, known):
        errors = known(scores(seeds=2, config="a"), scores(seeds=5, vn=2e-3, config="b"))
        assert errors.of(build("cumulant", order=2), PROBLEM).vn_mse == pytest.approx(2e-3)

    def test_an_unresolved_error_is_a_bound(self, known):
        found = known(scores(mse_se=1.0)).of(build("cumulant", order=2), PROBLEM)
        assert not found.resolved and found.vn_mse == found.high

    def test_the_gain_is_that_of_an_orthogonal_truth(self, known):
        assert known(scores()).gain(PROBLEM) == pytest.approx(0.2)
        assert known(scores()).gain(PROBLEM | {"width": 9}) is None
        assert known(scores(truth_design="iid", truth_gain=1.0)).gain(PROBLEM) is None

    def test_usual_places_are_tried_in_turn(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        assert KnownErrors.find() is None
        tried = []

        def score(results):
            tried.append(results)
            if len(tried) == 1:
                raise CumpropError("nothing here")
            return scores()

        monkeypatch.setattr("cumprop.results.scores.score", score)
        assert KnownErrors.find().source == "results/reference/relu_w256"
        assert tried == list(reference_scores.USUAL_PLACES)

    def test_a_place_that_was_named_must_have_scores(self, tmp_path):
        with pytest.raises(CumpropError, match="cumprop sweep"):
            KnownErrors.find(tmp_path)


@dataclass(frozen=True)
class Refusing(Estimator):
    """Runs nothing."""

    name: ClassVar[str] = "refusing"
    version: ClassVar[int] = 1

    def supports(self, network: MLP):
        return "it needs 100 GB; take another"

    def estimate(self, network, *, cov=False, rng=None):
        raise AssertionError("it was run")

    def predict_cost(self, shape):
        return Cost(1, 10**11)

    @classmethod
    def from_tolerance(cls, tolerance, shape, **parameters):
        return cls()


class TestReport:
    def test_it_says_all_and_survives_json(self, report, tmp_path):
        benchmark.write(report, tmp_path / "bench.json")
        assert json.loads((tmp_path / "bench.json").read_text()) == report
        assert report["schema_version"] == benchmark.SCHEMA_VERSION
        assert {"cpu", "blas", "threads", "git_revision", "created"} <= report["provenance"].keys()
        assert report["flops_convention"] and report["rates"]["products"] > 0
        assert [(e["width"], e["depth"], e["label"]) for e in report["estimators"]] == [
            (8, depth, label)
            for depth in (1, 2)
            for label in ("cumulant order=1", "cumulant order=2", "gaussian")
        ]
        assert [(s["depth"], s["design"]) for s in report["sampling"]] == [
            (1, "iid"), (1, "orthogonal"), (2, "iid"), (2, "orthogonal"),
        ]  # fmt: skip

    def test_shares_and_predictions_belong_to_their_numbers(self, report):
        rate = report["rates"]["products"]
        for entry in report["estimators"]:
            speed = entry["flops"] / entry["seconds"]
            assert entry["matmul_share"] == pytest.approx(speed / entry["products_per_second"])
            assert entry["seconds_low"] <= entry["seconds"] <= entry["seconds_high"]
            if entry["estimator"] == "cumulant":
                assert entry["flops"] == entry["flops_predicted"]
        for entry in report["sampling"]:
            speed = entry["flops_per_pass"] * entry["passes_per_second"]
            assert entry["matmul_share"] == pytest.approx(speed / rate)
            assert entry["processes"] == entry["threads"] == 1

    def test_counted_flops_are_those_of_an_estimate(self, report):
        counted = build("cumulant", order=2).estimate(random_mlp(8, 1, 0)).flops.total
        assert report["estimators"][1]["flops"] == counted

    def test_ratios_use_the_errors_of_a_sweep(self, known):
        errors = known(scores(order=2, vn=1e-3))
        estimators = [build("cumulant", order=2), build("cumulant", order=3)]
        [report] = benchmark.run(estimators, [(8, 1)], [1], BRIEF, errors)
        second, third = report["estimators"]
        iid, orthogonal = report["sampling"]
        expected = 1 / 1e-3 / iid["passes_per_second"] / second["seconds"]
        assert second["ratio_iid"] == pytest.approx(expected)
        expected = 0.2 / 1e-3 / orthogonal["passes_per_second"] / second["seconds"]
        assert second["ratio_orthogonal"] == pytest.approx(expected)
        assert third["vn_mse"] is third["ratio_iid"] is None
        assert "results/made_up" in as_text(report)

    def test_what_cannot_run_says_why(self):
        [report] = benchmark.run([Refusing()], [(8, 1)], [1], BRIEF, None)
        (entry,) = report["estimators"]
        assert entry["seconds"] is entry["flops"] is entry["matmul_share"] is None
        assert entry["bytes_predicted"] == 10**11
        assert "refusing: failed: it needs 100 GB; take another" in as_text(report)

    def test_the_table_states_its_conditions(self, report):
        shown = as_text(report | {"load_before": 0.0})
        for fact in [
            report["provenance"]["cpu"], report["provenance"]["blas"], "threads 1", "FLOP/s",
            "Medians of 1 to 200 repeats (n) in 0.02 s", "vn-MSE: unknown; run `cumprop sweep`",
            "width 8, depth 2", "iid", "orthogonal", "cumulant order=2", "unknown",
        ]:  # fmt: skip
            assert fact in shown
        assert "OTHER WORK" not in shown and "processes of" not in shown
        assert "OTHER WORK WAS RUNNING (load average 2.0)" in as_text(report | {"load_before": 2.0})

    def test_unresolved_errors_are_shown_as_bounds(self, report):
        entry = report["estimators"][0] | benchmark.compared(
            KnownError(1e-6, -1e-7, 1e-6, False, 5), 0.01, RIVALS
        )
        lines = as_text(report | {"estimators": [entry]}).splitlines()
        line = next(line for line in lines if "<1e-06" in line)
        assert ">1,000" in line and "> 1,000" in line


def test_expected_errors_stand_in_for_unmeasured_ones(report):
    iid, _ = report["sampling"][:2]
    entry = report["estimators"][1]
    expected = 1 / (entry["expected_error"] ** 2 * iid["passes_per_second"] * entry["seconds"])
    assert entry["ratio_iid"] is None
    assert entry["ratio_iid_expected"] == pytest.approx(expected)


def test_estimates_that_take_too_long_are_left_out():
    [report] = benchmark.run([build("cumulant", order=1)], [(8, 1)], [1], BRIEF, None, limit=1e-9)
    (entry,) = report["estimators"]
    assert entry["seconds"] is None and entry["note"].startswith("left out: it takes about ")


def test_sides_take_turns_for_as_long_as_each_other(monkeypatch):
    """On a clock that work moves on by 2 seconds and its rival by 7."""
    now, order = [0], []

    def side(name, seconds):
        order.append(name)
        now[0] += seconds

    monkeypatch.setattr(rates.time, "perf_counter", lambda: now[0])
    work, rival = (partial(side, *side_) for side_ in (("work", 2), ("rival", 7)))
    assert rates.by_turns(work, rival, Effort(20.0, 1)) == ([2, 2], [7, 7])
    assert order == ["rival", *["work"] * 4] * 2


def test_numbers_of_threads_take_turns():
    seen = []
    found = benchmark._times(lambda: seen.append(threads.allowed()), [1, 2], Effort(0.0, 3))
    assert [n for n, _ in groupby(seen)] == [1, 2] * 3
    assert [(len(times), len(products)) for times, products in found] == [(3, 3), (3, 3)]


@pytest.fixture(scope="module")
def reports():
    """Those of one thread, twice, because a busy machine may not sample on two."""
    estimators = [build("cumulant", order=1), Refusing()]
    [one] = benchmark.run(estimators, [(8, 1), (8, 2), (16, 1)], [1], BRIEF, None)
    return [one, one | {"provenance": one["provenance"] | {"threads": 2}}]


class TestPage:
    def test_every_shape_and_estimator_has_a_row(self, reports):
        shown = benchmark_page.page(reports)
        rows = [line for line in shown.splitlines() if line.startswith(("| 1 |", "| 2 |"))]
        assert len(rows) == 6 and shown.count("## Width") == 2
        assert [row.split(" | ")[1] for row in rows[:2]] == ["order=1", "refusing"]
        assert rows[1].count(" - ") == 10 and "it needs 100 GB" in rows[1]

    def test_numbers_are_those_of_the_reports(self, reports):
        shown = benchmark_page.page(reports)
        for entry in (report["estimators"][0] for report in reports):
            assert f"| {1e3 * entry['seconds']:.3g} | {entry['matmul_share']:.0%} |" in shown
            assert f"| {1e12 * entry['seconds'] / entry['flops']:.3g} | ~" in shown
        known = reports[0]["estimators"][0] | {"ratio_iid": 1234.0}
        assert "1.2e+03" in benchmark_page.page([reports[0] | {"estimators": [known]}])

    def test_a_busy_machine_is_named(self, reports):
        busy, idle = ([report | {"load_before": load} for report in reports] for load in (2.0, 0.1))
        assert "Other work was running (load average 2.0)" in benchmark_page.page(busy)
        assert "Other work" not in benchmark_page.page(idle)

    def test_reports_of_other_shapes_are_refused(self, reports):
        other = reports[1] | {"estimators": reports[1]["estimators"][1:]}
        with pytest.raises(CumpropError, match="measure them together"):
            benchmark_page.page([reports[0], other])

    def test_the_command_writes_it(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(benchmark_page, "WIDTHS", (4,))
        monkeypatch.setattr(benchmark_page, "DEPTHS", (1, 2))
        monkeypatch.setattr(benchmark_page, "THREADS", (1,))
        monkeypatch.setattr(benchmark_page, "QUICK", BRIEF)
        assert main(["bench", "--quick", "--markdown", str(tmp_path / "page.md")]) == 0
        shown = (tmp_path / "page.md").read_text()
        assert shown.startswith("# Benchmark") and "augmented_factorised" in shown
        assert max(len(line) for line in shown.splitlines() if not line.startswith("|")) <= 100


def test_several_cores_sample_in_as_many_processes():
    one, report = benchmark.run(
        [build("cumulant", order=1)], [(8, 1)], [1, 2], Effort(0.5, 1), None
    )
    assert [r["provenance"]["threads"] for r in (one, report)] == [1, 2]
    assert one["estimators"][0]["flops"] == report["estimators"][0]["flops"]
    assert [entry["processes"] for entry in report["sampling"]] == [2, 2]
    assert "Sampling: 2 processes of 1 BLAS thread" in as_text(report)


def test_threads_that_blas_does_not_take_are_refused(monkeypatch):
    pools = [{"user_api": "blas", "num_threads": 4}]
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: pools)
    check_threads(4)
    with pytest.raises(CumpropError, match="BLAS runs 4 threads, not 8"):
        check_threads(8)


class TestCommand:
    @pytest.fixture
    def here(self, monkeypatch, tmp_path):
        """Runs a very quick benchmark in an empty folder; returns the exit code."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("cumprop.reproduction.throughput.QUICK", BRIEF)
        return lambda words: main(["bench", "--quick", "--threads=1", "--depth=1", *words.split()])

    def test_it_prints_a_table_and_writes_json(self, here, capsys):
        assert here("--width 4 --order 2 --estimator cumulant:order=2,kind=augmented") == 0
        out, err = capsys.readouterr()
        assert "cumulant order=2 kind=augmented" in out and "bench.json" in err
        report = json.loads(Path("results/bench/bench.json").read_text())
        assert [entry["kind"] for entry in report["estimators"]] == ["basic", "augmented"]

    def test_orders_one_to_four_and_trees_are_the_default(self, here, capsys):
        assert here("--width 4 --json b.json") == 0
        entries = json.loads(Path("b.json").read_text())["estimators"]
        assert [entry["order"] for entry in entries] == [1, 2, 3, 4, 3]
        assert entries[-1]["kind"] == "tree"
        assert not Path("results").exists()

    def test_three_widths_make_a_figure(self, here, capsys):
        assert here("--order 2 --figures f --width 4 --width 8") == 2  # before anything is timed
        assert here("--order 2 --figures f --width 4 --width 8 --width 16") == 0
        assert {path.name for path in Path("f").iterdir()} == {
            f"bench_flops_vs_width.{kind}" for kind in ("pdf", "svg", "png")
        }

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("nothing", "unknown estimator 'nothing'"),
            ("cumulant:orde=2", "no parameter 'orde'"),
            ("cumulant:order", "write NAME:KEY=VALUE"),
        ],
    )
    def test_wrong_estimators_are_usage_errors(self, here, capsys, word, message):
        assert here(f"--estimator {word}") == 2
        assert message in capsys.readouterr().err


def test_overhead_of_a_sweep(tmp_path):
    """That of 20 cells in this process; nothing is left behind."""
    found = sweep_overhead.measure(20, 1, tmp_path / "bench")
    assert (found["n_cells"], found["workers"]) == (20, 1)
    assert 0 < found["estimator_seconds"] < found["seconds"] / 20
    assert found["overhead_seconds"] == found["seconds"] / 20 - found["estimator_seconds"]
    assert list((tmp_path / "bench").iterdir()) == []
    [report] = benchmark.run([build("cumulant", order=1)], [(8, 1)], [1], BRIEF, None)
    line = as_text(report | {"overhead": found}).splitlines()[-1]
    assert line.startswith("overhead of a sweep: ") and "(20 cells on 1 workers, " in line
