"""Results on disk: one parquet part per finished cell, never half-written, readable in one go.

results/<config>/parts/<cell_key>.parquet    an estimate, columns in results/README.md
results/<config>/parts.parquet               those that `cumprop results compact` has put together
results/<config>/plan.json                   the cells and figures the last sweep was asked for
results/<config>/scores.parquet              scores, recomputed from parts and truth
results/truth/<truth_key>/*.npz              sampled truth, shared by all configurations
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from cumprop import files
from cumprop.errors import CumpropError
from cumprop.experiments.columns import SCHEMA as SCHEMA
from cumprop.experiments.columns import SCHEMA_VERSION as SCHEMA_VERSION
from cumprop.experiments.columns import failed
from cumprop.results import part_files

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

COMPACTED = "parts.parquet"
"""Beside the folder `parts`: the rows that `cumprop results compact` has put together."""

_SET_ASIDE = ("reference", "truth")


def write_part(parts: Path, row: Mapping[str, Any], schema: pa.Schema = SCHEMA) -> Path:
    """Store one cell as `parts/<cell_key>.parquet`; columns it lacks are null.

    A file of that name that is damaged, foreign or of another schema is renamed to *.corrupt,
    *.foreign or *.v<schema>, and named on stderr.
    """
    unknown = row.keys() - set(schema.names)
    if unknown:
        raise CumpropError(f"no such columns: {', '.join(sorted(unknown))}")
    path = parts / f"{row['cell_key']}.parquet"
    part_files.write(path, part_files.from_row(row, schema), part_files.read_part)
    return path


def read_cell(parts: Path, key: str) -> dict[str, Any] | None:
    """The row of one cell, from its part or from what was compacted; None if there is none.

    A part that is damaged, foreign or of another schema counts as none, without a word: who asks
    for one cell is about to write it.
    """
    found = part_files.read_part(parts / f"{key}.parquet")
    row = found.to_pylist()[0] if isinstance(found, pa.Table) else None
    if row is None or failed(row):  # by another sweep, in spite of a result
        path = parts.parent / COMPACTED
        table, places = _compacted(path, part_files.identity(path))
        if table is not None and key in places:
            row = table.slice(places[key], 1).to_pylist()[0]
    return row


def rows_of(results: Path, key: str) -> Iterator[dict[str, Any]]:
    """The rows of one cell in all configurations below a results root."""
    for parts in results.glob("*/parts"):
        row = read_cell(parts, key)
        if row is not None:
            yield row


def has_rows(folder: Path) -> bool:
    """Whether a folder holds parts, compacted or not."""
    return (folder / COMPACTED).is_file() or any((folder / "parts").glob("*.parquet"))


def schema_of(folder: Path) -> pa.Schema:
    """The columns of a configuration's parts: commands have tables of their own."""
    for path in (folder / COMPACTED, *sorted((folder / "parts").glob("*.parquet"))):
        with suppress(pa.ArrowException, OSError, ValueError):  # damaged or gone
            found = part_files.schema_of(pq.read_schema(path))
            if found is not None:
                return found
    return SCHEMA


def is_sweep(folder: Path) -> bool:
    """Whether the parts of a folder are cells of a sweep."""
    return bool(schema_of(folder) == SCHEMA)


def read_table(folder: Path) -> pa.Table:
    """All rows of one configuration's folder, each cell once, by key.

    Parts are read before what was compacted, which takes them over while another process reads.
    """
    schema = schema_of(folder)
    paths = sorted((folder / "parts").glob("*.parquet"))
    tables = [table for path in paths if (table := sound_part(path, schema)) is not None]
    return merged(tables, compacted(folder), schema)


def sound_part(path: Path, schema: pa.Schema) -> pa.Table | None:
    """The row in one part of a folder with this schema; None where stderr names a fault."""
    table = part_files.sound(path, part_files.read_part)
    if table is not None and table.schema != schema:
        print(f"{path}: a row of another command", file=sys.stderr)
        return None
    return table


def merged(parts: Sequence[pa.Table], compacted: pa.Table | None, schema: pa.Schema) -> pa.Table:
    """The rows of parts and of what was compacted, by key.

    A part is newer than what was compacted, but a failed one takes nothing away.
    """
    tables = [*([] if compacted is None else [compacted]), *parts]
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    places: dict[str, int] = {}
    for place, row in enumerate(table.select(["cell_key", "outcome"]).to_pylist()):
        if row["cell_key"] not in places or not failed(row):
            places[row["cell_key"]] = place
    return table.take(pa.array([places[key] for key in sorted(places)], pa.int64()))


def read_folder(folder: Path) -> list[dict[str, Any]]:
    """All rows of one configuration's folder."""
    rows: list[dict[str, Any]] = read_table(folder).to_pylist()
    return rows


def compacted(folder: Path) -> pa.Table | None:
    """The rows that were compacted in a folder; read again when the file has changed."""
    return _compacted(folder / COMPACTED, part_files.identity(folder / COMPACTED))[0]


@lru_cache(maxsize=64)
def _compacted(
    path: Path, identity: part_files.Identity | None
) -> tuple[pa.Table | None, dict[str, int]]:
    """The rows in a file and the place of each key; kept, since sweeps ask cell by cell."""
    table = None if identity is None else part_files.sound(path, part_files.read)
    keys = [] if table is None else table["cell_key"].to_pylist()
    return table, {key: place for place, key in enumerate(keys)}


def folders(results: Path, holds: Callable[[Path], bool]) -> list[Path]:
    """`results` itself or the folders in it that `holds`; `reference` and `truth` only by name."""
    if holds(results):
        return [results]
    inside = sorted(results.iterdir()) if results.is_dir() else []
    return [folder for folder in inside if folder.name not in _SET_ASIDE and holds(folder)]


def is_config(folder: Path) -> bool:
    """Whether it is the folder of one configuration."""
    return (folder / "parts").is_dir() or (folder / COMPACTED).is_file()


def config_folders(results: str | Path) -> list[Path]:
    """The configurations below `results`: itself if it is one, else its subfolders with parts.

    `reference` and `truth` are left out unless named. Raises CumpropError if there are none.
    """
    results = Path(results)
    found = folders(results, is_config)
    if not results.is_dir():
        raise CumpropError(f"{results}: no such folder; run `cumprop sweep` or name another")
    if not found:
        raise CumpropError(f"{results}: holds no results; run `cumprop sweep CONFIG` first")
    return found


def read_rows(results: str | Path) -> pd.DataFrame:
    """One row per stored cell below a results root or one configuration's folder.

    Of cells that differ in the estimator's version only, the newest counts. Raises CumpropError
    where there are no results.

    Cost: about two milliseconds per part, a tenth of one per compacted row.
    """
    folders = filter(is_sweep, config_folders(results))
    tables = [SCHEMA.empty_table(), *map(read_table, folders)]
    rows: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    by_version = rows.sort_values("estimator_version", kind="stable")
    newest = by_version.drop_duplicates([*IDENTITY], keep="last")
    return newest.sort_index().reset_index(drop=True)


IDENTITY = (
    "config", "width", "depth", "readout", "activation", "init", "dtype", "seed", "repeat",
    "estimator", "parameters", "tolerance",
)  # fmt: skip
"""The columns that say which cell a row is, whatever version computed it."""


def truth_folder(results: str | Path) -> Path:
    """Where the truth of a results root or of one configuration's folder is kept."""
    folder = Path(results)
    if not is_config(folder):
        return folder / "truth"
    beside = folder.parent / "truth"
    return beside if beside.is_dir() else folder.resolve().parent / "truth"  # through a link


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Store a data frame, complete or not at all."""
    content = part_files.plain_bytes(pa.Table.from_pandas(table, preserve_index=False))
    files.write_atomically(path, lambda file: file.write(content))


def write_plan(
    folder: Path,
    keys: Iterable[str],
    figures: Sequence[str] = (),
    work: Mapping[str, Any] | None = None,
) -> None:
    """Note the cells and figures a sweep was asked for, for `cumprop status` and `cumprop plot`.

    `work` is what `cumprop.sweep.status` tells the remaining time from.
    """
    plan = {"schema_version": SCHEMA_VERSION, "figures": [*figures], "cells": sorted(keys)}
    if work is not None:
        plan["work"] = work
    files.write_text(folder / "plan.json", json.dumps(plan, indent=0))


def read_plan(folder: Path) -> list[str] | None:
    """The cells the last sweep was asked for; None where that is not known."""
    return _of_plan(folder, "cells", list)


def read_work(folder: Path) -> dict[str, Any] | None:
    """The `work` of the last sweep's plan; None where that is not known."""
    return _of_plan(folder, "work", dict)


def planned_figures(results: Path, config: str) -> list[str]:
    """The figures an experiment asks for; empty where that is not known.

    `results` holds the experiment's folder, or is it.
    """
    folder = results / config
    return _of_plan(folder if folder.is_dir() else results, "figures", list) or []


def _of_plan(folder: Path, key: str, kind: type[T]) -> T | None:
    try:
        found = json.loads((folder / "plan.json").read_text())[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, kind) else None
