"""Read a network from a file, or from another library's object."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cumprop.activations import Activation
from cumprop.errors import CumpropError
from cumprop.inputs import Law
from cumprop.memory import check_memory
from cumprop.networks.importers.parts import Parts, naming, one_line
from cumprop.networks.mlp import MLP

FILES = {
    ".npz": "npz",
    ".safetensors": "safetensors",
    ".pt": "torch",
    ".pth": "torch",
    ".onnx": "onnx",
    ".nnet": "nnet",
}
"""The readers of files by suffix: modules of this package with a function `read(path)`."""

NO_NAMES = "a prefix is for state dicts, .safetensors, .pt and .pth; give none here"
NO_SHAPE = "an input_shape is for PyTorch modules; give none here"


def load(
    source: Any,
    activations: str | Activation | Sequence[str | Activation] | None = None,
    input_mean: ArrayLike | None = None,
    input_cov: ArrayLike | None = None,
    prefix: str | Sequence[str] | None = None,
    input: Law | None = None,
    input_shape: Sequence[int] | None = None,
) -> MLP:
    """The network in `source`, as NumPy arrays.

    `source` is the path of a .npz, .safetensors, .pt, .pth, .onnx or .nnet file, a state dict, a
    torch.nn.Module, or a fitted scikit-learn MLPRegressor or MLPClassifier, whose outputs are then
    the logits; it may be the last step of a Pipeline of linear steps, or the regressor of a
    TransformedTargetRegressor. A module is read as in evaluation mode and is not changed; where its
    first layer is no Linear, `input_shape` is the shape of one input without the batch, as in
    (3, 32, 32). Inputs of several axes become vectors, the last axis running fastest.
    `activations` (one, or one per hidden layer) are for sources that hold weights alone: state
    dicts, .safetensors, .pt, and .npz files without them, where ReLU is the default. `input_mean`,
    (n_0,), `input_cov` and `input` are arguments of `MLP` and replace those of an .npz file. Where
    a state dict, .safetensors or .pt holds several networks, `prefix` is the start of the names of
    one, or of each of its parts in the order they run. Dropout is left out; an activation after the
    last map is followed by an identity map. No code in a file is executed. A UserWarning says where
    the network leaves out a part of the source. Raises CumpropError, one line with the remedy, for
    everything that is no such network.

    >>> import numpy as np
    >>> load({"0.weight": np.ones((4, 3)), "2.weight": np.ones((2, 4))}, activations="tanh").widths
    (3, 4, 2)
    """
    prefixes = [prefix] if isinstance(prefix, str) else list(prefix or ())
    name, parts = _read(source, prefixes, input_shape)
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
        network = MLP(**parts.arguments)
    for note in parts.notes:
        warnings.warn(f"{name}: {one_line(note)}", stacklevel=2)
    return network


def _read(source: Any, prefixes: list[str], input_shape: Sequence[int] | None) -> tuple[str, Parts]:
    """The name of a source, and its parts."""
    is_path = isinstance(source, str | os.PathLike)
    name = str(Path(source)) if is_path else type(source).__name__
    with naming(name):
        is_module = _is_a(source, "torch.nn", "Module")
        if input_shape is not None and not is_module:
            raise CumpropError(NO_SHAPE)
        if is_path:
            return name, _from_file(Path(source), prefixes)
        if isinstance(source, Mapping):
            return name, _importer("torch").from_state_dict(source, prefixes)
        if prefixes:
            raise CumpropError(NO_NAMES)
        if is_module:
            return name, _importer("torch").from_module(source, input_shape)
        if _is_a(source, "sklearn.base", "BaseEstimator"):
            return name, _importer("sklearn").from_estimator(source)
        raise CumpropError(
            f"no network; give a path of a file ({', '.join(FILES)}), a state dict, a "
            "torch.nn.Module, or an MLPRegressor or MLPClassifier, alone or in a Pipeline"
        )


def _from_file(path: Path, prefixes: list[str]) -> Parts:
    if path.is_dir():
        raise CumpropError("is a directory; give a file")
    reader = _reader(path.suffix.lower())
    if not prefixes:
        parts: Parts = reader.read(path)
    elif FILES[path.suffix.lower()] in ("torch", "safetensors"):
        parts = reader.read(path, prefixes)
    else:
        raise CumpropError(NO_NAMES)
    return parts


def _reader(suffix: str) -> Any:
    if suffix not in FILES:
        raise CumpropError(f"suffix {suffix!r} is not known; the known ones are {', '.join(FILES)}")
    return _importer(FILES[suffix])


def _importer(name: str) -> Any:
    return importlib.import_module(f"cumprop.networks.importers.{name}")


def _is_a(source: object, module: str, name: str) -> bool:
    """Whether `source` is an instance of a class, without an import of the module of the class."""
    return module in sys.modules and isinstance(source, getattr(sys.modules[module], name))
