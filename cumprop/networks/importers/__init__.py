"""Read a network from a file, or from another library's object."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cumprop.activations import Activation
from cumprop.errors import CumpropError
from cumprop.inputs import Law
from cumprop.networks.importers.parts import Parts, check_memory, naming
from cumprop.networks.mlp import MLP

FILES = {
    ".npz": "npz",
    ".safetensors": "safetensors",
    ".pt": "torch",
    ".pth": "torch",
    ".onnx": "onnx",
}
"""The readers of files by suffix: modules of this package with a function `read(path)`."""

NO_NAMES = "a prefix is for state dicts, .safetensors, .pt and .pth; give none here"


def load(
    source: Any,
    activations: str | Activation | Sequence[str | Activation] | None = None,
    input_mean: ArrayLike | None = None,
    input_cov: ArrayLike | None = None,
    prefix: str | Sequence[str] | None = None,
    input: Law | None = None,
) -> MLP:
    """The network in `source`, as NumPy arrays.

    `source` is the path of a .npz, .safetensors, .pt, .pth or .onnx file, a state dict, a
    torch.nn.Sequential, or a fitted scikit-learn MLPRegressor or MLPClassifier, whose outputs are
    then the logits. `activations` (one, or one per hidden layer) are for sources that hold weights
    alone: state dicts, .safetensors, .pt, and .npz files without them, where ReLU is the default.
    `input_mean`, (n_0,), `input_cov` and `input` are arguments of `MLP` and replace those of an
    .npz file.
    Where a state dict, .safetensors or .pt holds several networks, `prefix` is the start of the
    names of one, or of each of its parts in the order they run. Dropout is left out; an activation
    after the last map is followed by an identity map. No code in a file is executed. Raises
    CumpropError, one line with the remedy, for everything that is no such network.

    >>> import numpy as np
    >>> load({"0.weight": np.ones((4, 3)), "2.weight": np.ones((2, 4))}, activations="tanh").widths
    (3, 4, 2)
    """
    prefixes = [prefix] if isinstance(prefix, str) else list(prefix or ())
    name, parts = _read(source, prefixes)
    with naming(name):
        if activations is not None:
            if parts.activations is not None:
                raise CumpropError("it names its activations itself; give none beside it")
            parts.activations = activations
        elif (
            parts.activations is None
            and len(parts.weights) > 1
            and not name.lower().endswith(".npz")
        ):
            raise CumpropError(
                "it holds weights alone; name the activations, as in --activations relu: "
                f"one for all, or one for each of the {len(parts.weights) - 1} hidden layers"
            )
        if input is not None or input_mean is not None or input_cov is not None:
            parts.input = input
        if input is not None:
            parts.input_mean = parts.input_cov = None
        if input_mean is not None:
            parts.input_mean = input_mean
        if input_cov is not None:
            check_memory(8 * np.size(input_cov))
            parts.input_cov = input_cov
        return MLP(**parts.arguments)


def _read(source: Any, prefixes: list[str]) -> tuple[str, Parts]:
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        suffix = path.suffix.lower()
        with naming(str(path)):
            if path.is_dir():
                raise CumpropError("is a directory; give a file")
            if not prefixes:
                return str(path), _reader(suffix).read(path)
            if FILES.get(suffix) in ("torch", "safetensors"):
                return str(path), _reader(suffix).read(path, prefixes)
            raise CumpropError(NO_NAMES)
    name = type(source).__name__
    with naming(name):
        if isinstance(source, Mapping):
            return name, _importer("torch").from_state_dict(source, prefixes)
        if prefixes:
            raise CumpropError(NO_NAMES)
        if _is_a(source, "torch.nn", "Module"):
            return name, _importer("torch").from_module(source)
        if _is_a(source, "sklearn.base", "BaseEstimator"):
            return name, _importer("sklearn").from_estimator(source)
        raise CumpropError(
            "no network; give a path, a state dict, a torch.nn.Sequential, an MLPRegressor or an "
            "MLPClassifier"
        )


def _reader(suffix: str) -> Any:
    if suffix not in FILES:
        raise CumpropError(f"suffix {suffix!r} is not known; the known ones are {', '.join(FILES)}")
    return _importer(FILES[suffix])


def _importer(name: str) -> Any:
    return importlib.import_module(f"cumprop.networks.importers.{name}")


def _is_a(source: object, module: str, name: str) -> bool:
    """Whether `source` is an instance of a class, without an import of the module of the class."""
    return module in sys.modules and isinstance(source, getattr(sys.modules[module], name))
