"""Standard streams that accept every message, whatever the terminal."""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata
from contextlib import suppress
from typing import TextIO

_NAMES = ("stdin", "stdout", "stderr")
_PLAIN = {
    "±": "+-", "→": "->", "…": "...", "−": "-", "–": "-", "≤": "<=", "≥": ">=", "×": "x", "·": "*",
    "√": "sqrt ", "Σ": "sum ", "∞": "inf", "≈": "~", "“": '"', "”": '"', "‘": "'", "’": "'",
    "█": "#", "α": "alpha", "ε": "eps", "κ": "kappa", "μ": "mu", "ν": "nu", "ρ": "rho",
    "σ": "sigma", "φ": "phi", "Φ": "Phi",
}  # fmt: skip


def prepare() -> None:
    """Make the standard streams accept every message.

    A closed stream is opened on the null device, so that no results file gets its number. A
    character that the encoding lacks is spelt out, and bytes of file names stay as they are.
    """
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            _open_nowhere(number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    codecs.register_error("cumprop.spelt", _spelt)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="cumprop.spelt")


def flush(stream: TextIO) -> None:
    """Write the buffered output; if that fails, later output goes to the null device.

    Raises OSError once, where the reader has gone or the disk is full.
    """
    try:
        stream.flush()
    except OSError:
        with suppress(OSError, ValueError):
            _open_nowhere(stream.fileno())
        raise


def _open_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
    os.set_inheritable(number, True)


def _spelt(error: UnicodeError) -> tuple[str | bytes, int]:
    """The replacement of the first character that cannot be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter, after = error.object[error.start], error.start + 1
    if "\udc80" <= letter <= "\udcff":  # a byte of a file name that is no text
        return bytes([ord(letter) - 0xDC00]), after
    base = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return _PLAIN.get(letter) or base or "?", after
