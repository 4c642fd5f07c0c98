"""SQL over stored results: tables `parts` and `scores`, in a database that reaches nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from cumprop.errors import ConfigError, CumpropError
from cumprop.experiments import columns
from cumprop.results import scores, store

if TYPE_CHECKING:
    import duckdb

_CLOSED: dict[str, Any] = {
    "enable_external_access": "false",  # no files, no network, no extensions
    "python_enable_replacements": "false",  # no variables of this program as tables
    "temp_directory": "",
    "lock_configuration": "true",
}


def query(results: Path, sql: str) -> pa.Table:
    """The rows that one SELECT finds in the results below a folder.

    Table `parts` holds every stored row of sweeps, `scores` what `cumprop score` has last written;
    their columns are in results/README.md. Raises ConfigError for anything but one SELECT,
    CumpropError where there are no results or duckdb is not installed.

    Cost: reading all rows, about two milliseconds per part, a tenth of one per compacted row.
    """
    try:
        import duckdb
    except ImportError as error:
        raise CumpropError("queries need duckdb; run pip install 'cumprop[query]'") from error
    tables = _tables(results)
    try:
        statements = duckdb.extract_statements(sql)
        if [one.type for one in statements] != [duckdb.StatementType.SELECT]:
            raise ConfigError('only one SELECT is read, as in "SELECT count(*) FROM parts"')
        found = _answer(duckdb.connect(config=_CLOSED), sql, tables)
    except duckdb.Error as error:
        message = " ".join(str(error).partition("\n\n")[0].split())
        raise ConfigError(f"{message} (tables here: {', '.join(sorted(tables))})") from None
    twice = [name for name in found.column_names if found.column_names.count(name) > 1]
    if twice:
        raise ConfigError(f"column {twice[0]} is there twice; name one with AS")
    return found


def _answer(database: duckdb.DuckDBPyConnection, sql: str, tables: dict[str, Any]) -> pa.Table:
    with database:
        for name, table in tables.items():
            database.register(name, table)
        return database.sql(sql).to_arrow_table()


def _tables(results: Path) -> dict[str, pa.Table]:
    scored = [folder / scores.SCORES for folder in scores.config_folders(results)]
    found = {"scores": [pq.read_table(path) for path in scored if path.is_file()]}
    try:
        folders = filter(store.is_sweep, store.config_folders(results))
        found["parts"] = [columns.SCHEMA.empty_table(), *map(store.read_table, folders)]
    except CumpropError:
        if not found["scores"]:
            raise
    return {
        name: pa.concat_tables(tables, promote_options="permissive")
        for name, tables in found.items()
        if tables
    }
