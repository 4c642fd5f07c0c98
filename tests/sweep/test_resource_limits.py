"""Limits: tasks wait for memory that others hold, fail where there is none, and keep their time."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cumprop import CumpropError
from cumprop.memory import oom_kills, resident_memory
from cumprop.sweep import resource_limits

MB = 10**6

HOLD = """
import sys, time
from pathlib import Path
from cumprop.sweep import resource_limits as limits
limits.free_memory = limits.recently_free_memory = lambda: 100_000_000
limits.tempfile.gettempdir = lambda: sys.argv[1]
with limits.memory(60_000_000):
    Path(sys.argv[1], "held").touch()
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """100 MB are free, and nobody else claims any."""
    for name in ("free_memory", "recently_free_memory"):
        monkeypatch.setattr(resource_limits, name, lambda: 100 * MB)
    monkeypatch.setattr(resource_limits, "resident_memory", lambda pid: 0)
    monkeypatch.setattr(resource_limits.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(resource_limits, "_POLL_SECONDS", 0.01)


def test_claims_together_fit_into_what_is_free():
    """Of twelve tasks of 20 to 60 MB, those at work never take more than 100 MB."""
    held, most, done = [], [], []

    def work(size):
        with resource_limits.memory(size * MB):
            held.append(size)
            most.append(sum(held))
            time.sleep(0.02)
            held.remove(size)
        done.append(size)

    sizes = [20, 60, 30] * 4
    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == sorted(sizes)
    assert 60 < max(most) <= 100


def test_what_can_never_fit_fails_with_the_numbers():
    message = r"needs 0.2 GB, 0.1 GB are free; use fewer --workers"
    with pytest.raises(CumpropError, match=message), resource_limits.memory(200 * MB):
        pass


def test_what_an_owner_has_allocated_is_not_counted_twice(monkeypatch):
    with resource_limits.memory(60 * MB):
        monkeypatch.setattr(resource_limits, "resident_memory", lambda pid: 50 * MB)
        with resource_limits.memory(85 * MB):  # 100 are left, 10 of them still to come
            pass


def test_claims_of_the_killed_are_void(tmp_path):
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)])
    while not (tmp_path / "held").exists():
        assert owner.poll() is None
        time.sleep(0.05)
    waiting = threading.Thread(target=lambda: resource_limits.memory(60 * MB).__enter__())
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    owner.kill()
    owner.wait()
    waiting.join(10)
    assert not waiting.is_alive()


def test_an_owner_may_end_while_its_claim_is_read(monkeypatch):
    flock = resource_limits.fcntl.flock

    def ends_behind(file, how):
        try:
            flock(file, how)
        except BlockingIOError:
            Path(file.name).unlink()
            raise

    monkeypatch.setattr(resource_limits.fcntl, "flock", ends_behind)
    with resource_limits.memory(60 * MB), resource_limits.memory(30 * MB):
        pass


def test_small_tasks_leave_no_trace(tmp_path):
    with resource_limits.memory(MB // 100):
        assert list(tmp_path.iterdir()) == []


def busy(caught, ended):
    try:
        with resource_limits.time_limit(0.1, lambda: (caught.append("stuck"), ended.set())):
            end = time.monotonic() + 20
            while time.monotonic() < end and not ended.is_set():
                pass
    except CumpropError as error:
        caught.append(str(error))


def test_a_loop_is_interrupted():
    caught = []
    busy(caught, threading.Event())
    assert caught == ["took longer than 0.1 seconds; raise --time-limit or lower the order"]


def test_a_thread_that_cannot_be_interrupted_is_given_up():
    caught = []
    thread = threading.Thread(target=busy, args=(caught, threading.Event()))
    thread.start()
    thread.join(10)
    assert not thread.is_alive() and caught == ["stuck"]


def test_what_is_in_time_is_left_alone():
    with resource_limits.time_limit(0.05, pytest.fail):
        pass
    time.sleep(0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_the_machine_is_asked():
    assert resident_memory(os.getpid()) > 10 * MB
    assert resident_memory(-1) == 0
    assert oom_kills() >= 0
