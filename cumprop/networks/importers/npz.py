"""npz files: W0, W1, … (out, in), b0, b1, …, activations, the law of the input, init_scale."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from cumprop.errors import CumpropError
from cumprop.inputs import Uniform
from cumprop.memory import check_memory
from cumprop.networks.importers.parts import Array, Parts

MISSPELT = re.compile(
    r"(?:w|b|weights?|bias(?:es)?|kernels?)[\W_]?\d|\w.*(?:weight|bias|kernel)$", re.IGNORECASE
)
"""Names that look like further weights or biases; such arrays are an error, not left out."""


def read(path: Path) -> Parts:
    """The network in a file as `MLP.save` writes it, shapes (n_l, n_{l-1}) and (n_l,).

    Activations may be missing; other keys are ignored. Raises CumpropError for a damaged file.
    """
    arrays = _arrays(path)
    n_maps = sum(re.fullmatch(r"W\d+", key) is not None for key in arrays)
    expected = {f"{letter}{layer}" for letter in "Wb" for layer in range(n_maps)}
    strays = {key for key in arrays if re.fullmatch(r"[Wb]\d+", key)} - expected
    strays |= {key for key in arrays if MISSPELT.match(key)} - expected
    if not n_maps or strays:
        raise CumpropError(
            "weights must be W0, W1, … without gaps, biases b0, b1, … beside them; "
            f"found {', '.join(sorted(strays or arrays)[:8]) or 'nothing'}"
        )
    names = arrays.get("activations")
    if names is not None and names.dtype.kind != "U":
        raise CumpropError(f"activations must be names, not {names.dtype}; save strings")
    return Parts(
        [arrays[f"W{layer}"] for layer in range(n_maps)],
        [arrays.get(f"b{layer}") for layer in range(n_maps)],
        None if names is None else _one_or_all([str(name) for name in names.ravel()]),
        arrays.get("input_mean"),
        arrays.get("input_cov"),
        arrays.get("init_scale"),
        _uniform(arrays),
    )


def _uniform(arrays: dict[str, Array]) -> Uniform | None:
    """The box of an input that is uniform; None where the file has none."""
    ends = [arrays.get(name) for name in ("input_low", "input_high")]
    if all(end is None for end in ends):
        return None
    if any(end is None for end in ends):
        raise CumpropError("it has one of input_low and input_high; save both")
    return Uniform(*(end for end in ends if end is not None))


def _one_or_all(names: list[str]) -> str | list[str]:
    return names[0] if len(names) == 1 else names


def _arrays(path: Path) -> dict[str, Array]:
    """All arrays of a file, after a check of the sizes that the file claims."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_memory(sum(entry.file_size for entry in archive.infolist()))
            for name in archive.namelist():
                _check_header(archive, name)
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays}
    except (OSError, CumpropError):
        raise
    except Exception:  # zipfile and NumPy raise a dozen types for damaged files
        raise CumpropError(
            "damaged, or not an npz file of plain arrays; write it with MLP.save"
        ) from None


def _check_header(archive: zipfile.ZipFile, name: str) -> None:
    """Raise CumpropError where a header claims more bytes than the file has.

    NumPy would reserve that memory before it reads.
    """
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = header(file)
        n_bytes = dtype.itemsize
        for length in shape:
            n_bytes *= length
        if n_bytes > archive.getinfo(name).file_size:
            raise CumpropError(f"damaged: {name} has shape {shape} but not as many numbers")
