"""The command line: exit codes, one-line errors, and that help imports nothing heavy."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import cumprop
from cumprop.cli import cli
from cumprop.contract.plugins import temporary_plugins
from cumprop.results import store

ROOT = Path(__file__).parents[2]

CONFIG = """\
network: {width: 4, depth: [1, 2], seeds: 2}
truth: {n_samples: 1000}
estimators:
  - {name: cumulant, order: [1, 2]}
  - {name: monte_carlo, n_samples: 100}
figures: [mse_vs_flops]
scales: {wide: {network: {width: 8}}, broken: {network: {width: 0}}}
"""

FAILING = """
from dataclasses import dataclass
from typing import ClassVar
from cumprop.errors import CumpropError
from cumprop.contract import Cost, Estimator, register

@register("failing")
@dataclass(frozen=True)
class Failing(Estimator):
    version: ClassVar[int] = 1

    def estimate(self, network, *, cov=False, rng=None):
        raise CumpropError("it never works; take another")

    def predict_cost(self, shape):
        return Cost(1, 1)

    @classmethod
    def from_tolerance(cls, tolerance, shape, **parameters):
        return cls()
"""


@pytest.fixture(autouse=True)
def no_scale(monkeypatch):
    monkeypatch.delenv("SCALE", raising=False)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "test.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "failing.py"
    path.write_text(FAILING)
    with temporary_plugins():
        yield path


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.npz"
    cumprop.random_mlp(width=4, depth=2, seed=0, dtype="float64").save(path)
    return path


class TestHelp:
    def test_it_imports_nothing_heavy(self):
        code = (
            "import sys; from cumprop.cli import main; main(['--help']); "
            "heavy = {'numpy', 'pandas', 'matplotlib', 'scipy', 'torch', 'pyarrow', 'pydantic'}; "
            "sys.exit(repr(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "cumprop sweep configs/" in done.stdout

    def test_importing_the_package_is_light(self):
        code = "import sys, cumprop; sys.exit('numpy' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0

    def test_every_public_name_is_there(self):
        for name in cumprop.__all__:
            assert getattr(cumprop, name) is not None
        assert set(cumprop.__all__) <= set(dir(cumprop))
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = cumprop.nothing

    @pytest.mark.parametrize("name", sorted(cli.commands))
    def test_every_command_has_an_example(self, run, name):
        code, out, _ = run(name, "--help")
        assert code == 0
        assert f"Example:\n    cumprop {name}" in out

    def test_the_commands(self):
        assert sorted(cli.commands) == [
            "bench", "distill", "doctor", "estimate", "list", "plot", "report", "results", "score",
            "status", "sweep", "train", "truth", "validate",
        ]  # fmt: skip

    def test_cli_py_is_the_same_program(self, tmp_path):
        words = [sys.executable, ROOT / "cli.py", "--version"]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
        assert done.stdout == f"cumprop, version {cumprop.__version__}\n"

    def test_cli_py_says_what_to_do_where_the_package_is_missing(self):
        bare = [sys.executable, "-I", "-S", ROOT / "cli.py"]
        done = subprocess.run(bare, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.endswith("is not installed here: run make install\n")

    @pytest.mark.slow
    def test_a_home_that_cannot_be_written_is_no_matter(self, tmp_path):
        """Matplotlib keeps its cache there."""
        path, picture = tmp_path / "net.npz", tmp_path / "net.png"
        cumprop.random_mlp(4, 1, 0).save(path)
        words = [sys.executable, ROOT / "cli.py", "estimate", path, "--plot", picture]
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        done = subprocess.run(
            words, capture_output=True, text=True, env=kept | {"HOME": os.devnull}
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert picture.stat().st_size > 0


class TestSweep:
    @pytest.mark.slow
    def test_from_config_to_figure(self, run, config, tmp_path):
        results = tmp_path / "results"
        code, out, err = run("sweep", config, "--results", results, "--workers", 1)
        assert code == 0
        assert f"results go to {results / 'test' / 'parts'}" in err
        assert f"cumprop plot {results / 'test'} --figure mse_vs_flops" in err
        assert len(out.splitlines()) == 1 + 2 * 3
        assert len(store.read_rows(results)) == 12
        head, line = run("status", results)[1].splitlines()
        assert head.split() == ["config", "done", "failed", "left", "sampled", "minutes", "left"]
        assert line.split() == ["test", "12", "0", "0", "100%", "<0.01"]
        dry = run("sweep", config, "--results", results, "--dry-run")[1]
        assert "nothing to compute\n\n0 cells, 0 truths" in dry and "12 cells are stored" in dry
        code, again, _ = run("score", results)
        assert (code, again) == (0, out)
        assert (results / "test" / "scores.parquet").is_file()
        code, out, _ = run("plot", results, "--out", tmp_path / "figures")
        assert code == 0
        assert {Path(line).suffix for line in out.splitlines()} == {".pdf", ".svg", ".png"}
        assert all(Path(line).stat().st_size > 0 for line in out.splitlines())

    @pytest.mark.slow
    def test_status_counts_what_is_left(self, run, config, tmp_path):
        words = ("sweep", config, "--results", tmp_path, "--workers", 1)
        run(*words)
        next((tmp_path / "test" / "parts").glob("*.parquet")).unlink()
        assert run("status", tmp_path)[1].split()[-5:-1] == ["11", "0", "1", "100%"]
        dry = run(*words, "--dry-run")[1]
        assert "\n1 cells, 0 truths" in dry and "11 cells are stored" in dry
        assert "12 cells (11 already there)" in run(*words)[2]

    @pytest.mark.slow
    def test_dry_run_computes_nothing(self, run, config, tmp_path):
        code, out, _ = run(
            "sweep", config, "--results", tmp_path / "r", "--workers", 3, "--dry-run"
        )
        assert code == 0
        assert "12 cells, 2 truths" in out
        assert "with 3 workers" in out and "Minutes assume 3 free cores" in out
        assert not (tmp_path / "r").exists()

    @pytest.mark.slow
    @pytest.mark.parametrize("option", ["-j", "--jobs", "--workers"])
    def test_workers_by_all_their_names(self, run, config, tmp_path, option):
        out = run("sweep", config, "--results", tmp_path / "r", option, 3, "--dry-run")[1]
        assert "with 3 workers" in out

    def test_what_is_stored_is_not_left_out_but_of_shards(self, run, config, tmp_path):
        words = ("sweep", config, "--results", tmp_path, "--workers", 1)
        run(*words)
        words = (*words, "--set", "most_bytes=1", "--dry-run")
        assert "12 cells are stored" in run(*words)[1]
        assert "0 cells (12 too large and left out)" in run(*words, "--shard", "1/2")[1]

    def test_scale_and_set(self, run, config, monkeypatch):
        def widths(*words):
            lines = run("sweep", config, "--dry-run", *words)[1].splitlines()
            return {line.split()[2] for line in lines if line.startswith(("cumulant", "truth"))}

        assert widths() == {"4"}
        assert widths("--scale", "wide") == {"8"}
        monkeypatch.setenv("SCALE", "wide")
        assert widths() == {"8"}
        assert widths("--set", "network.width=[16, 32]") == {"16", "32"}

    def test_failed_cells_exit_with_3(self, run, config, plugin, tmp_path):
        words = ("sweep", config, "--results", tmp_path, "--workers", 1, "--plugin", plugin)
        code, out, err = run(*words, "--set", "estimators.0={name: failing}")
        assert code == 3
        assert "failing width=4 depth=1 seed=0: failed: it never works; take another" in err
        assert "monte_carlo" in out
        code, out, _ = run("status", tmp_path)
        assert code == 0
        assert out.count("failed: it never works; take another") == 4

    def test_nothing_but_failed_cells(self, run, config, plugin, tmp_path):
        words = ("sweep", config, "--results", tmp_path, "--workers", 1, "--plugin", plugin)
        assert run(*words, "--set", "estimators=[{name: failing}]")[0] == 3


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "code", "line"),
        [
            (("sweep", "nope.yaml"), 2, "nope.yaml: cannot be read: No such file or directory"),
            (("sweep", "{config}", "--set", "network.width=0"), 2, "--set network.width=0"),
            (("sweep", "{config}", "--scale", "broken"), 2, "{config}:7:65 network.width: must be"),
            (("sweep", "{config}", "--scale", "big"), 2, "{config}: no scale 'big'; it has wide"),
            (("sweep", "{config}", "--workers", "0"), 2, "Usage: cumprop sweep"),
            (("sweep", "{config}", "--plugin", "nope.py"), 2, "--plugin "),
            (("sweeep",), 2, "Usage: cumprop"),
            (("score", "nowhere"), 1, "nowhere: no"),
            (("plot", "nowhere"), 1, "nowhere: no"),
            (("status", "nowhere"), 1, "nowhere: no such folder"),
            (("estimate", "nope.npz"), 1, "nope.npz"),
            (("estimate", "{net}", "--estimator", "nope"), 2, "unknown estimator 'nope'"),
            (("estimate", "{net}", "--order", "9"), 2, "order 9: choose 1 to"),
            (("estimate", "{net}", "--order", "x"), 2, "Usage: cumprop estimate"),
            (("estimate", "{net}", "--set", "engine=dense"), 2, "parameter 'engine' of estimator "),
            (("estimate", "{net}", "--set", "odrer=2"), 2, "estimator cumulant has no parameter"),
            (("estimate", "{net}", "--set", "order"), 2, "--set order: write --set key=value"),
            (("estimate", "{net}", "--tolerance", "-1"), 2, "Usage"),
        ],
    )
    def test_a_mistake_is_one_line_and_a_code(self, run, config, net, words, code, line):
        places = {"config": config, "net": net}
        found, out, err = run(*(word.format(**places) for word in words))
        assert (found, out) == (code, "")
        assert err.startswith(line.format(**places)), err
        assert "Traceback" not in err
        assert len(err.splitlines()) == 1 or err.startswith("Usage")

    def test_an_unreadable_network(self, run, tmp_path):
        path = tmp_path / "net.npz"
        path.write_bytes(b"no zip")
        code, _, err = run("estimate", path)
        assert (code, len(err.splitlines())) == (1, 1)

    def test_a_broken_plugin(self, run, config, tmp_path):
        path = tmp_path / "broken.py"
        path.write_text("import nothing_of_that_name\n")
        code, _, err = run("sweep", config, "--plugin", path)
        assert code == 2
        assert (
            err == f"--plugin {path}: ModuleNotFoundError: No module named 'nothing_of_that_name'\n"
        )

    def test_interrupt(self, run, config, monkeypatch):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("cumprop.experiments.config.load", interrupt)
        code, _, err = run("validate", config)
        assert (code, len(err.strip().splitlines())) == (130, 1)

    @pytest.mark.parametrize("words", [("--debug", "validate"), ("validate", "--debug")])
    def test_debug_shows_the_traceback(self, run, config, monkeypatch, words):
        def fail(*_):
            raise RuntimeError("inside")

        monkeypatch.setattr(import_module("cumprop.cli.sweep"), "_problems", fail)
        assert (
            run("validate", config)[2] == "unexpected RuntimeError: inside; --debug shows where\n"
        )
        with pytest.raises(RuntimeError, match="inside"):
            run(*words, config)


class TestValidate:
    def test_all_scales_are_checked(self, run, config):
        code, _, err = run("validate", config)
        assert (code, err) == (2, f"{config}:7:65 network.width: must be at least 1, got 0\n")

    def test_all_files_are_checked(self, run, tmp_path):
        for name in "ab":
            (tmp_path / f"{name}.yaml").write_text(CONFIG.replace("1000", "-1"))
        code, _, err = run("validate", tmp_path / "a.yaml", tmp_path / "b.yaml")
        assert code == 2
        assert err.count("truth.n_samples: must be at least 2, got -1") == 2

    @pytest.mark.slow
    def test_shipped_configs(self, run):
        assert run("validate", *sorted((ROOT / "configs").glob("*.yaml")))[0] == 0


class TestEstimate:
    def test_json(self, run, net):
        code, out, _ = run("estimate", net, "--order", 2, "--cov", "--format", "json")
        report = json.loads(out)
        expected = cumprop.estimate(cumprop.load(net), "cumulant", order=2, cov=True)
        assert code == 0
        np.testing.assert_allclose(report["mean"], expected.mean, rtol=1e-12)
        np.testing.assert_allclose(report["cov"], expected.cov, rtol=1e-12)
        np.testing.assert_allclose(report["std"], np.sqrt(np.diag(expected.cov)), rtol=1e-12)
        assert report["flops"] == sum(report["flops_components"].values()) > 0
        assert (report["stderr"], report["status"]) == (None, expected.status)
        assert report["expected_error"] == pytest.approx(expected.expected_error)

    def test_monte_carlo(self, run, net):
        words = ("estimate", net, "--estimator", "monte_carlo", "--format", "json")
        few = json.loads(run(*words, "--n-samples", 64)[1])
        assert few["n_samples"] == 64
        assert len(few["stderr"]) == 4
        assert json.loads(run(*words, "--n-samples", 64)[1])["mean"] == few["mean"]
        assert json.loads(run(*words, "--n-samples", 64, "--seed", 1)[1])["mean"] != few["mean"]
        assert json.loads(run(*words, "--tolerance", 0.1)[1])["n_samples"] == 100

    def test_table(self, run, net):
        code, out, _ = run("estimate", net, "--set", "order=2")
        lines = out.splitlines()
        assert code == 0
        assert lines[0].split() == ["output", "mean", "±", "95%", "s.d."]
        assert [line.split()[0] for line in lines[1:5]] == ["0", "1", "2", "3"]
        expected = cumprop.estimate(cumprop.load(net), "cumulant", order=2, cov=True)
        assert expected.status in out

    def test_long_tables_are_cut(self, run, tmp_path):
        path = tmp_path / "wide.npz"
        cumprop.random_mlp(width=30, depth=1, seed=0).save(path)
        assert "… 10 more; --format json has them all" in run("estimate", path)[1]


def test_list(run, monkeypatch, plugin):
    monkeypatch.chdir(ROOT)
    code, out, _ = run("list", "--plugin", plugin)
    assert code == 0
    for word in ("cumulant", "order=", "failing", "relu", "mse_vs_flops", "configs/relu_w256.yaml"):
        assert word in out


def test_doctor(run, tmp_path):
    code, out, _ = run("doctor", "--results", tmp_path)
    assert code == 0
    assert out.rstrip().endswith("all is well")
    (tmp_path / "file").touch()
    code, out, _ = run("doctor", "--results", tmp_path / "file")
    assert code == 2  # click: not a folder
    code, out, _ = run("doctor", "--results", tmp_path / "file" / "below")
    assert (code, "cannot be written" in out) == (1, True)
