"""PyTorch: torch.nn.Sequential, state dicts, and files of torch.save with a state dict."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cumprop.errors import CumpropError
from cumprop.networks.importers.named import from_named, selected
from cumprop.networks.importers.parts import Array, Linear, Parts, chained, check_memory, library

NAMES = {"ReLU": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid"}
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


def from_module(module: Any) -> Parts:
    """A torch.nn.Sequential, nested ones included, as it computes in evaluation mode."""
    return chained(_steps(module, type(module).__name__))


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
    elif type(module) is nn.GELU and module.approximate == "none":
        yield "gelu"
    elif kind in NAMES and type(module) is getattr(nn, kind):
        yield NAMES[kind]
    else:
        raise CumpropError(
            f"{name} cannot be read; only Sequential, Linear, LeakyReLU, GELU (exact), "
            f"{', '.join(NAMES)}, Flatten, Dropout and Identity can, others go through cumprop.MLP"
        )


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
