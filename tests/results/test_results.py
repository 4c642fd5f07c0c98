"""The commands `results`: compact loses and doubles nothing, verify finds all, query only reads."""

import json
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import harness

from cumprop import files
from cumprop.cli import cli, main
from cumprop.cli.results import results as results_group
from cumprop.errors import CumpropError
from cumprop.experiments.columns import SCHEMA
from cumprop.experiments.config import load
from cumprop.results import compaction, part_files, store, verification
from cumprop.sweep.sweep import plan, run

CONFIG = """\
network: {width: 4, depth: [1, 2], seeds: 2, init: {w_var: 2.0}}
truth: {n_samples: 1000}
estimators:
  - {name: cumulant, order: [1, 2]}
  - {name: monte_carlo, tolerance: 0.1}
"""


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The results of a sweep of twelve cells, scored."""
    folder = tmp_path_factory.mktemp("once")
    (folder / "test.yaml").write_text(CONFIG)
    main(["sweep", str(folder / "test.yaml"), "--results", str(folder / "r"), "--workers", "1"])
    return folder


@pytest.fixture
def swept(once, tmp_path):
    """A copy of them that may be changed; `folder` is the configuration's."""
    subprocess.run(["cp", "-r", f"{once}/.", str(tmp_path)], check=True)
    return tmp_path / "r"


@pytest.fixture
def planned(once):
    return plan(load(once / "test.yaml"), "test")


@pytest.fixture
def cli_run(run):
    return partial(run, "results")


def change(path, **columns):
    """Rewrite the row in a part, digest and all."""
    row = harness.read_part(path)
    return store.write_part(path.parent, row | columns)


@pytest.mark.parametrize("name", sorted(results_group.commands))
def test_every_command_has_an_example(cli_run, name):
    code, out, _ = cli_run(name, "--help")
    assert code == 0
    assert f"Example:\n    cumprop results {name}" in out
    assert "results" in cli.commands


class TestCompact:
    def test_rows_stay_as_they_are(self, swept, planned, cli_run):
        before = store.read_rows(swept)
        assert cli_run("compact", swept)[:2] == (
            0,
            "config  parts  rows  failed\ntest       12    12       0\n",
        )
        assert [path.name for path in (swept / "test" / "parts").iterdir()] == []
        pd.testing.assert_frame_equal(store.read_rows(swept), before, check_exact=True)
        summary = run(planned, swept)
        assert (summary.computed, summary.kept) == (0, 12)
        assert cli_run("compact", swept)[1].split()[-3:] == ["0", "12", "0"]

    def test_scores_and_status_know_them(self, swept, capsys):
        def said():
            assert main(["score", str(swept)]) == main(["status", str(swept)]) == 0
            return capsys.readouterr().out

        before = said()
        compaction.compact(swept / "test")
        assert said() == before
        (swept / "test" / "parts").rmdir()  # version control keeps no empty folders
        assert said() == before

    def test_parts_beside_it_are_newer(self, swept):
        folder = swept / "test"
        compaction.compact(folder)
        row = store.read_folder(folder)[0]
        store.write_part(folder / "parts", row | {"truth_n_samples": 7})
        new = dict.fromkeys(("cell_key", "parameters"), "f" * 16)
        store.write_part(folder / "parts", row | new)
        rows = store.read_rows(swept).set_index("cell_key")
        assert len(rows) == 13
        assert rows["truth_n_samples"][row["cell_key"]] == 7
        assert compaction.compact(folder) == compaction.Compaction("test", 2, 13, 0)
        assert store.read_rows(swept).set_index("cell_key").equals(rows)

    def test_failed_rows_stay_and_take_nothing_away(self, swept, planned):
        folder = swept / "test"
        keys = [row["cell_key"] for row in store.read_folder(folder)]
        failed = {"outcome": "failed", "note": "for a test", "status": None, "mean": None}
        change(folder / "parts" / f"{keys[0]}.parquet", **failed)
        assert compaction.compact(folder) == compaction.Compaction("test", 11, 11, 1)
        row = store.read_cell(folder / "parts", keys[1])
        store.write_part(folder / "parts", row | failed)  # as a sweep beside might
        outcomes = {row["cell_key"]: row["outcome"] for row in store.read_folder(folder)}
        assert [key for key, outcome in outcomes.items() if outcome == "failed"] == [keys[0]]
        assert store.read_cell(folder / "parts", keys[1])["outcome"] == "done"
        assert run(planned, swept).computed == 1
        assert verification.verify(folder) == (12, [])

    def test_a_part_written_anew_meanwhile_stays(self, swept, monkeypatch):
        folder = swept / "test"
        path = next((folder / "parts").glob("*.parquet"))
        write = files.write_atomically

        def and_another_process_too(target, content):
            write(target, content)
            if target.name == store.COMPACTED:
                monkeypatch.undo()
                change(path, truth_n_samples=7)

        monkeypatch.setattr(files, "write_atomically", and_another_process_too)
        compaction.compact(folder)
        assert [part.name for part in (folder / "parts").iterdir()] == [path.name]
        rows = store.read_rows(swept).set_index("cell_key")
        assert len(rows) == 12
        assert rows["truth_n_samples"][path.stem] == 7

    def test_one_at_a_time(self, swept):
        folder = swept / "test"
        hold = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), fcntl.LOCK_EX); "
        hold += "print(1, flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", hold, str(folder)], stdin=-1, stdout=-1, text=True
        ) as other:
            other.stdout.readline()
            with pytest.raises(CumpropError, match="is being compacted already"):
                compaction.compact(folder)
            other.communicate("\n")
        assert compaction.compact(folder).rows == 12

    def test_a_row_borrowed_from_what_was_compacted(self, swept, once, planned):
        compaction.compact(swept / "test")
        (swept.parent / "other.yaml").write_text(CONFIG)
        before = store.read_rows(swept).set_index("cell_key")["seconds"]
        run(plan(load(swept.parent / "other.yaml"), "other"), swept)
        rows = store.read_rows(swept / "other").set_index("cell_key")["seconds"]
        assert rows.equals(before)


class TestVerify:
    def test_all_is_well(self, swept, cli_run):
        assert cli_run("verify", swept) == (0, "", "test: 12 rows, 0 problems\n")
        compaction.compact(swept / "test")
        assert cli_run("verify", swept / "test") == (0, "", "test: 12 rows, 0 problems\n")

    @pytest.mark.slow
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("columns", "reason"),
        [
            ({"seed": 5}, "its columns are those of "),
            ({"tolerance": 0.5}, "its columns are those of "),
            ({"parameters": "{"}, "its columns do not make a cell"),
            ({"init": "{"}, "its columns do not make a cell"),
            ({"mean": None}, "no mean"),
            ({"mean": [1.0, 2.0]}, "mean has 2 numbers where 4 belong"),
            ({"mean": [1.0, 2.0, 3.0, np.nan]}, "mean is not finite"),
            ({"stderr": [1.0, 2.0, 3.0, np.inf]}, "stderr is not finite"),
            ({"flops": -1}, "flops is -1"),
            ({"seconds": np.nan}, "seconds is nan"),
            ({"seconds": None}, "seconds is None"),
            ({"outcome": "failed"}, "failed, and has a result"),
            ({"truth_n_samples": 10**6}, " of 1,000,000 samples"),
            ({"truth_key": "e" * 16}, f"{'e' * 16} is not there, or of another version"),
            ({"depth": 3}, "its columns are those of "),
        ],
    )
    @pytest.mark.parametrize("compacted", [False, True])
    def test_a_wrong_row_is_named(self, swept, cli_run, columns, reason, compacted):
        path = change(next((swept / "test" / "parts").glob("*.parquet")), **columns)
        if compacted and not columns.get("outcome"):
            compaction.compact(swept / "test")
            named = f"{swept / 'test' / store.COMPACTED}: {path.stem}: "
        else:
            named = f"{path}: {path.stem}: "
        code, out, err = cli_run("verify", swept)
        assert code == 3
        assert out.startswith(named)
        assert reason in out
        assert err.splitlines()[-1].startswith("what is named can be deleted")

    def test_damaged_files_are_named_and_stay(self, swept, cli_run):
        part = next((swept / "test" / "parts").glob("*.parquet"))
        truth = next((swept / "truth").glob("*/*.npz"))
        for path in (part, truth):
            content = bytearray(path.read_bytes())
            place = content.find(b"sums.npy") + 300 if path == truth else _value_in(path)
            content[place] ^= 1
            path.write_bytes(content)
        code, out, _ = cli_run("verify", swept)
        assert code == 3
        assert f"{part}: damaged (" in out
        assert f"its truth {truth} is damaged" in out
        assert part.is_file()
        assert truth.is_file()

    def test_doubles(self, swept, cli_run):
        folder = swept / "test"
        compaction.compact(folder)
        table = part_files.read(folder / store.COMPACTED)
        other = table.slice(0, 1).to_pylist()[0] | {"cell_key": "a" * 16}
        twice = pa.concat_tables([table, table.slice(0, 1), part_files.from_row(other, SCHEMA)])
        (folder / store.COMPACTED).write_bytes(part_files.to_bytes(twice))
        code, out, err = cli_run("verify", swept)
        first = table["cell_key"][0].as_py()
        assert code == 3
        assert f"{first} is there 2 times" in out
        assert f"one cell under several keys: {', '.join(sorted([first, 'a' * 16]))}" in out
        assert "test: 13 rows" in err


def _value_in(part):
    """Where the last byte of `mean` is, which holds its numbers."""
    columns = pq.ParquetFile(part).metadata.row_group(0)
    named = map(columns.column, range(columns.num_columns))
    (mean,) = (one for one in named if one.path_in_schema.startswith("mean."))
    return mean.data_page_offset + mean.total_compressed_size - 1


class TestQuery:
    @pytest.fixture(autouse=True)
    def duckdb(self):
        return pytest.importorskip("duckdb", reason="pip install duckdb")

    def test_parts_and_scores(self, swept, cli_run):
        rows, sql = store.read_rows(swept), "SELECT sum(flops)::BIGINT AS n FROM parts"
        expected = [{"n": int(rows["flops"].sum())}]
        assert json.loads(cli_run("query", sql, swept, "--format", "json")[1]) == expected
        compaction.compact(swept / "test")
        assert json.loads(cli_run("query", sql, swept, "--format", "json")[1]) == expected
        scores = pd.read_parquet(swept / "test" / "scores.parquet")
        sql = "SELECT vn_mse FROM parts JOIN scores USING (cell_key) ORDER BY vn_mse"
        found = json.loads(cli_run("query", sql, swept / "test", "--format", "json")[1])
        assert [row["vn_mse"] for row in found] == sorted(scores["vn_mse"])

    def test_formats(self, swept, cli_run, tmp_path):
        sql = "SELECT seed, mean, order, 'NaN'::DOUBLE AS x FROM parts ORDER BY ALL LIMIT 2"
        sql = sql.replace("order,", '"order",')
        code, out, _ = cli_run("query", sql, swept)
        assert (code, out.splitlines()[0].split()) == (0, ["seed", "mean", "order", "x"])
        assert "4 entries" in out
        rows = json.loads(cli_run("query", sql, swept, "--format", "json")[1])
        assert len(rows) == 2
        assert len(rows[0]["mean"]) == 4
        assert rows[0]["x"] is None
        lines = cli_run("query", sql, swept, "--format", "csv")[1].splitlines()
        assert lines[0] == "seed,mean,order,x"
        assert json.loads(pd.read_csv(pd.io.common.StringIO("\n".join(lines)))["mean"][0])
        path = tmp_path / "rows.parquet"
        assert cli_run("query", sql, swept, "--format", "parquet", "--out", path) == (0, "", "")
        assert pq.read_table(path)["mean"].to_pylist() == [row["mean"] for row in rows]
        assert cli_run("query", sql, swept, "--format", "parquet")[0] == 2
        nothing = cli_run("query", "SELECT seed, mean FROM parts WHERE seed < 0", swept)
        assert nothing == (0, "seed  mean\n", "")

    @pytest.mark.slow
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "sql",
        [
            "DROP TABLE parts", "DELETE FROM parts", "INSERT INTO parts SELECT * FROM parts",
            "CREATE TABLE a AS SELECT 1", "SELECT 1; SELECT 2", "SELECT 1; DROP VIEW parts",
            "COPY parts TO '{file}'", "COPY (SELECT 1) TO '{file}'", "EXPORT DATABASE '{file}'",
            "ATTACH '{file}'", "INSTALL httpfs", "LOAD httpfs", "SET enable_external_access=true",
            "PRAGMA version", "CALL pragma_version()", "", "/* no */", ";", "SELEC 1", "SELECT (",
            "SELECT * FROM '{part}'", "SELECT * FROM read_parquet('{part}')",
            "SELECT * FROM read_text('{part}')", "SELECT * FROM read_csv('{part}')",
            "SELECT * FROM glob('*')", "SELECT * FROM results", "SELECT * FROM tables",
            "SELECT nope FROM parts", "SELECT 1 AS a, 2 AS a", "SELECT getenv('HOME')",
        ],
    )  # fmt: skip
    def test_what_is_no_select_of_the_tables_is_refused(self, swept, cli_run, sql, tmp_path):
        part = next((swept / "test" / "parts").glob("*.parquet"))
        before = sorted(os.walk(tmp_path))
        code, out, err = cli_run("query", sql.format(file=tmp_path / "new", part=part), swept)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert sorted(os.walk(tmp_path)) == before

    def test_scores_alone(self, swept, cli_run, tmp_path):
        (tmp_path / "kept" / "test").mkdir(parents=True)
        (swept / "test" / "scores.parquet").rename(tmp_path / "kept" / "test" / "scores.parquet")
        assert cli_run("query", "SELECT count(*) FROM scores", tmp_path / "kept")[0] == 0
        assert "(tables here: scores)" in cli_run("query", "FROM parts", tmp_path / "kept")[2]
        assert "(tables here: parts)" in cli_run("query", "FROM scores", swept)[2]

    def test_no_results(self, cli_run, tmp_path):
        code, _, err = cli_run("query", "SELECT 1", tmp_path / "none")
        assert (code, err) == (
            1,
            f"{tmp_path / 'none'}: no such folder; run `cumprop sweep` or name another\n",
        )


def test_without_duckdb(swept, cli_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    code, _, err = cli_run("query", "SELECT 1", swept)
    assert (code, err) == (1, "queries need duckdb; run pip install 'cumprop[query]'\n")
