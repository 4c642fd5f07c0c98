"""ONNX models: read from bytes, their arrays taken out, external data included."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from cumprop.errors import CumpropError
from cumprop.memory import check_memory
from cumprop.networks.importers.onnx.affine import Array
from cumprop.networks.importers.parts import library

OLDEST = 7
"""The first opset that is read; before it, Add and Mul named the axes they broadcast along."""

LARGEST = 100_000
"""The most nodes that the functions of a model may be written out to."""


def model_of(content: bytes) -> Any:
    """The model in the bytes of a file, functions of its own written out.

    Raises CumpropError for bytes that are none, and for functions without end.
    """
    onnx = library("onnx")
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # of protobuf, which has several
        model = None
    if model is None or not model.opset_import:  # written last, so that a cut file lacks it
        raise CumpropError("damaged, or not an ONNX file; export it anew")
    if not model.functions:
        return model
    _check_functions(model)
    try:
        return library("onnx.inliner").inline_local_functions(model)
    except Exception:  # of onnx
        raise CumpropError("its functions cannot be written out; export the network anew") from None


def _check_functions(model: Any) -> None:
    """Raise CumpropError where functions call themselves, or each other into countless nodes."""
    bodies = {(f.domain, f.name): [(n.domain, n.op_type) for n in f.node] for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(name: tuple[str, str]) -> int:
        if name not in sizes:
            sizes[name] = LARGEST  # until it is known: what a call of itself counts
            sizes[name] = sum(size(called) for called in bodies[name]) if name in bodies else 1
        return sizes[name]

    try:
        total = sum(size((node.domain, node.op_type)) for node in model.graph.node)
    except RecursionError:
        total = LARGEST
    if total >= LARGEST:
        raise CumpropError(f"its functions make more than {LARGEST:,} nodes; export it anew")


def opset_of(model: Any) -> int:
    """The version of ONNX's own operators that a model uses."""
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    newest = library("onnx").defs.onnx_opset_version()
    if len(versions) != 1 or not OLDEST <= versions[0] <= newest:
        raise CumpropError(
            f"its opset is {versions[0] if versions else 'missing'}; "
            f"export it with an opset of {OLDEST} to {newest}"
        )
    return int(versions[0])


def fractional(kind: float) -> bool:
    """Whether tensors of that type hold floating-point numbers."""
    kinds = library("onnx").TensorProto
    return kind in (kinds.FLOAT, kinds.DOUBLE, kinds.FLOAT16, kinds.BFLOAT16)


def constant_of(node: Any, folder: Path) -> Array:
    """The numbers of a Constant node."""
    kinds = library("onnx").AttributeProto
    for a in node.attribute:
        if a.name == "value" and a.type == kinds.TENSOR:
            return array_of(a.t, folder)
        if a.name in ("value_float", "value_floats"):
            return np.array(a.f if a.name == "value_float" else a.floats, dtype=np.float32)
        if a.name in ("value_int", "value_ints"):
            return np.array(a.i if a.name == "value_int" else a.ints, dtype=np.int64)
    raise CumpropError(f"node Constant {node.name!r} holds no plain numbers; export float32")


def array_of(tensor: Any, folder: Path) -> Array:
    """The numbers of a tensor; its external data lies in `folder`. Halves become float32."""
    onnx = library("onnx")
    kinds = onnx.TensorProto
    name = tensor.name or "a constant"
    sizes = {
        kinds.FLOAT: 4, kinds.DOUBLE: 8, kinds.FLOAT16: 2, kinds.BFLOAT16: 2, kinds.INT8: 1,
        kinds.INT16: 2, kinds.INT32: 4, kinds.INT64: 8, kinds.UINT8: 1, kinds.UINT16: 2,
        kinds.UINT32: 4, kinds.UINT64: 8, kinds.BOOL: 1,
    }  # fmt: skip
    if tensor.data_type not in sizes:
        raise CumpropError(f"{name} holds no plain numbers; export float32")
    if min(tensor.dims, default=0) < 0:
        raise CumpropError(f"{name} has the shape {tuple(tensor.dims)}; export the network anew")
    n_bytes = prod(tensor.dims) * sizes[tensor.data_type]
    check_memory(n_bytes)
    if tensor.data_location == kinds.EXTERNAL:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries.get("length") != str(n_bytes):
            raise CumpropError(f"{name} should have {n_bytes} bytes of external data")
    try:
        array = onnx.numpy_helper.to_array(tensor, base_dir=str(folder))
    except Exception:  # of protobuf, NumPy and the file system
        raise CumpropError(
            f"{name}, of shape {tuple(tensor.dims)}, is damaged, or the file of its "
            "external data is missing; export the network anew"
        ) from None
    half = tensor.data_type in (kinds.FLOAT16, kinds.BFLOAT16)
    return np.asarray(array, dtype=np.float32) if half else np.asarray(array)
