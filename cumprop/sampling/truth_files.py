"""The files of truths: each holds the sum of consecutive chunks, which its name says.

truth/<truth_key>/<depth>-<start>-<end>.npz

A file appears complete or not at all and never changes. It is deleted only when another file holds
its chunks. Therefore nothing is lost when a process is killed, and nothing has to be locked.
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
import zlib
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cumprop import files
from cumprop.sampling.tails import TailSpec
from cumprop.sampling.truth import VERSION, MeanSpec, Truth, TruthSpec

_UNREADABLE = (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
_NAME = re.compile(r"(\d+)-(\d+)-(\d+)\.npz")
_KINDS: dict[str, type[TruthSpec]] = {spec.kind: spec for spec in (MeanSpec, TailSpec)}


class Part(NamedTuple):
    """The chunks `start` to `end` of a truth that was sampled to `depth`."""

    depth: int
    start: int
    end: int

    def path(self, directory: Path, key: str) -> Path:
        return directory / key / f"{self.depth}-{self.start}-{self.end}.npz"


def parts(directory: Path, key: str) -> list[Part]:
    """The stored parts of a truth, in order; files of old versions and others are left out."""
    found = (_NAME.fullmatch(path.name) for path in (directory / key).glob("*.npz"))
    named = (Part(*map(int, match.groups())) for match in found if match)
    return sorted(part for part in named if part.start < part.end)


def read_spec(path: Path) -> TruthSpec | None:
    """The truth that a file holds a part of; None for an unreadable file or another version."""
    with (
        suppress(OSError, *_UNREADABLE),
        path.open("rb") as stored,
        np.load(stored, allow_pickle=False) as file,
    ):
        header = json.loads(str(file["header"]))
        if header["version"] == VERSION:
            return _KINDS[header["kind"]](**header["spec"])
    return None


def read(directory: Path, spec: TruthSpec, part: Part, repair: bool) -> Truth | None:
    """A part of a truth; None where its file is gone or cannot be read.

    Of a file that cannot be read a warning tells. To `repair`, it is set aside as `.corrupt`.
    """
    path, empty = part.path(directory, spec.key), replace(spec.empty, start=part.start)
    try:
        # zip checks a CRC of every array
        with path.open("rb") as stored, np.load(stored, allow_pickle=False) as file:
            if str(file["header"]) != _header(spec, part):
                raise ValueError("it holds another truth")
            sums, squares = file["sums"], file["squares"]
        if (sums.shape, squares.shape) != (empty.sums.shape, empty.squares.shape):
            raise ValueError("its arrays have the wrong shape")
    except FileNotFoundError:
        return None
    except _UNREADABLE as error:
        remedy = "the next sweep samples it anew"
        if repair:
            aside = path.with_name(path.name + ".corrupt")
            with suppress(OSError):  # another process was faster, or may not write
                path.replace(aside)
            remedy = f"set aside as {aside.name}, sampling anew"
        warnings.warn(f"{path}: {error}; {remedy}", stacklevel=3)
        return None
    return replace(empty, chunks=part.end - part.start, sums=sums, squares=squares)


def write(directory: Path, truth: Truth) -> None:
    """Store a truth or a part of one, then delete files whose chunks the new file holds."""
    spec, own = truth.spec, Part(truth.spec.depth, truth.start, truth.end)
    path = own.path(directory, spec.key)
    arrays: dict[str, Any] = {"header": _header(spec, own)}
    arrays |= {"sums": truth.sums, "squares": truth.squares}
    files.write_atomically(path, lambda file: np.savez(file, **arrays))
    for part in parts(directory, spec.key):
        inside = part.depth == own.depth and own.start <= part.start and part.end <= own.end
        if inside and part != own:
            part.path(directory, spec.key).unlink(missing_ok=True)


def _header(spec: TruthSpec, part: Part) -> str:
    header = {"kind": spec.kind, "version": VERSION, "spec": asdict(spec), "part": part}
    return json.dumps(header, sort_keys=True)
