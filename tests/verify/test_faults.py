"""Faults at random moments: after each, a rerun gives the table of an undisturbed run."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers import harness

from cumprop.contract import load_plugin
from cumprop.contract.plugins import temporary_plugins
from cumprop.experiments import columns
from cumprop.experiments.config import load
from cumprop.results import compaction, part_files, store
from cumprop.sweep.sweep import plan, run

pytestmark = pytest.mark.verify

CELLS, SECONDS, SEEDS = 12, 0.1, 20
TABLE_IS = "every rerun gives the table of an undisturbed run"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """undisturbed(cells): the table of a sweep that nothing happened to."""
    tables = {}

    def undisturbed(cells=CELLS):
        if cells not in tables:
            sweep = harness.Sweep(tmp_path_factory.mktemp("undisturbed"), cells)
            with temporary_plugins():
                load_plugin(sweep.plugin)
                run(plan(load(sweep.config), "test"), sweep.results)
            tables[cells] = sweep.table()
        return tables[cells]

    return undisturbed


@pytest.fixture
def survives(tmp_path, undisturbed, record):
    """survives(claim, disturb): `disturb(sweep, rng)` for every seed, then a rerun, compared."""

    def survives(claim, disturb, seeds=SEEDS):
        kept = []
        for seed in range(seeds):
            sweep = harness.Sweep(tmp_path / str(seed), CELLS)
            disturb(sweep, random.Random(seed))
            kept.append(sweep.n_stored())
            said = sweep.finish()
            assert f"{CELLS} cells ({kept[-1]} already there)" in said
            sweep.assert_is(undisturbed())
        measured = f"{seeds} times, with {min(kept)} to {max(kept)} of {CELLS} rows there"
        record(f"{claim}, {seeds} seeds", measured, TABLE_IS, True)

    return survives


@pytest.mark.parametrize(("workers", "seeds"), [(1, SEEDS), (2, 6)])
def test_kill_9_of_the_parent(survives, workers, seeds):
    def disturb(sweep, rng):
        process = sweep.start(workers=workers, seconds=SECONDS)
        sweep.wait_for(rng.randrange(CELLS), process)
        time.sleep(rng.uniform(0, SECONDS))
        harness.kill(process, "parent", rng)
        process.communicate()  # the pipes close when the last worker has ended

    survives(f"kill -9 of the parent, {workers} workers", disturb, seeds)


def test_kill_9_of_a_worker(survives):
    def disturb(sweep, rng):
        process = sweep.start(workers=2, seconds=SECONDS)
        sweep.wait_for(1 + rng.randrange(CELLS // 2), process)
        harness.kill(process, "worker", rng)
        said = harness.ended(process)
        assert process.returncode == 0, said
        assert sweep.n_stored() == CELLS

    survives("kill -9 of one of two workers, whose cell is run again", disturb)


def test_kill_9_of_a_dask_worker(survives, tmp_path):
    """Of one of two, in mid-cell; the other takes over its cell."""
    pytest.importorskip("distributed", reason="dask is not installed: pip install dask distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dask, address = [sys.executable, "-m", "dask"], f"tcp://127.0.0.1:{port}"
    head = [*dask, "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]
    worker = [*dask, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    worker += ["--local-directory", tmp_path]

    def disturb(sweep, rng):
        workers = [harness.started(worker, TOY_SECONDS=str(SECONDS)) for _ in range(2)]
        try:
            process = sweep.start("--engine", "dask", "--scheduler", address)
            sweep.wait_for(1 + rng.randrange(CELLS // 2), process)
            time.sleep(rng.uniform(0, SECONDS))
            workers[rng.randrange(2)].kill()
            said = harness.ended(process)
            assert process.returncode == 0, said
            assert sweep.n_stored() == CELLS
        finally:
            for process in workers:
                process.kill()
                process.communicate()

    scheduler = harness.started(head)
    try:
        survives("kill -9 of one of two dask workers in mid-cell", disturb, 5)
    finally:
        scheduler.kill()
        scheduler.communicate()


def test_ctrl_c(survives):
    def disturb(sweep, rng):
        process = sweep.start(workers=1, seconds=SECONDS)
        sweep.wait_for(1 + rng.randrange(CELLS - 2), process)
        os.killpg(process.pid, signal.SIGINT)
        assert "what is finished is kept" in harness.ended(process)
        assert process.returncode == 130

    survives("Ctrl-C", disturb)


def test_two_sweeps_and_a_compaction_at_once(survives):
    def disturb(sweep, rng):
        both = [sweep.start(seconds=SECONDS), sweep.start(seconds=SECONDS)]
        sweep.wait_for(1 + rng.randrange(CELLS - 2), both[0])
        both.append(sweep.compact())
        for process in both:
            said = harness.ended(process)
            assert process.returncode == 0, said
        with pytest.raises(StopIteration):
            next(sweep.parts.glob("*.corrupt"))
        for row in store.read_folder(sweep.parts.parent):  # as parts, to be counted
            store.write_part(sweep.parts, row)

    survives("two sweeps and a compaction at once on one folder", disturb)


@pytest.mark.parametrize(("what", "cells"), [("sweep", 8), ("compact", 16)])
def test_kill_9_at_every_step_on_disk(tmp_path, record, what, cells):
    words = [sys.executable, "-m", "helpers.every_step", what, tmp_path / "f", cells]
    tests = Path(harness.__file__).parents[1]
    done = subprocess.run([*map(str, words)], cwd=tests, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    claim = f"kill -9 of {what} ({cells} cells) before every fsync, rename, unlink, link, mkdir"
    record(claim, f"{done.stdout.strip()} kills", TABLE_IS, int(done.stdout) > 2 * cells)


@pytest.mark.parametrize("compacted", [False, True])
def test_flipped_bits_and_truncations(tmp_path, record, undisturbed, compacted, capsys):
    sweep = harness.Sweep(tmp_path, CELLS)
    sweep.finish()
    if compacted:
        compaction.compact(sweep.parts.parent)
        path, read = sweep.parts.parent / store.COMPACTED, harness.read_compacted
    else:
        path, read = next(sweep.parts.glob("*.parquet")), harness.read_part
    n = 3000 if compacted else path.stat().st_size
    found = harness.damage(path, read, np.random.default_rng(0), n, every=not compacted)
    named = capsys.readouterr().err.count("arquet: ")
    where = "at 3,000 places of a compacted file" if compacted else "at every byte of a part"
    claim = f"a bit flipped, and a cut, {where}"
    measured = f"{found['refused']:,} refused by name, {found['read']:,} read as they were"
    measured += f", {found['wrong']} wrong"
    record(claim, measured, "none wrong", not found["wrong"] and named == found["refused"])
    for aside in path.parent.glob("*.corrupt*"):
        aside.unlink()
    sweep.assert_is(undisturbed())


@contextmanager
def small_disk(folder, size):
    """A file system of so many bytes."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _mount(*words):
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting takes root: {done.stderr.strip()}")


def test_full_disk(tmp_path, record, undisturbed):
    kept = []
    for seed, size in enumerate(range(40_960, 200_000, 16_384)):
        sweep = harness.Sweep(tmp_path / str(seed), CELLS)
        with small_disk(sweep.results, size):
            process = sweep.start()
            said = harness.ended(process)
            line = said.splitlines()[-1]
            assert process.returncode == 1, said
            assert "No space left on device" in line and "what is finished is kept" in line
            kept.append(len(store.read_rows(sweep.results)))
            _mount("-o", f"remount,size={10**7}", sweep.results)
            assert f"({kept[-1]} already there)" in sweep.finish()
            sweep.assert_is(undisturbed())
    measured = f"exit 1 and one line, {len(kept)} sizes, {min(kept)} to {max(kept)} rows kept"
    record("a disk that is full at some row", measured, f"that; {TABLE_IS}", max(kept) > 3)


def test_read_only_disk(tmp_path, record, undisturbed):
    sweep = harness.Sweep(tmp_path / "f", CELLS)
    with small_disk(sweep.results, 10**7):
        sweep.finish()
        before = sweep.table()
        next(sweep.parts.glob("*.parquet")).unlink()
        _mount("-o", "remount,ro", sweep.results)
        for process in (sweep.start(), sweep.compact()):
            said = harness.ended(process)
            line = said.splitlines()[-1]
            assert process.returncode == 1, said
            assert "Read-only file system; what is finished is kept" in line
        assert len(store.read_rows(sweep.results)) == CELLS - 1
        _mount("-o", "remount,rw", sweep.results)
        sweep.finish()
        assert sweep.table().equals(before)
        sweep.assert_is(undisturbed())
    record("a read-only disk", "exit 1 and one line", f"that; {TABLE_IS}", True)


def test_soak(tmp_path, record, undisturbed):
    """Sweeps killed with all workers, single workers killed, compactions killed, to the end."""
    rng, n = random.Random(0), 2000
    sweep = harness.Sweep(tmp_path, n)
    start, kills = time.monotonic(), {"parent": 0, "worker": 0, "compact": 0}
    process = sweep.start(workers=2)
    while sum(kills.values()) < 15:
        sweep.wait_for(sweep.n_stored() + rng.randrange(20, 150), process)
        if process.poll() is not None:
            break
        which = rng.choice(["parent", "worker"])
        harness.kill(process, which, rng)
        kills[which] += 1
        if which == "worker":
            continue  # which the sweep outlives
        harness.ended(process)
        if rng.random() < 0.5:
            compaction = sweep.compact()
            time.sleep(rng.uniform(0.5, 3))
            kills["compact"] += compaction.poll() is None
            compaction.kill()
            compaction.communicate()
        process = sweep.start(workers=2)
    harness.ended(process)
    sweep.finish()
    minutes = (time.monotonic() - start) / 60
    sweep.assert_is(undisturbed(n))
    how = ", ".join(f"{count} of {which}" for which, count in kills.items())
    record(
        f"rows of a sweep of {n:,} cells after {sum(kills.values())} random kills ({how})",
        f"{len(sweep.table()):,} in {minutes:.1f} minutes",
        f"{n:,}, each as undisturbed, after 10 kills at least",
        len(sweep.table()) == n and sum(kills.values()) >= 10,
    )


def test_reading_10_000_compacted_rows(tmp_path, record):
    n, folder = 10_000, tmp_path / "test"
    sweep = harness.Sweep(tmp_path / "f", 2)
    sweep.finish()
    (row, _) = store.read_folder(sweep.parts.parent)
    row |= {"mean": row["mean"] * 64, "stderr": row["mean"] * 64}  # width 256
    keys = [f"{i:016x}" for i in range(n)]
    rows = [row | {"cell_key": key, "parameters": key} for key in keys]
    (folder / "parts").mkdir(parents=True)
    table = pa.Table.from_pylist(rows, schema=columns.SCHEMA)
    (folder / store.COMPACTED).write_bytes(part_files.to_bytes(table))
    code = "import sys, time; from cumprop import store; start = time.process_time(); "
    code += "rows = store.read_rows(sys.argv[1]); print(len(rows), time.process_time() - start)"
    runs = [subprocess.check_output([sys.executable, "-c", code, tmp_path]) for _ in range(3)]
    found = sorted((float(run.split()[1]), int(run.split()[0])) for run in runs)
    seconds = found[1][0]
    record(
        f"reading {n:,} compacted rows of width 256, as `score` does, median of 3",
        f"{seconds:.2f} s of one core",
        "≤ 3 s, all rows",
        seconds <= 3 and {rows for _, rows in found} == {n},
    )
