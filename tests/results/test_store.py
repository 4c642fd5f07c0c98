"""Parts on disk: complete or absent, read back as written, damage never fatal."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers import harness

from cumprop import files
from cumprop.errors import CumpropError
from cumprop.experiments import columns
from cumprop.results import compaction, part_files, store

README = Path(__file__).parents[2] / "results" / "README.md"


def row(key="a" * 16, **columns):
    defaults = {
        "cell_key": key,
        "config": "test",
        "width": 2,
        "depth": 1,
        "seed": 0,
        "estimator": "toy",
        "estimator_version": 1,
        "parameters": key,
        "outcome": "done",
        "status": "ok",
        "mean": [0.1, 1e-300],
    }
    return defaults | columns


@pytest.fixture
def parts(tmp_path):
    return tmp_path / "test" / "parts"


def test_round_trip(parts):
    path = store.write_part(parts, row(order=3, tolerance=1e-6))
    assert path.name == "a" * 16 + ".parquet"
    back = harness.read_part(path)
    assert back["mean"] == [0.1, 1e-300]
    assert (back["order"], back["tolerance"], back["kind"]) == (3, 1e-6, None)
    assert back["schema_version"] == columns.SCHEMA_VERSION
    assert list(back) == columns.SCHEMA.names


@pytest.mark.parametrize("name", ["note", "mean"])
def test_a_table_with_other_columns_is_foreign(parts, name, capsys):
    fewer = columns.SCHEMA.remove(columns.SCHEMA.get_field_index(name))
    content = {key: value for key, value in row().items() if key != name}
    parts.mkdir(parents=True)
    path = parts / f"{'a' * 16}.parquet"
    path.write_bytes(part_files.to_bytes(part_files.from_row(content, fewer)))
    assert harness.read_part(path) is None
    assert f", not {name} (" in capsys.readouterr().err
    store.write_part(parts, row())
    assert f"; set aside as {'a' * 16}.foreign" in capsys.readouterr().err
    assert path.with_suffix(".foreign").exists()
    assert harness.read_part(path)["cell_key"] == "a" * 16


def test_the_kind_of_a_table_stands_in_its_file(tmp_path, parts):
    """Not in its columns: a row of runs may lack a method."""
    path = store.write_part(parts, row())
    assert pq.read_schema(path).metadata[columns.KIND] == b"cells"
    assert store.is_sweep(tmp_path / "test")
    run = {"cell_key": "b" * 16, "config": "other", "outcome": "done"}
    path = store.write_part(tmp_path / "other" / "parts", run, columns.RUN_SCHEMA)
    assert pq.read_schema(path).metadata[columns.KIND] == b"runs"
    assert not store.is_sweep(tmp_path / "other")
    compaction.compact(tmp_path / "other")
    assert not store.is_sweep(tmp_path / "other")


def test_a_table_that_names_no_kind_is_foreign(parts, capsys):
    path = store.write_part(parts, row())
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert harness.read_part(path) is None
    assert "its metadata name no kind" in capsys.readouterr().err


def test_a_part_of_an_older_schema_is_set_aside_by_its_number_when_it_is_written_anew(
    parts, capsys
):
    """Whatever its columns were."""
    parts.mkdir(parents=True)
    path = parts / f"{'a' * 16}.parquet"
    pd.DataFrame({"schema_version": [1], "cell_key": ["a" * 16]}).to_parquet(path)
    assert harness.read_part(path) is None
    assert capsys.readouterr().err == f"{path}: of schema 1, which is read no more\n"
    store.write_part(parts, row())
    assert path.with_suffix(".v1").exists()


def test_an_unknown_column_is_refused(parts):
    with pytest.raises(CumpropError, match="no such columns: colour"):
        store.write_part(parts, row(colour="red"))


def test_a_root_and_a_folder_read_alike(tmp_path, parts):
    store.write_part(parts, row("a" * 16))
    store.write_part(tmp_path / "other" / "parts", row("b" * 16, config="other"))
    store.write_part(tmp_path / "reference" / "parts", row("c" * 16))
    (tmp_path / "truth").mkdir()
    assert set(store.read_rows(tmp_path)["cell_key"]) == {"a" * 16, "b" * 16}
    assert set(store.read_rows(tmp_path / "test")["cell_key"]) == {"a" * 16}
    assert set(store.read_rows(tmp_path / "reference")["cell_key"]) == {"c" * 16}
    (mean,) = store.read_rows(tmp_path / "test")["mean"]
    np.testing.assert_array_equal(mean, [0.1, 1e-300])


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_no_results_is_one_line(tmp_path, folder):
    with pytest.raises(CumpropError, match="run `cumprop sweep"):
        store.read_rows(tmp_path / folder)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"text that is no parquet at all"])
def test_a_damaged_part_is_named_and_left_until_it_is_written_anew(tmp_path, parts, damage, capsys):
    store.write_part(parts, row("a" * 16))
    (parts / f"{'b' * 16}.parquet").write_bytes(damage)
    for _ in range(2):
        assert len(store.read_rows(tmp_path)) == 1
        assert f"{'b' * 16}.parquet: damaged" in capsys.readouterr().err
    store.write_part(parts, row("b" * 16))
    assert (parts / f"{'b' * 16}.corrupt").read_bytes() == damage
    assert len(store.read_rows(tmp_path)) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_part_is_refused(parts, kept, capsys):
    path = store.write_part(parts, row())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert harness.read_part(path) is None
    assert "damaged" in capsys.readouterr().err
    assert path.exists()


def test_a_foreign_parquet_file_is_refused(parts):
    parts.mkdir(parents=True)
    pd.DataFrame({"a": [1]}).to_parquet(parts / "foreign.parquet")
    assert harness.read_part(parts / "foreign.parquet") is None


def test_the_newest_version_of_an_estimator_counts(tmp_path, parts):
    for key, version in (("c" * 16, 2), ("a" * 16, 1), ("b" * 16, 10)):
        store.write_part(parts, row(key, estimator_version=version, parameters="{}"))
    assert list(store.read_rows(tmp_path)["cell_key"]) == ["b" * 16]


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"before"


def test_only_old_temporary_files_are_leftovers(tmp_path):
    for name in (".old.tmp", ".new.tmp", "old.parquet"):
        (tmp_path / name).touch()
    for name in (".old.tmp", "old.parquet"):
        os.utime(tmp_path / name, (0, 0))
    files.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.tmp", "old.parquet"]


def test_parts_are_as_readable_as_other_files(tmp_path, parts):
    plain = tmp_path / "plain"
    plain.touch()
    assert store.write_part(parts, row()).stat().st_mode == plain.stat().st_mode


def test_plan_round_trip(tmp_path):
    assert store.read_plan(tmp_path) is None
    store.write_plan(tmp_path, ["b", "a"])
    assert store.read_plan(tmp_path) == ["a", "b"]
    (tmp_path / "plan.json").write_text("{")
    assert store.read_plan(tmp_path) is None


def test_data_frames_are_stored(tmp_path):
    table = pd.DataFrame({"vn_mse": [0.1, np.nan], "config": ["a", "b"]})
    store.write_parquet(table, tmp_path / "scores.parquet")
    assert pq.read_table(tmp_path / "scores.parquet").to_pandas().equals(table)


def test_every_column_is_documented():
    text = README.read_text(encoding="utf-8").partition("## Columns of `scores")[0]
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == columns.SCHEMA.names
