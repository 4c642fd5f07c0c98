"""The files of truths: written complete or not at all, examined when they are read."""

from __future__ import annotations

import fcntl
import json
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cumprop import files
from cumprop.sampling.truth import Truth, TruthSpec

_UNREADABLE = (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def block_path(directory: Path, spec: TruthSpec, start: int) -> Path:
    return directory / spec.key / f"{spec.depth}-{start}.npz"


def place(block: Path) -> tuple[int, int]:
    """Depth and start of a block's file."""
    depth, start = block.stem.split("-")
    return int(depth), int(start)


def version(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino


def header(path: Path) -> dict[str, Any] | None:
    """What a file holds, without its sums; None where it cannot be read."""
    with (
        suppress(OSError, *_UNREADABLE),
        path.open("rb") as stored,
        np.load(stored, allow_pickle=False) as file,
    ):
        spec = str(file["spec"])
        rest = int(file["rest_chunks"]) if "rest_chunks" in file else 0
        depth = int(json.loads(spec)["depth"])
        return {"spec": spec, "depth": depth, "chunks": int(file["chunks"]), "rest": rest}
    return None


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Keep other processes from writing truths here meanwhile, where the file system can."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write(path: Path, truth: Truth, rest: Truth | None = None) -> None:
    """Store a truth or block, complete or not at all."""
    arrays: dict[str, Any] = {"spec": truth.spec.canonical, "chunks": truth.chunks}
    arrays |= {"sums": truth.sums, "squares": truth.squares}
    if rest is not None:
        arrays |= {"rest_chunks": rest.chunks, "rest_sums": rest.sums, "rest_squares": rest.squares}
    files.write_atomically(path, lambda file: np.savez(file, **arrays))


def read(
    path: Path, spec: TruthSpec, start: int = 0, prefix: str = "", multiple_of: int = 1
) -> Truth:
    """What a file holds of `spec`; nothing where there is none or one of another depth.

    One whose chunks are no multiple of so many is set aside, as one that is damaged.
    """
    empty = replace(spec.empty, start=start)
    try:
        # zip checks a CRC of every array
        with path.open("rb") as stored, np.load(stored, allow_pickle=False) as file:
            described = json.loads(str(file["spec"]))
            if json.loads(spec.canonical) | {"depth": described["depth"]} != described:
                raise ValueError("it holds another truth")
            if described["depth"] != spec.depth or f"{prefix}chunks" not in file:
                return empty
            chunks = int(file[f"{prefix}chunks"])
            if chunks % multiple_of:
                raise ValueError(f"its {chunks} chunks are no whole blocks")
            sums, squares = file[f"{prefix}sums"], file[f"{prefix}squares"]
        if (sums.shape, squares.shape) != (empty.sums.shape, empty.squares.shape):
            raise ValueError("its arrays have the wrong shape")
    except (FileNotFoundError, NotADirectoryError):
        return empty
    except _UNREADABLE as error:
        aside = path.with_name(path.name + ".corrupt")
        with suppress(OSError):  # another process was faster, or may not write
            path.replace(aside)
        warnings.warn(f"{path}: {error}; set aside as {aside.name}, sampling anew", stacklevel=3)
        return empty
    return replace(empty, chunks=chunks, sums=sums, squares=squares)
