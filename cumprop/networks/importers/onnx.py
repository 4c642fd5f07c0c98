"""ONNX files: one chain of Gemm, MatMul and Add, Flatten and activations."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from cumprop.errors import CumpropError
from cumprop.networks.importers.parts import Array, Linear, Parts, chained, check_memory, library

ACTIVATIONS = {
    "Relu": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "Abs": "abs", "Sign": "sign",
}  # fmt: skip


def read(path: Path) -> Parts:
    """The linear maps and activations that lead from the one input to the one output."""
    check_memory(path.stat().st_size)
    return from_bytes(path.read_bytes(), path.parent)


def from_bytes(content: bytes, folder: Path) -> Parts:
    """The network in the content of a file, whose external data lie in the folder."""
    onnx = library("onnx")
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # of protobuf, which has several
        model = None
    if model is None or not model.opset_import:  # written last, so that a cut file lacks it
        raise CumpropError("damaged, or not an ONNX file; export it anew")
    with np.errstate(all="ignore"):  # MLP refuses what overflows
        return chained(_Chain(model.graph, folder).steps())


class _Chain:
    """A walk along the nodes, each of which must take the output of the one before."""

    def __init__(self, graph: Any, folder: Path) -> None:
        self._graph, self._folder = graph, folder
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._features: int | None = None
        self._rank: int | None = None
        self._steps: list[Linear | str] = []
        self._value = ""

    def steps(self) -> list[Linear | str]:
        inputs = [value for value in self._graph.input if value.name not in self._constants]
        if len(inputs) != 1 or len(self._graph.output) != 1:
            raise CumpropError(
                f"it has {len(inputs)} inputs and {len(self._graph.output)} outputs; "
                "only networks with one of each can be read"
            )
        self._value = inputs[0].name
        self._note_shape(inputs[0].type.tensor_type)
        for node in self._graph.node:
            if node.op_type == "Constant" and _is_standard(node):
                self._note_constant(node)
            else:
                self._follow(node)
        if self._graph.output[0].name != self._value:
            raise CumpropError("its output is not what its last node gives; it is no chain")
        return self._steps

    def _note_shape(self, tensor: Any) -> None:
        """Note whether the input has more than two axes, so that it must be flattened first."""
        if tensor.HasField("shape"):
            lengths = [dim.dim_value for dim in tensor.shape.dim][1:]  # 0 where it is a name
            self._rank = 1 + len(lengths)
            self._features = prod(lengths) or None

    def _note_constant(self, node: Any) -> None:
        for attribute in node.attribute:
            if attribute.name == "value":
                self._constants[node.output[0]] = attribute.t

    def _follow(self, node: Any) -> None:
        read = READERS.get(node.op_type)
        if read is None or not _is_standard(node):
            raise _refused(
                node,
                "cannot be read; only Gemm, MatMul, Add, Flatten, Identity, LeakyRelu, Gelu, "
                f"{', '.join(ACTIVATIONS)} can (export logits, in evaluation mode)",
            )
        if self._value not in node.input or len(node.output) != 1:
            raise _refused(node, "does not follow the node before it; only chains can be read")
        read(self, node)
        self._value = node.output[0]

    def _gemm(self, node: Any) -> None:
        if _number(node, "transA", 0):
            raise _refused(node, "transposes its input, which cannot be read")
        matrix = _number(node, "alpha", 1) * self._matrix(node)
        w = matrix if _number(node, "transB", 0) else matrix.T
        bias = None
        if len(node.input) > 2 and node.input[2]:
            bias = _number(node, "beta", 1) * self._bias(node, 2, len(w))
        self._add_map(node, w, bias)

    def _matmul(self, node: Any) -> None:
        self._add_map(node, self._matrix(node).T, None)

    def _add(self, node: Any) -> None:
        last = self._steps[-1] if self._steps else ""
        if isinstance(last, str) or last[1] is not None:
            raise _refused(node, "follows no MatMul, so it adds no bias")
        w = last[0]
        self._steps[-1] = w, self._bias(node, 1 - list(node.input).index(self._value), len(w))

    def _flatten(self, node: Any) -> None:
        if _number(node, "axis", 1) != 1:
            raise _refused(node, "flattens along another axis than 1")
        self._rank = 2

    def _reshape(self, node: Any) -> None:
        """Accept a Reshape to (rows, features), as PyTorch exports Flatten."""
        shape = self._constant(node, 1).ravel().tolist()
        if len(shape) != 2 or self._features is None or shape[1] not in (-1, self._features):
            raise _refused(node, "does not flatten rows; only a Reshape that does can be read")
        self._rank = 2

    def _identity(self, node: Any) -> None:
        pass

    def _activation(self, node: Any) -> None:
        self._steps.append(ACTIVATIONS[node.op_type])

    def _leaky_relu(self, node: Any) -> None:
        slope = np.float32(_number(node, "alpha", 0.01))
        self._steps.append(f"leaky_relu({slope!s})")  # its shortest decimal: 0.2, not 0.20000000298

    def _gelu(self, node: Any) -> None:
        if any(attribute.s != b"none" for attribute in node.attribute):
            raise _refused(node, "is the tanh form of GELU; only the exact one can be read")
        self._steps.append("gelu")

    def _add_map(self, node: Any, w: Array, bias: Array | None) -> None:
        if self._rank is not None and self._rank > 2:
            raise _refused(node, "takes inputs of several axes; put a Flatten before it")
        if self._features is not None and w.shape[1] != self._features:
            raise _refused(node, f"takes {w.shape[1]} numbers but gets {self._features}")
        self._features, self._rank = len(w), 2
        self._steps.append((w, bias))

    def _bias(self, node: Any, position: int, n: int) -> Array:
        bias = self._constant(node, position)
        if bias.size not in (1, n) or prod(bias.shape[:-1]) != 1:
            raise _refused(node, f"has a bias of shape {bias.shape}; it should be ({n},)")
        return np.broadcast_to(bias.ravel(), (n,))

    def _matrix(self, node: Any) -> Array:
        if node.input[0] != self._value:
            raise _refused(node, "multiplies from the left, so it is no linear layer")
        w = self._constant(node, 1)
        if w.ndim != 2:
            raise _refused(node, f"has weights of shape {w.shape}; they should be a matrix")
        return w

    def _constant(self, node: Any, position: int) -> Array:
        name = node.input[position] if position < len(node.input) else ""
        if name not in self._constants:
            raise _refused(node, f"has no constant numbers as its input {position}")
        return self._array(self._constants[name])

    def _array(self, tensor: Any) -> Array:
        onnx = library("onnx")
        kinds = onnx.TensorProto
        floats = (kinds.FLOAT, kinds.DOUBLE, kinds.FLOAT16, kinds.BFLOAT16)
        if tensor.data_type not in (*floats, kinds.INT64):  # INT64: the shape of a Reshape
            raise CumpropError(f"{tensor.name} holds no floating-point numbers; export float32")
        half = tensor.data_type in (kinds.FLOAT16, kinds.BFLOAT16)
        n_bytes = prod(tensor.dims) * (2 if half else 4 if tensor.data_type == kinds.FLOAT else 8)
        check_memory(n_bytes)
        if tensor.data_location == kinds.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if entries.get("length") != str(n_bytes):
                raise CumpropError(f"{tensor.name} should have {n_bytes} bytes of external data")
        try:
            array = onnx.numpy_helper.to_array(tensor, base_dir=str(self._folder))
        except Exception:  # of protobuf, NumPy and the file system
            raise CumpropError(
                f"{tensor.name}, of shape {tuple(tensor.dims)}, is damaged, or the file of its "
                "external data is missing; export the network anew"
            ) from None
        return np.asarray(array, dtype=np.float32) if half else array


READERS: dict[str, Callable[[_Chain, Any], None]] = {
    "Gemm": _Chain._gemm,
    "MatMul": _Chain._matmul,
    "Add": _Chain._add,
    "Flatten": _Chain._flatten,
    "Reshape": _Chain._reshape,
    "Identity": _Chain._identity,
    "LeakyRelu": _Chain._leaky_relu,
    "Gelu": _Chain._gelu,
    **dict.fromkeys(ACTIVATIONS, _Chain._activation),
}


def _is_standard(node: Any) -> bool:
    return node.domain in ("", "ai.onnx")


def _number(node: Any, name: str, default: float) -> float:
    kinds = library("onnx").AttributeProto
    for attribute in node.attribute:
        if attribute.name == name:
            if attribute.type not in (kinds.FLOAT, kinds.INT):
                raise _refused(node, f"has an attribute {name} that is no number")
            return float(attribute.f if attribute.type == kinds.FLOAT else attribute.i)
    return default


def _refused(node: Any, why: str) -> CumpropError:
    domain = "" if _is_standard(node) else f"{node.domain}."
    name = f" {node.name!r}" if node.name else ""
    return CumpropError(f"node {domain}{node.op_type}{name} {why}")
