"""safetensors files, by the library of that name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cumprop.errors import CumpropError
from cumprop.memory import check_memory
from cumprop.networks.importers.named import from_named, selected
from cumprop.networks.importers.parts import Array, Parts, library

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read(path: Path, prefixes: Sequence[str] = ()) -> Parts:
    """Weights and biases; numbers in the names, or shapes, give the order, which the file lacks."""
    safetensors = library("safetensors")
    check_memory(path.stat().st_size)
    try:  # the library compares every size in the header with the file's
        tensors = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise CumpropError(f"damaged, or not a safetensors file: {error}") from None
    chosen = selected(dict(tensors), prefixes)
    arrays = {name: _array(name, tensor) for name, tensor in chosen.items()}
    return from_named(arrays, in_order=False, prefixes=prefixes)


def _array(name: str, tensor: dict[str, Any]) -> Array:
    dtype = tensor["dtype"]
    if dtype not in DTYPES:
        raise CumpropError(f"{name} holds {dtype} numbers; save it as F32")
    numbers: Array = np.frombuffer(tensor["data"], DTYPES[dtype]).reshape(tensor["shape"])
    if dtype == "BF16":  # the upper half of a float32
        return (numbers.astype("<u4") << 16).view("<f4")
    return numbers
