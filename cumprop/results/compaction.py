"""Compaction: the parts of a folder, one file each, become one file that every reader knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import pyarrow as pa

from cumprop import files
from cumprop.errors import CumpropError
from cumprop.experiments.columns import FAILED
from cumprop.results import part_files, store


@dataclass(frozen=True)
class Compaction:
    """`parts` have been put together, `rows` are in the file now; `failed` ones stay parts."""

    config: str
    parts: int
    rows: int
    failed: int


def compact(folder: Path) -> Compaction:
    """Put the parts of one configuration's folder into `parts.parquet`, and delete them.

    Sweeps and readers may be at work meanwhile. The file appears complete, with what it held
    before, and only then parts go; a kill between leaves rows in both, of which readers take one.
    Failed rows stay parts, since the next sweep tries them again. A part that is written anew
    meanwhile stays. Raises CumpropError where another compaction of the folder is at work.

    Cost: about two milliseconds per part; memory of all rows, twice.
    """
    path, schema = folder / store.COMPACTED, store.schema_of(folder)
    with _alone(folder):
        files.remove_leftovers(folder)
        before = store.compacted(folder)
        found = [*_parts(folder, schema)]
        done = [one for one in found if one[2]["outcome"][0].as_py() != FAILED]
        if done:
            table = store.merged([table for *_, table in done], before, schema)
            part_files.write(path, table, part_files.read)
            _sync(folder)
        else:
            table = schema.empty_table() if before is None else before
        for part, seen, _ in done:
            _delete(part, seen)
    return Compaction(folder.resolve().name, len(done), table.num_rows, len(found) - len(done))


def _parts(
    folder: Path, schema: pa.Schema
) -> Iterator[tuple[Path, part_files.Identity | None, pa.Table]]:
    for path in sorted((folder / "parts").glob("*.parquet")):
        seen = part_files.identity(path)
        table = store.sound_part(path, schema)
        if table is not None:
            yield path, seen, table


def _delete(part: Path, seen: part_files.Identity | None) -> None:
    """Delete a part, but not one that another process has written over the one that was `seen`.

    It is moved out of the way first, for nothing can come between a look and a move then.
    """
    aside = part.with_name(f".{part.name}.{token_hex(8)}.tmp")
    with suppress(FileNotFoundError):
        part.rename(aside)
        if part_files.identity(aside) != seen:
            with suppress(FileExistsError):  # an even newer one
                os.link(aside, part)
        aside.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process whatever ends it."""
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CumpropError(f"{folder}: is being compacted already; wait for that") from error
        yield
    finally:
        os.close(handle)


def _sync(folder: Path) -> None:
    """Have the disk know of a new name before the old ones go."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
