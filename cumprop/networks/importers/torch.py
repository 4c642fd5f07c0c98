"""PyTorch: modules, state dicts, and files of torch.save with a state dict."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from cumprop.errors import CumpropError
from cumprop.memory import check_memory
from cumprop.networks.importers import onnx
from cumprop.networks.importers.named import from_named, selected
from cumprop.networks.importers.onnx.file import model_of
from cumprop.networks.importers.parts import Array, Linear, Parts, chained, library

NAMES = {
    "ReLU": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "SiLU": "silu", "Mish": "mish",
    "Hardswish": "hard_swish", "ReLU6": "relu6", "SELU": "selu", "Softsign": "softsign",
}  # fmt: skip
SAVE = "save the weights: torch.save(model.state_dict(), path)"


def read(path: Path, prefixes: Sequence[str] = ()) -> Parts:
    """A state dict in a file of torch.save, read with weights_only=True: no code in it runs."""
    torch = library("torch")
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if not is_zip:
        raise CumpropError(
            f"damaged, or not a checkpoint as PyTorch writes it since version 1.6; {SAVE}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            check_memory(sum(entry.file_size for entry in archive.infolist()))
        with warnings.catch_warnings(action="ignore"):  # the errors say it
            content = torch.load(path, map_location="cpu", weights_only=True)
    except CumpropError:
        raise
    except Exception as error:  # PyTorch raises a dozen types for damaged files
        what = "a TorchScript archive" if "TorchScript" in str(error) else "damaged"
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            what = f"it pickles {found[1]}, and unpickling runs code"
        raise CumpropError(f"{what}; {SAVE}") from None
    if not isinstance(content, Mapping):
        raise CumpropError(f"it holds a {type(content).__name__}, no state dict; {SAVE}")
    return from_state_dict(content, prefixes)


def from_state_dict(tensors: Mapping[Any, Any], prefixes: Sequence[str] = ()) -> Parts:
    """Tensors or arrays by name, in the order the layers run; no activations."""
    for name in tensors:
        if not isinstance(name, str):
            raise CumpropError(f"{name!r} is no name; give a state dict: names and tensors")
    tensors = selected(tensors, prefixes)
    for name, tensor in tensors.items():
        if not hasattr(tensor, "dtype"):
            raise CumpropError(
                f"{name!r} is a {type(tensor).__name__}, no tensor; give a state dict alone"
            )
    check_memory(sum(_n_bytes(tensor) for tensor in tensors.values()))
    arrays = {name: _array(name, tensor) for name, tensor in tensors.items()}
    return from_named(arrays, in_order=True, prefixes=prefixes)


def from_module(module: Any, input_shape: Sequence[int] | None = None) -> Parts:
    """The network of any module that PyTorch can export to ONNX, in evaluation mode.

    `input_shape` is the shape of one input, without the batch. Without it, the maps and activations
    of a Sequential are read from its layers; a module of another kind must begin with a Linear.
    The mode of the module is as before when this returns.
    """
    if input_shape is None:
        try:
            return chained(_steps(module, type(module).__name__))
        except _OtherLayerError:
            input_shape = _first_width(module)
    return _exported(module, input_shape)


class _OtherLayerError(Exception):
    """A layer that is not read by itself."""


def _steps(module: Any, name: str) -> Iterator[Linear | str]:
    """Maps and activations, depth first; `name` says in errors which layer it is."""
    nn = library("torch").nn
    kind = type(module).__name__
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        for key, layer in module.named_children():
            yield from _steps(layer, f"layer {key} ({type(layer).__name__})")
    elif isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward:
        yield _array(name, module.weight), _optional(name, module.bias)
    elif type(module) in (nn.Identity, nn.Dropout) or _flattens(module, nn):
        return
    elif type(module) is nn.LeakyReLU:
        yield f"leaky_relu({module.negative_slope!r})"
    elif type(module) is nn.GELU:
        yield "gelu" if module.approximate == "none" else "gelu_tanh"
    elif kind in NAMES and type(module) is getattr(nn, kind):
        yield NAMES[kind]
    else:
        raise _OtherLayerError


def _first_width(module: Any) -> tuple[int]:
    """The shape of an input of a module whose first layer with parameters is a Linear."""
    layers = (m for m in module.modules() if next(m.parameters(recurse=False), None) is not None)
    first = next(layers, None)
    if not isinstance(first, library("torch").nn.Linear):
        raise CumpropError(
            "the shape of its input is not known, because its first layer is no Linear; give the "
            "shape of one input, without the batch, as in input_shape=(3, 32, 32)"
        )
    return (first.in_features,)


def _exported(module: Any, shape: Sequence[int]) -> Parts:
    """The ONNX graph of a module for one input, made in memory by the exporter of TorchScript.

    The exporter records the operations on one random input; a note says where Python code looks at
    numbers on the way. PyTorch's newer exporter needs one more package and 20 times as long.
    """
    torch = library("torch")
    library("onnx")
    if not isinstance(shape, Sequence) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise CumpropError("input_shape must be positive whole numbers, as in (3, 32, 32)")
    file = io.BytesIO()
    try:
        tensors = [*module.parameters(), *module.buffers()]
        check_memory(sum(map(_n_bytes, tensors)) + 4 * prod(shape))
        x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
        like = next((t for t in tensors if t.is_floating_point()), x)
        with _evaluating(module), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.onnx.export(module, (x.to(like),), file, dynamo=False)
    except CumpropError:
        raise
    except Exception as error:  # whatever the code of the module raises
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CumpropError(
            f"PyTorch cannot export it for an input of shape {tuple(shape)} (input_shape gives "
            f"another): {reason}"
        ) from None
    parts = onnx.from_model(model_of(file.getvalue()), Path())
    looks = [w for w in caught if issubclass(w.category, torch.jit.TracerWarning)]
    if looks:
        place = f"{Path(looks[0].filename).name}, line {looks[0].lineno}"
        parts.notes.append(
            f"its Python code looks at numbers ({place}); what depends on them is as for one "
            "random input"
        )
    return parts


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Put a module and its layers into evaluation mode for the `with` block."""
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def _flattens(module: Any, nn: Any) -> bool:
    return type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)


def _optional(name: str, tensor: Any) -> Array | None:
    return None if tensor is None else _array(name, tensor)


def _n_bytes(tensor: Any) -> int:
    """Bytes of the array made of a tensor; an expanded tensor itself takes almost none."""
    n_bytes = int(tensor.dtype.itemsize)
    for length in tensor.shape:
        n_bytes *= int(length)
    return n_bytes


def _array(name: str, tensor: Any) -> Array:
    if isinstance(tensor, np.ndarray):
        return tensor
    torch = library("torch")
    strange = not isinstance(tensor, torch.Tensor) or tensor.is_quantized or tensor.is_meta
    if strange or tensor.layout is not torch.strided or torch.nn.parameter.is_lazy(tensor):
        raise CumpropError(f"{name} is no ordinary tensor; give a dense one that has numbers")
    host = tensor.detach().cpu()
    if host.dtype.is_floating_point and host.dtype is not torch.float64:
        host = host.to(torch.float32)
    array: Array = host.resolve_neg().numpy()
    return array
