"""Files on disk: names made from their content, and atomic writes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

_WRITABLE = "what is finished is kept; make it writable or free space, then run again"


def content_hash(text: str) -> str:
    """A hash of a text in 16 hexadecimal digits, which names files by their content.

    >>> content_hash("a cell")
    '4f5dba2f1267cc94'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shortened(name: str, most: int = 200) -> str:
    """A name that leaves room for endings within the 255 bytes of file systems.

    A name of more than `most` bytes is cut, and ends with a hash of the whole name.

    >>> shortened("relu_w256"), len(shortened("n" * 240))
    ('relu_w256', 200)
    """
    written = os.fsencode(name)
    if len(written) <= most:
        return name
    return written[: most - 17].decode(errors="ignore") + "-" + content_hash(name)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file that appears under its name complete or not at all.

    A temporary file with a unique name beside it is written, synchronised to disk and renamed, so
    that neither a kill nor another process that writes the same name damages the file. Folders are
    made. Raises OSError, with the folder and the remedy, where the file cannot be written.
    """
    temporary = path.parent / f".{token_hex(8)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = f"{error.strerror or error}; {_WRITABLE}"
        raise OSError(error.errno, reason, str(path.parent)) from error


def write_text(path: Path, text: str) -> None:
    """Write a text to a file in UTF-8, atomically; raises as `write_atomically`."""
    write_atomically(path, lambda file: file.write(text.encode()))


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files, older than an hour, of writes that were killed."""
    for path in folder.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink()
