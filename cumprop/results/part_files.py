"""Parquet files of rows: written with a digest of their values, and checked when they are read.

A part holds one row and is named by its key; `cumprop results compact` makes one file of many.
Reading changes nothing: a file with a fault is named on stderr and left. Only `write`, which needs
the name for a sound file, renames it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from secrets import token_hex
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cumprop import files
from cumprop.experiments.columns import KIND, SCHEMA_VERSION, SCHEMAS

_DIGEST = b"cumprop_digest"
Identity = tuple[int, int, int]

_REQUIRED = ("schema_version", "cell_key", "config", "outcome")


@dataclass(frozen=True)
class Fault:
    """The reason why a file is not read, and the suffix with which `write` sets it aside."""

    suffix: str
    reason: str


def to_bytes(table: pa.Table) -> bytes:
    """The bytes of a parquet file with kind and digest of the table in its metadata."""
    metadata = {**(table.schema.metadata or {}), _DIGEST: _digest(table)}
    return plain_bytes(table.replace_schema_metadata(metadata))


def plain_bytes(table: pa.Table) -> bytes:
    """The bytes of a parquet file, made in memory, so that only writing can fail on a full disk.

    One row is neither compressed nor encoded, which would take longer than the rest.
    """
    sink = pa.BufferOutputStream()
    many = table.num_rows > 1
    compression = "snappy" if many else "none"
    pq.write_table(table, sink, use_dictionary=many, write_statistics=many, compression=compression)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read(path: Path) -> pa.Table | Fault | None:
    """The rows in a file, of a schema of `experiments.columns`; None if it is gone.

    Raises OSError where the operating system refuses to read it, which is no fault of the file.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        return Fault("foreign", "a folder")
    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
        table.validate(full=True)
        fault = _fault(table)
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError) as error:
        return Fault("corrupt", f"damaged ({_first_line(error)})")
    return fault or pa.Table.from_arrays(table.columns, schema=schema_of(table.schema))


def read_part(path: Path) -> pa.Table | Fault | None:
    """The one row in a part, whose key must be the name of the file."""
    found = read(path)
    if found is None or isinstance(found, Fault):
        return found
    if found.num_rows != 1:
        return Fault("foreign", f"{found.num_rows} rows where one belongs")
    key = found["cell_key"][0].as_py()
    return found if key == path.stem else Fault("foreign", f"the row of {key}")


def identity(path: Path) -> Identity | None:
    """The identity of a file, which changes when it is replaced; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def sound(path: Path, read: Callable[[Path], pa.Table | Fault | None]) -> pa.Table | None:
    """The table that `read` finds in a file; None where there is none or stderr names a fault."""
    found = read(path)
    if isinstance(found, Fault):
        print(f"{path}: {found.reason}", file=sys.stderr)
        return None
    return found


def write(path: Path, table: pa.Table, read: Callable[[Path], pa.Table | Fault | None]) -> None:
    """Write a table atomically; a file in its place that `read` refuses is renamed."""
    content, before = to_bytes(table), read(path)
    if isinstance(before, Fault):
        aside = path.with_suffix(f".{before.suffix}")
        if aside.exists():
            aside = aside.with_name(f"{aside.name}.{token_hex(4)}")
        with suppress(OSError):  # which the write below reports
            path.replace(aside)
            print(f"{path}: {before.reason}; set aside as {aside.name}", file=sys.stderr)
    files.write_atomically(path, lambda file: file.write(content))


def schema_of(schema: pa.Schema) -> pa.Schema | None:
    """The schema of `experiments.columns` whose kind the metadata name; None without one."""
    return SCHEMAS.get((schema.metadata or {}).get(KIND))


def from_row(row: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """A table of one row; missing columns are null."""
    complete = {"schema_version": SCHEMA_VERSION, **row}
    columns = pa.array([complete], pa.struct(schema)).flatten()
    return pa.Table.from_arrays(columns, schema=schema)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _fault(table: pa.Table) -> Fault | None:
    if "schema_version" not in table.column_names:
        return Fault("foreign", "no table of cumprop (no schema_version)")
    stored = (table.schema.metadata or {}).get(_DIGEST)
    if stored is not None and stored != _digest(table):
        return Fault("corrupt", "damaged (its values are not those that were written)")
    versions = set(table["schema_version"].to_pylist())
    if versions != {SCHEMA_VERSION}:
        return _outdated(versions)
    schema = schema_of(table.schema)
    if schema is None or stored is None:
        return Fault("foreign", "no table of cumprop (its metadata name no kind and digest)")
    for found, wanted in zip_longest(_columns(table.schema), _columns(schema)):
        if found != wanted:  # lists are equal whatever their items are called
            return Fault("foreign", f"its columns differ: {_words(found)}, not {_words(wanted)}")
    nulls = [name for name in _REQUIRED if table[name].null_count]
    return Fault("foreign", f"{', '.join(nulls)} not given") if nulls else None


def _columns(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    return [(column.name, column.type) for column in schema]


def _words(column: tuple[str, pa.DataType] | None) -> str:
    return "none" if column is None else f"{column[0]} ({column[1]})"


def _outdated(versions: set[Any]) -> Fault:
    (version,) = versions if len(versions) == 1 else (None,)
    if not isinstance(version, int):
        return Fault("foreign", "no single schema_version")
    if version > SCHEMA_VERSION:
        return Fault(f"v{version}", f"of schema {version}; a newer cumprop reads it")
    return Fault(f"v{version}", f"of schema {version}, which is read no more")


def _digest(table: pa.Table) -> bytes:
    """A hash of all values and column names, independent of parquet's encoding."""
    lists = [field.name for field in table.schema if pa.types.is_list(field.type)]
    plain = table.drop_columns(lists)
    hashed = hashlib.sha256(json.dumps([plain.column_names, plain.to_pylist()]).encode())
    for name in lists:
        column = table[name].combine_chunks()
        hashed.update(json.dumps([name, pc.list_value_length(column).to_pylist()]).encode())
        hashed.update(column.flatten().to_numpy(zero_copy_only=False).tobytes())
    return hashed.hexdigest().encode()
