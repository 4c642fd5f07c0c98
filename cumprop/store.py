"""Results on disk: one parquet part per finished cell, never half-written, readable in one go.

results/<config>/parts/<cell_key>.parquet    an estimate, columns in results/README.md
results/<config>/plan.json                   the cells and figures the last sweep was asked for
results/<config>/scores.parquet              scores, recomputed from parts and truth
results/truth/<truth_key>.npz                sampled truth, shared by all configurations
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from cumprop.errors import CumpropError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
"""Raised when a column changes its meaning; rows of another version are not read."""

SCHEMA = pa.schema(
    [
        ("schema_version", pa.int32()),
        ("cell_key", pa.string()),
        ("config", pa.string()),
        ("width", pa.int64()),
        ("depth", pa.int64()),
        ("readout", pa.string()),
        ("activation", pa.string()),
        ("init", pa.string()),
        ("dtype", pa.string()),
        ("seed", pa.int64()),
        ("repeat", pa.int64()),
        ("estimator", pa.string()),
        ("order", pa.int64()),
        ("kind", pa.string()),
        ("engine", pa.string()),
        ("metric", pa.string()),
        ("truncation", pa.string()),
        ("tolerance", pa.float64()),
        ("n_samples", pa.int64()),
        ("design", pa.string()),
        ("parameters", pa.string()),
        ("estimator_version", pa.int64()),
        ("truth_design", pa.string()),
        ("truth_key", pa.string()),
        ("truth_n_samples", pa.int64()),
        ("mean", pa.list_(pa.float64())),
        ("stderr", pa.list_(pa.float64())),
        ("flops", pa.int64()),
        ("flops_components", pa.string()),
        ("flops_convention", pa.string()),
        ("seconds", pa.float64()),
        ("peak_bytes", pa.int64()),
        ("status", pa.string()),
        ("cumprop_version", pa.string()),
        ("numpy_version", pa.string()),
        ("scipy_version", pa.string()),
        ("python_version", pa.string()),
        ("cpu", pa.string()),
        ("blas", pa.string()),
        ("threads", pa.int64()),
        ("workers", pa.int64()),
        ("git_revision", pa.string()),
        ("created", pa.string()),
    ]
)

_SET_ASIDE = ("reference", "truth")


def content_hash(text: str) -> str:
    """What files are named by: 16 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file that appears under its name complete or not at all.

    A temporary file of a unique name beside it, fsync, rename: safe against kills and against
    other processes writing the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Store a text, complete or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of writes that were killed: those older than an hour."""
    for path in folder.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink()


def write_part(parts: Path, row: Mapping[str, Any], schema: pa.Schema = SCHEMA) -> Path:
    """Store one cell as `parts/<cell_key>.parquet`; columns it lacks are null."""
    unknown = row.keys() - set(schema.names)
    if unknown:
        raise CumpropError(f"no such columns: {', '.join(sorted(unknown))}")
    complete = {"schema_version": SCHEMA_VERSION, **row}
    table = pa.Table.from_pylist([complete], schema=schema)
    path = parts / f"{row['cell_key']}.parquet"
    write_atomically(path, lambda file: pq.write_table(table, file))
    return path


def read_part(path: Path) -> dict[str, Any] | None:
    """The row in one part; None if it is gone, of another schema version, or damaged.

    A damaged part is named on stderr and renamed to *.corrupt, so that its cell is computed again.
    """
    try:
        row = pq.ParquetFile(path, memory_map=False).read().to_pylist()[0]
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, IndexError) as error:
        reason = str(error).splitlines()[0]
        aside = path.with_suffix(".corrupt")
        print(f"{path}: damaged ({reason}); set aside as {aside.name}", file=sys.stderr)
        path.replace(aside)
        return None
    return row if row.get("schema_version") == SCHEMA_VERSION else None


def is_sweep(folder: Path) -> bool:
    """Whether the parts of a folder are cells of a sweep; commands have tables of their own."""
    for path in sorted((folder / "parts").glob("*.parquet")):
        with suppress(pa.ArrowException, OSError):  # damaged
            return "estimator" in pq.read_schema(path).names
    return True


def read_folder(folder: Path) -> list[dict[str, Any]]:
    """All rows of one configuration's folder."""
    paths = sorted((folder / "parts").glob("*.parquet"))
    return [row for path in paths if (row := read_part(path)) is not None]


def config_folders(results: str | Path) -> list[Path]:
    """The configurations below `results`: itself if it is one, else its subfolders with parts.

    `reference` and `truth` are left out unless named. Raises CumpropError if there are none.
    """
    results = Path(results)
    if (results / "parts").is_dir():
        return [results]
    if not results.is_dir():
        raise CumpropError(f"{results}: no such folder; run `cumprop sweep` or name another")
    folders = [
        folder
        for folder in sorted(results.iterdir())
        if (folder / "parts").is_dir() and folder.name not in _SET_ASIDE
    ]
    if not folders:
        raise CumpropError(f"{results}: holds no results; run `cumprop sweep CONFIG` first")
    return folders


def read_rows(results: str | Path) -> pd.DataFrame:
    """One row per stored cell below a results root or one configuration's folder.

    Of cells that differ in the estimator's version only, the newest counts. Raises CumpropError
    where there are no results.

    Cost: about a millisecond per cell.
    """
    folders = filter(is_sweep, config_folders(results))
    rows = [row for folder in folders for row in read_folder(folder)]
    newest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["estimator_version"]):
        newest[tuple(row[name] for name in IDENTITY)] = row
    table: pd.DataFrame = pa.Table.from_pylist([*newest.values()], schema=SCHEMA).to_pandas()
    return table


IDENTITY = (
    "config",
    "width",
    "depth",
    "readout",
    "activation",
    "init",
    "dtype",
    "seed",
    "repeat",
    "estimator",
    "parameters",
    "tolerance",
)
"""The columns that say which cell a row is, whatever version computed it."""


def truth_folder(results: str | Path) -> Path:
    """Where the truth of a results root or of one configuration's folder is kept."""
    results = Path(results)
    return (results.parent if (results / "parts").is_dir() else results) / "truth"


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Store a data frame, complete or not at all."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    write_atomically(path, lambda file: pq.write_table(arrow, file))


def write_plan(folder: Path, keys: Iterable[str], figures: Sequence[str] = ()) -> None:
    """Note the cells and figures a sweep was asked for, for `cumprop status` and `cumprop plot`."""
    plan = {"schema_version": SCHEMA_VERSION, "figures": [*figures], "cells": sorted(keys)}
    text = json.dumps(plan, indent=0)
    write_atomically(folder / "plan.json", lambda file: file.write(text.encode()))


def read_plan(folder: Path) -> list[str] | None:
    """The cells the last sweep was asked for; None where that is not known."""
    return _of_plan(folder, "cells")


def planned_figures(results: Path, config: str) -> list[str]:
    """The figures an experiment asks for; empty where that is not known.

    `results` holds the experiment's folder, or is it.
    """
    folder = results / config
    return _of_plan(folder if folder.is_dir() else results, "figures") or []


def _of_plan(folder: Path, key: str) -> list[str] | None:
    try:
        return [str(item) for item in json.loads((folder / "plan.json").read_text())[key]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
