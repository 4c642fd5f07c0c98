"""Plain-text tables and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of rows under the keys of the first one; numbers to the right, words to the left.

    >>> print(table([{"what": "truth", "cells": 5}, {"what": "gaussian", "cells": 12}]))
    what      cells
    truth         5
    gaussian     12
    """
    if not rows:
        return ""
    lines = [list(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [not isinstance(value, str) for value in rows[0].values()]
    return "\n".join(
        "  ".join(
            word.rjust(width) if to_right else word.ljust(width)
            for word, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def cell(value: Any) -> str:
    """A value as a table shows it.

    >>> cell(0.00012345), cell(12), cell(None)
    ('0.000123', '12', '')
    """
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def size(n_bytes: int) -> str:
    """A number of bytes to three digits, in B, kB, MB, GB or TB.

    >>> size(999), size(2_500_000)
    ('999 B', '2.5 MB')
    """
    number, unit = float(n_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.3g} {unit}"
