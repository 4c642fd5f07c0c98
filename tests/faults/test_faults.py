"""Whatever happens to files, disk, clock and processes: no row is lost, doubled or wrong.

The same at random moments, many times over, is in tests/verify/test_faults.py.
"""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import harness

from cumprop.cli import main
from cumprop.contract import load_plugin
from cumprop.contract.plugins import temporary_plugins
from cumprop.experiments.config import load
from cumprop.results import compaction, store
from cumprop.sweep.sweep import plan, run

pytestmark = pytest.mark.slow


@pytest.fixture
def sweep(tmp_path):
    """Four cells that are not computed yet."""
    sweep = harness.Sweep(tmp_path / "disturbed", 4)
    with temporary_plugins():
        load_plugin(sweep.plugin)
        yield sweep


@pytest.fixture
def undisturbed(sweep, tmp_path):
    """The table of an undisturbed run."""
    other = harness.Sweep(tmp_path / "undisturbed", 4)
    run(plan(load(other.config), "test"), other.results)
    return other.table()


@pytest.fixture
def swept(sweep):
    """The same after its run."""
    run(plan(load(sweep.config), "test"), sweep.results)
    return sweep


@pytest.fixture
def again(sweep, capsys):
    """Runs the command again; returns exit code and what it said."""

    def again():
        words = ["sweep", sweep.config, "--results", sweep.results, "--workers", 1]
        code = main([str(word) for word in (*words, "--plugin", sweep.plugin)])
        return code, capsys.readouterr().err

    return again


@pytest.mark.parametrize(("what", "cells"), [("sweep", 2), ("compact", 4)])
def test_killed_at_every_step_on_disk(what, cells, tmp_path):
    """kill -9 before every fsync, rename, unlink, link and mkdir; then the same again."""
    words = [sys.executable, "-m", "helpers.every_step", what, tmp_path / "f", cells]
    tests = Path(harness.__file__).parents[1]
    done = subprocess.run([*map(str, words)], cwd=tests, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 3 * cells


class TestFiles:
    """Every damage is found, named and mended; a table is right or refused, never wrong."""

    @pytest.mark.parametrize("compacted", [False, True])
    def test_flipped_and_truncated(self, swept, compacted, capsys):
        if compacted:
            compaction.compact(swept.parts.parent)
            path, read = swept.parts.parent / store.COMPACTED, harness.read_compacted
        else:
            path, read = next(swept.parts.glob("*.parquet")), harness.read_part
        found = harness.damage(path, read, np.random.default_rng(0), n=150)
        assert found["wrong"] == 0
        assert found["refused"] > found["read"]
        assert capsys.readouterr().err.count("arquet: ") == found["refused"]

    def test_all_parts_damaged_at_once(self, swept, undisturbed, again):
        rng = np.random.default_rng(1)
        for path in swept.parts.glob("*.parquet"):
            content = path.read_bytes()
            path.write_bytes(content[: rng.integers(len(content))])
        code, said = again()
        assert (code, said.count("set aside as")) == (0, 4)
        swept.assert_is(undisturbed)

    def test_what_others_left(self, swept, undisturbed, again, tmp_path):
        """Somebody's parquet, a text and a folder under names of cells; a row under another's."""
        paths = sorted(swept.parts.glob("*.parquet"))
        row = harness.read_part(paths[0])
        paths[0].unlink()
        paths[0].mkdir()
        (paths[0] / "inside").touch()
        paths[1].write_text("a text")
        store.write_parquet(harness.pd.DataFrame({"cell_key": ["x"], "a": [1]}), paths[2])
        stray = swept.parts / f"{'0' * 16}.parquet"
        stray.write_bytes(paths[3].read_bytes())
        old = store.write_part(swept.parts, row | {"cell_key": "1" * 16, "schema_version": 0})
        code, said = again()
        assert code == 0
        assert f"{paths[0]}: a folder; set aside as {paths[0].stem}.foreign\n" in said
        assert f"{paths[1]}: damaged (" in said
        assert f"{paths[2]}: no table of cumprop (no schema_version); " in said
        assert f"{stray}: the row of {paths[3].stem}\n" in said
        assert f"{old}: of schema 0, which is read no more\n" in said
        assert len(list(swept.parts.glob("*.foreign"))) == 2
        assert len(list(swept.parts.glob("*.corrupt"))) == 1
        code, said = again()
        assert code == 0 and "set aside" not in said and str(stray) in said and str(old) in said
        for path in (stray, old):  # which belong to no cell of the sweep: nobody writes them anew
            path.unlink()
        swept.assert_is(undisturbed)

    def test_a_row_of_a_newer_release_stays(self, swept, capsys):
        row = harness.read_part(next(swept.parts.glob("*.parquet")))
        newer = store.write_part(swept.parts, row | {"cell_key": "2" * 16, "schema_version": 99})
        assert len(store.read_rows(swept.results)) == 4
        assert f"{newer}: of schema 99; a newer cumprop reads it" in capsys.readouterr().err
        assert newer.is_file()


class TestDisk:
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
    @pytest.mark.parametrize("good", [3, 6])
    def test_writing_fails(self, sweep, undisturbed, again, monkeypatch, code, good):
        """From some write on: one line that names folder and remedy, and nothing is lost."""
        writes = iter(range(good))
        sync = os.fsync

        def failing(handle):
            if next(writes, None) is None:
                raise OSError(code, os.strerror(code))
            sync(handle)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing)
            found, said = again()
        line = said.splitlines()[-1]
        assert found == 1
        assert os.strerror(code) in line
        assert str(sweep.results) in line
        assert "what is finished is kept" in line
        assert not list(sweep.results.rglob("*.tmp"))
        before = {path: path.stat().st_mtime_ns for path in sweep.parts.glob("*.parquet")}
        assert again()[0] == 0
        assert before.items() <= {p: p.stat().st_mtime_ns for p in before}.items()
        sweep.assert_is(undisturbed)

    def test_a_part_that_cannot_be_read_is_not_called_damaged(self, swept, again, monkeypatch):
        path, read = next(swept.parts.glob("*.parquet")), Path.read_bytes

        def failing(self):
            if self == path:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
            return read(self)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_bytes", failing)
            code, said = again()
            assert code == 1 and said.startswith(f"{path}: Permission denied; allow access")
        assert path.is_file()

    def test_a_damaged_part_in_a_folder_that_is_read_only(self, swept, monkeypatch, capsys):
        path = next(swept.parts.glob("*.parquet"))
        path.write_bytes(b"")

        def failing(self, target):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(Path, "replace", failing)
        assert len(store.read_rows(swept.results)) == 3
        assert capsys.readouterr().err.startswith(f"{path}: damaged (")


def test_the_clock_goes_backwards(sweep, undisturbed, again, monkeypatch):
    """An hour with every look, and the files there are from next year."""
    clock = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    assert again()[0] == 0
    for path in sweep.parts.iterdir():
        os.utime(path, (2 * 10**9, 2 * 10**9))
    next(sweep.parts.glob("*.parquet")).unlink()
    code, said = again()
    assert (code, "3 already there" in said) == (0, True)
    compaction.compact(sweep.parts.parent)
    sweep.assert_is(undisturbed)
