"""Sweeps in processes of their own: killed, run twice at once, interrupted."""

import os
import signal

import pytest
from helpers import harness

from cumprop.results import store

pytestmark = pytest.mark.slow


@pytest.fixture
def sweep(tmp_path):
    """Eight cells."""
    return harness.Sweep(tmp_path)


@pytest.fixture
def start(sweep):
    """Starts the sweep, slow, with so many workers; nothing outlives the test."""
    processes = []

    def start(workers):
        processes.append(sweep.start(workers=workers, seconds=0.4))
        return processes[-1]

    yield start
    for process in processes:
        with process:
            process.kill()


def contents(sweep):
    return {path.name: path.read_bytes() for path in sweep.parts.glob("*.parquet")}


def assert_complete(sweep):
    planned = store.read_plan(sweep.parts.parent)
    assert sorted(path.stem for path in sweep.parts.glob("*.parquet")) == planned
    rows = store.read_rows(sweep.results)
    assert sorted(rows["cell_key"]) == planned and len(planned) == 8
    assert (rows["status"] == "ok").all()


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_then_rerun(sweep, start, workers):
    process = start(workers)
    sweep.wait_for(2, process, timeout=30)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = contents(sweep)
    assert 2 <= len(before) < 8
    process = start(workers)
    said = harness.ended(process, timeout=60)
    assert process.returncode == 0, said
    assert f"8 cells ({len(before)} already there)" in said
    assert before.items() <= contents(sweep).items()
    assert_complete(sweep)


def test_workers_end_with_a_killed_parent(sweep, start):
    process = start(2)
    sweep.wait_for(2, process, timeout=30)
    process.kill()
    process.communicate(timeout=30)  # the pipe closes when the last worker has ended
    assert 2 <= sweep.n_stored() < 8


def test_two_at_once(sweep, start):
    for process in [start(1), start(1)]:
        said = harness.ended(process, timeout=60)
        assert process.returncode == 0, said
    assert_complete(sweep)
    assert not list(sweep.parts.glob("*.corrupt"))
    assert not list(sweep.parts.glob(".*.tmp"))


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c(sweep, start, workers):
    process = start(workers)
    sweep.wait_for(2, process, timeout=30)
    os.killpg(process.pid, signal.SIGINT)
    said = harness.ended(process, timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("interrupted; what is finished is kept")
    assert 2 <= sweep.n_stored() < 8
