"""The commands `results …`: put parts together, examine them, ask them."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumprop import text
from cumprop.cli.options import deliver, directory_argument, format_option, out_option
from cumprop.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa


@click.group()
def results() -> None:
    """Look after stored results: compact, verify, query.

    \b
    Example:
      cumprop results verify results/
    """


@results.command()
@directory_argument
def compact(directory: Path) -> None:
    """Put the parts in DIRECTORY together, one file a configuration.

    Sweeps go on with it: nothing is computed again, and no row is lost or doubled if this is
    killed. Failed cells stay as they are; the next sweep tries them again.

    \b
    Example:
      cumprop results compact results/relu_w256
    """
    from cumprop.results import compaction, store

    found = map(compaction.compact, store.config_folders(directory))
    print(text.table([asdict(one) for one in found]))


@results.command()
@directory_argument
def verify(directory: Path) -> int:
    """Examine every row in DIRECTORY; changes nothing.

    Each must be readable and as it was written, under the key of its content and only once, with
    finite numbers and a sound truth. Prints what is not, and exits with 3 then.

    \b
    Example:
      cumprop results verify results/
    """
    from cumprop.results import store, verification

    examined = {f.resolve().name: verification.verify(f) for f in store.config_folders(directory)}
    problems = [problem for _, found in examined.values() for problem in found]
    for problem in problems:
        print(problem)
    for name, (n_rows, found) in examined.items():
        print(f"{name}: {n_rows} rows, {len(found)} problems", file=sys.stderr)
    if problems:
        print("what is named can be deleted; the next sweep computes it again", file=sys.stderr)
    return 3 if problems else 0


@results.command()
@click.argument("sql", metavar="'SELECT …'")
@directory_argument
@format_option
@out_option
def query(sql: str, directory: Path, form: str, out: Path | None) -> None:
    """Ask the results in DIRECTORY by SQL.

    Table `parts` holds all rows, `scores` what `cumprop score` has last written. Needs duckdb.

    \b
    Example:
      cumprop results query "SELECT estimator, count(*) AS cells FROM parts GROUP BY estimator"
    """
    from cumprop.results import part_files, queries

    if form == "parquet" and out is None:
        raise ConfigError("--format parquet: name a file, as in --out rows.parquet")
    found = queries.query(directory, sql)
    if form == "parquet":
        content = part_files.plain_bytes(found)
    else:
        content = (_written(found, form) + "\n").encode()
    deliver(content, out)


def _written(found: pa.Table, form: str) -> str:
    rows = [{key: _plain(value) for key, value in row.items()} for row in found.to_pylist()]
    if form == "json":
        return json.dumps(rows, allow_nan=False)
    if form == "table":
        if not rows:
            return "  ".join(found.column_names)
        return text.table([{key: _short(value) for key, value in row.items()} for row in rows])
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(found.column_names)
    for row in rows:
        writer.writerow(json.dumps(v) if isinstance(v, list | dict) else v for v in row.values())
    return file.getvalue().rstrip("\n")


def _plain(value: Any) -> Any:
    """A value that JSON can hold: null for NaN and infinity, text for dates and the like."""
    if isinstance(value, dict):
        return {str(key): _plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(below) for below in value]
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _short(value: Any) -> Any:
    return f"{len(value)} entries" if isinstance(value, list) else value
