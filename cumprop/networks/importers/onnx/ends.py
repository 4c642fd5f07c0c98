"""The inputs and outputs of an ONNX graph: their shapes, the batch, their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from cumprop.errors import CumpropError
from cumprop.networks.importers.onnx.affine import Affine, check_entries, stacked
from cumprop.networks.importers.onnx.file import fractional
from cumprop.networks.importers.onnx.linear import as_affine
from cumprop.networks.importers.onnx.neurons import Neurons
from cumprop.networks.importers.onnx.nodes import Value


def inputs(
    neurons: Neurons, values: list[Any], nodes: list[Any], constants: Mapping[str, Any]
) -> tuple[dict[str, Value], list[str]]:
    """Tensors for the inputs of a graph, in their order, and notes of how they are read.

    The first of several axes is the batch if its length is 1 or a name; of a batch there is one
    input here.
    """
    found: dict[str, Value] = {}
    notes = []
    for value in values:
        kind = value.type.tensor_type.elem_type
        readers = {node.op_type for node in nodes if value.name in node.input}
        if not fractional(kind) and readers != {"Cast"}:
            raise CumpropError(
                f"its input {value.name!r} holds no floating-point numbers; export float32"
            )
        lengths = _lengths(value, nodes, constants)
        check_entries(lengths)
        found[value.name] = neurons.inputs(lengths)
        if len(lengths) > 1 and lengths[0] > 1:
            notes.append(
                f"the first axis of the input {value.name!r}, {lengths[0]} long, is read as "
                "features; if it is a batch, export the network with a batch of 1"
            )
    if not found:
        raise CumpropError("it has no input; export the network anew")
    return found, [*notes, *_ranges("inputs", found)]


def output(values: Mapping[str, Value]) -> tuple[Affine, list[str]]:
    """The outputs of a graph behind one another, each tensor once, and a note if it has several."""
    found = {
        name: as_affine(value)
        for i, (name, value) in enumerate(values.items())
        if not any(value is earlier for earlier in list(values.values())[:i])
    }
    if not found:
        raise CumpropError("it has no output; export the network anew")
    return stacked(list(found.values())), _ranges("outputs", found)


def _ranges(what: str, tensors: Mapping[str, Value]) -> list[str]:
    """A note where several tensors are concatenated."""
    start, ranges = 0, []
    for name, tensor in tensors.items():
        n = prod(tensor.shape)
        ranges.append(f"{name!r} {start} to {start + n - 1}")
        start += n
    return [f"the {what} are concatenated: {', '.join(ranges)}"] if len(ranges) > 1 else []


def _lengths(value: Any, nodes: Iterable[Any], constants: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of an input, which the matrix that reads it tells where the file does not."""
    tensor = value.type.tensor_type
    lengths = [0, 0]
    if tensor.HasField("shape"):
        lengths = [dim.dim_value for dim in tensor.shape.dim]  # 0 where it is a name
    if len(lengths) > 1:
        lengths[0] = max(lengths[0], 1)
    if lengths[1:] == [0]:
        for node in nodes:
            if node.op_type in ("Gemm", "MatMul") and node.input[:1] == [value.name]:
                matrix = constants.get(node.input[1]) if len(node.input) > 1 else None
                turned = any(a.name == "transB" and a.i for a in node.attribute)
                if matrix is not None and len(matrix.dims) == 2:
                    lengths[1] = matrix.dims[1 if turned else 0]
    if any(n < 1 for n in lengths):
        raise CumpropError(
            f"its input {value.name!r} has axes of unknown length beside the batch; "
            "export it with a fixed shape"
        )
    return tuple(lengths)
