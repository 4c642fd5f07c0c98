"""Arrays that a network or a law is given, checked."""

from __future__ import annotations

from math import prod
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cumprop.errors import CumpropError
from cumprop.flops import counted, has_numbers, is_foreign, not_counting
from cumprop.memory import check_memory

Array = NDArray[Any]


def numbers(values: Any, name: str) -> Array:
    """An array or tensor of real, finite numbers, in float64 unless it is float32 or float16.

    A scipy.sparse matrix becomes a dense one. Raises CumpropError, with `name`, for ragged rows,
    other entries, NaN and infinite numbers.
    """
    if not has_numbers(values):
        return cast(Array, values)
    if hasattr(values, "toarray"):
        check_memory(values.dtype.itemsize * prod(values.shape))
        values = values.toarray()  # products skip the zeros all the same
    try:
        array: Array = counted(values) if is_foreign(values) else np.asarray(values)
    except ValueError:
        raise CumpropError(f"{name} is ragged; give rows of equal length") from None
    if array.dtype.kind not in "iuf":
        raise CumpropError(f"{name} holds {array.dtype} entries; give real numbers")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    with not_counting():
        finite = np.isfinite(array).all()
    if not finite:
        raise CumpropError(f"{name} contains NaN or infinite entries; replace them")
    return array
