"""Plain-text tables and numbers."""

from __future__ import annotations

from cumprop.contract.printing import cell, table

__all__ = ["cell", "size", "table"]


def size(n_bytes: int) -> str:
    """Bytes in a unit people read.

    >>> size(999), size(2_500_000)
    ('999 B', '2.5 MB')
    """
    number, unit = float(n_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.3g} {unit}"
