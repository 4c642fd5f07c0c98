"""Engines: the same tables on all of them, and tasks that outlive their workers."""

import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import harness

from cumprop.cli import main
from cumprop.contract import load_plugin
from cumprop.contract.plugins import temporary_plugins
from cumprop.errors import ConfigError
from cumprop.experiments.config import load
from cumprop.results import store
from cumprop.sampling import load as load_truth
from cumprop.sweep import engines
from cumprop.sweep.engines import Place
from cumprop.sweep.sweep import plan, run

pytestmark = pytest.mark.slow

CONFIG = """\
network: {width: [3, 4], depth: 2, seeds: 2, dtype: float64, readout: tail(0.5)}
truth: {n_samples: 3e5, design: importance}
estimators:
  - {name: cumulant, order: [1, 2, 3]}
  - {name: monte_carlo, n_samples: 100, repeats: 2}
"""

TROUBLE = """
import os, signal, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import numpy as np
from cumprop.contract import Cost, Estimate, Estimator, register

@register("trouble")
@dataclass(frozen=True)
class Trouble(Estimator):
    version: ClassVar[int] = 1
    kills: int = 0          # its worker, so many times
    seconds: float = 0.0
    stuck: bool = False
    value: float = 1.0
    folder: str = ""

    def estimate(self, network, *, cov=False, rng=None):
        for i in range(self.kills):
            try:
                Path(self.folder, f"killed-{self.kills}-{i}").open("x").close()
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        if self.stuck:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        time.sleep(self.seconds)
        return Estimate(np.full(network.widths[-1], self.value), ())

    def predict_cost(self, shape):
        return Cost(10**10, 0)

    @classmethod
    def from_tolerance(cls, tolerance, shape, **parameters):
        return cls(**parameters)
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A plugin file, the same for all tests: their worker processes are."""
    plugin = tmp_path_factory.mktemp("plugin") / "trouble.py"
    plugin.write_text(TROUBLE)
    with temporary_plugins():
        load_plugin(plugin)
        yield plugin


@pytest.fixture
def trouble(tmp_path, plugin):
    """Runs estimators that make trouble, given their parameters, on a network; the summary."""

    def trouble(entries, place=None, seconds=None):
        place = place or Place(workers=2)
        estimators = [{"name": "trouble", "folder": str(tmp_path), **entry} for entry in entries]
        path = tmp_path / "trouble.yaml"
        harness.write_config(path, estimators, n_samples=2)
        return run(plan(load(path), "trouble"), tmp_path, place, plugins=[plugin], seconds=seconds)

    return trouble


def sweep(tmp_path, name, *options):
    """Run the sweep of CONFIG into a folder of its own; returns its table and truths."""
    config = tmp_path / "test.yaml"
    config.write_text(CONFIG)
    results = tmp_path / name
    assert main(["sweep", str(config), "--results", str(results), *options]) == 0
    return results


def contents(results):
    """All numbers of a results folder: rows by key, truths by key."""
    rows = store.read_rows(results).set_index("cell_key").sort_index()
    rows = rows.drop(columns=harness.MEASURED).to_dict("index")
    truths = {path.name: load_truth(path.parent, path.name) for path in results.glob("truth/*/")}
    return rows, truths


def assert_same(results, expected):
    """Bit by bit."""
    (rows, truths), (expected_rows, expected_truths) = contents(results), contents(expected)
    assert len(rows) == 20 and len(truths) == 4
    np.testing.assert_equal(rows, expected_rows)
    assert truths.keys() == expected_truths.keys()
    for key, truth in truths.items():
        assert truth.chunks == expected_truths[key].chunks == 147
        np.testing.assert_array_equal(truth.sums, expected_truths[key].sums)
        np.testing.assert_array_equal(truth.squares, expected_truths[key].squares)


def wait_for(port):
    """Return when something listens at a port."""
    for _ in range(1200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("no scheduler in 2 minutes")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What one process computes."""
    return sweep(tmp_path_factory.mktemp("engines"), "expected", "--workers", "1")


class TestSameTables:
    """Of 20 cells and 4 truths of 3 blocks each."""

    def test_local(self, tmp_path, expected):
        assert_same(sweep(tmp_path, "local", "--workers", "2"), expected)

    def test_shards(self, tmp_path, expected):
        for i in (3, 1, 4, 2):
            results = sweep(tmp_path, "shards", "--workers", "1", "--shard", f"{i}/4")
        assert_same(results, expected)

    def test_slurm(self, tmp_path, expected):
        """On submitit's local executor, where there is no Slurm."""
        pytest.importorskip("submitit")
        results = sweep(tmp_path, "slurm", "--engine", "slurm", "--workers", "2")
        assert_same(results, expected)
        assert not (results / ".slurm").exists()

    def test_dask(self, tmp_path, expected):
        """On two workers of a scheduler, as the commands of dask start them."""
        pytest.importorskip("distributed")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        dask = [sys.executable, "-m", "dask"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
        port = address.rpartition(":")[2]
        head = [*dask, "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]
        worker = [*dask, "worker", address, "--nthreads", "1", "--nworkers", "2", "--no-dashboard"]
        started = [subprocess.Popen(command, **quiet) for command in (head, worker)]
        try:
            wait_for(int(port))
            results = sweep(tmp_path, "dask", "--engine", "dask", "--scheduler", address)
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(30)
        assert_same(results, expected)


class TestLostWorkers:
    def test_their_tasks_are_run_again(self, trouble, tmp_path):
        summary = trouble([{"kills": [1, 2]}, {"value": [1, 2, 3, 4, 5, 6]}])
        assert (summary.computed, summary.failed) == (8, [])
        assert len(list(tmp_path.glob("killed-*"))) == 3

    def test_a_task_that_kills_every_worker_fails_alone(self, trouble, tmp_path):
        summary = trouble([{"kills": 9}, {"value": [1, 2, 3, 4]}])
        assert (summary.computed, len(summary.failed)) == (4, 1)
        assert len(list(tmp_path.glob("killed-*"))) == 4
        rows = store.read_rows(tmp_path)
        (note,) = rows.loc[rows["outcome"] == "failed", "note"]
        assert note.startswith("its worker process was killed, 4 times; ")


class TestTimeLimit:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_slow_cell_fails_and_the_others_go_on(self, trouble, workers):
        summary = trouble([{"seconds": 90}, {"value": [2, 3]}], Place(workers=workers), 3)
        assert (summary.computed, len(summary.failed)) == (2, 1)
        assert "took longer than 3 seconds" in summary.failed[0].reason

    def test_a_cell_that_cannot_be_interrupted_ends_its_worker(self, trouble):
        start = time.monotonic()
        summary = trouble([{"seconds": 90, "stuck": True}, {"value": [2, 3]}], Place(), 3)
        assert time.monotonic() - start < 80
        assert (summary.computed, len(summary.failed)) == (2, 1)
        assert "took longer than 3 seconds" in summary.failed[0].reason


class TestMistakes:
    def test_an_unknown_engine(self):
        with pytest.raises(ConfigError, match="choose one of local, dask, slurm"):
            list(engines.outcomes([None], None, Place("cloud"), None))

    @pytest.mark.parametrize(("name", "module"), [("dask", "dask"), ("slurm", "submitit")])
    def test_a_missing_extra(self, monkeypatch, name, module):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, f"cumprop.sweep.engines.{name}", raising=False)
        with pytest.raises(ConfigError) as error:
            list(engines.outcomes([None], None, Place(name), None))
        assert str(error.value) == (
            f"--engine {name} needs {module}: pip install 'cumprop[{name}]'"
        )

    def test_a_scheduler_that_is_not_there(self, tmp_path, capsys, monkeypatch):
        pytest.importorskip("distributed")
        monkeypatch.setattr("cumprop.sweep.engines.dask._CONNECT_SECONDS", 0.5)
        (tmp_path / "test.yaml").write_text(CONFIG)
        words = ["sweep", str(tmp_path / "test.yaml"), "--results", str(tmp_path)]
        assert main([*words, "--engine", "dask", "--scheduler", "tcp://127.0.0.1:9"]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("no dask scheduler at tcp://127.0.0.1:9; start one with")

    def test_a_scheduler_for_another_engine(self, tmp_path, capsys):
        (tmp_path / "test.yaml").write_text(CONFIG)
        words = ["sweep", str(tmp_path / "test.yaml"), "--scheduler", "tcp://127.0.0.1:9"]
        assert main(words) == 2
        assert "--scheduler goes with --engine dask" in capsys.readouterr().err
