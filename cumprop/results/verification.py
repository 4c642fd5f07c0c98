"""Verification: a check of every stored row's file, key, numbers and truth."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from cumprop.errors import CumpropError
from cumprop.experiments import catastrophe_config, distillation_config
from cumprop.experiments.columns import failed
from cumprop.experiments.grid import Cell
from cumprop.networks import Shape
from cumprop.results import part_files, store
from cumprop.sampling import Truth, load

Row = Mapping[str, Any]

_NUMBERS = ("flops", "seconds")
_LISTS = ("step", "flops", "loss", "true_loss", "true_loss_se")


@dataclass(frozen=True)
class Problem:
    """A fault of a stored row, or of a file."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def verify(folder: Path) -> tuple[int, list[Problem]]:
    """The number of rows in one configuration's folder, and their faults; no file changes.

    Every file must be readable, of this schema and as it was written. Every row must belong to its
    key and be stored once, with finite numbers and a sound truth of the wanted size.

    Cost: about three milliseconds per row.
    """
    stored = [*_stored(folder)]
    problems = [one for one in stored if isinstance(one, Problem)]
    is_sweep = store.is_sweep(folder)
    rows = [one for one in stored if not isinstance(one, Problem)]
    truth = cache(partial(_truth, store.truth_folder(folder)))
    for path, row in rows:
        problems += [Problem(path, reason) for reason in _wrong(row, is_sweep, truth)]
    problems += _doubles(folder, rows, is_sweep)
    return len({row["cell_key"] for _, row in rows}), problems


def _stored(folder: Path) -> Iterator[tuple[Path, Row] | Problem]:
    """Every row with its file, and a problem for each unreadable file."""
    schema, compacted = store.schema_of(folder), folder / store.COMPACTED
    for path in (*sorted((folder / "parts").glob("*.parquet")), compacted):
        found = part_files.read(path) if path == compacted else part_files.read_part(path)
        if isinstance(found, part_files.Fault):
            yield Problem(path, found.reason)
        elif found is not None and found.schema != schema:
            yield Problem(path, "of another command than the rest")
        elif found is not None:
            yield from ((path, row) for row in found.to_pylist())


def _doubles(folder: Path, rows: list[tuple[Path, Row]], is_sweep: bool) -> Iterator[Problem]:
    """Problems of keys that the compacted file has twice, and of cells with two keys.

    A part beside the compacted row of its key is no problem: it is newer.
    """
    path = folder / store.COMPACTED
    keys = Counter(row["cell_key"] for at, row in rows if at == path)
    for key in (key for key, n in keys.items() if n > 1):
        yield Problem(path, f"{key} is there {keys[key]} times")
    cells = defaultdict[tuple[Any, ...], set[str]](set)
    for _, row in rows if is_sweep else ():
        identity = (*(row[name] for name in store.IDENTITY), row["estimator_version"])
        cells[identity].add(row["cell_key"])
    for alike in cells.values():
        if len(alike) > 1:
            yield Problem(folder, f"one cell under several keys: {', '.join(sorted(alike))}")


def _wrong(row: Row, is_cell: bool, truth: Callable[[str], Truth | str]) -> Iterator[str]:
    """The faults of one row in words."""
    key = row["cell_key"]
    try:
        own = _cell_key(row) if is_cell else _run_key(row)
    except (TypeError, ValueError, KeyError) as error:
        yield f"{key}: its columns do not make a cell ({error})"
        return
    if own != key:
        yield f"{key}: its columns are those of {own}"
    if failed(row):
        if row.get("mean") is not None:
            yield f"{key}: failed, and has a result"
        return
    yield from (f"{key}: {reason}" for reason in (_numbers if is_cell else _lists)(row))
    if is_cell and (reason := _truth_problem(row, truth(row["truth_key"]))):
        yield f"{key}: {reason}"


def _cell_key(row: Row) -> str:
    given = {f.name: row[f.name] for f in fields(Cell) if f.name in row}
    given |= {"init": _init(row["init"]), "parameters": json.loads(row["parameters"])}
    unused: dict[str, Any] = {"deepest": row["depth"], "shape": Shape((1, 1), ())}
    return Cell(**given, **unused).key


def _init(text: str) -> Any:
    return json.loads(text) if text.startswith("{") else text


def _run_key(row: Row) -> str:
    made = catastrophe_config.Run if "task" in row else distillation_config.Run
    run: Any = made(**{f.name: row[f.name] for f in fields(made)})
    key: str = run.key_of(row["run_version"])
    return key


def _numbers(row: Row) -> Iterator[str]:
    for name in ("mean", "stderr", "half_width"):
        values = row[name]
        if values is None:
            if name == "mean":
                yield "no mean"
        elif len(values) != row["width"]:
            yield f"{name} has {len(values)} numbers where {row['width']} belong"
        elif not np.isfinite(np.array(values, dtype=np.float64)).all():
            yield f"{name} is not finite"
    for name in _NUMBERS:
        if row[name] is None or not 0 <= row[name] < np.inf:
            yield f"{name} is {row[name]}"


def _lists(row: Row) -> Iterator[str]:
    lengths = {name: len(row[name] or ()) for name in _LISTS}
    if len(set(lengths.values())) != 1 or not lengths["step"]:
        yield f"lists of {lengths}"
    elif not np.isfinite(row["true_loss"][0]):
        yield "true_loss starts as no finite number"


def _truth_problem(row: Row, found: Truth | str) -> str | None:
    if isinstance(found, str):
        return found
    if found.spec.depth < row["depth"]:
        return f"its truth {found.spec.key} is of depth {found.spec.depth}"
    if found.n_samples < row["truth_n_samples"]:
        asked = f"{row['truth_n_samples']:,}"
        return f"its truth {found.spec.key} has {found.n_samples:,} of {asked} samples"
    return None


def _truth(truths: Path, key: str) -> Truth | str:
    """A truth, or its fault in words; a damaged file stays where it is."""
    folder = truths / key
    try:
        for path in folder.glob("*.npz"):
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    return f"its truth {path} is damaged"
        truth = load(truths, key)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return f"its truth {path} is damaged"
    except CumpropError:
        return f"its truth {folder} is not there, or of another version"
    sound = np.isfinite(truth.sums).all() and np.isfinite(truth.squares).all()
    return truth if sound else f"its truth {folder} has sums that are not finite"
