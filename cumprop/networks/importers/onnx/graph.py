"""The walk along an ONNX graph, from its inputs to its outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from cumprop.errors import CumpropError
from cumprop.networks.importers.onnx import entrywise, evaluation, linear, windows
from cumprop.networks.importers.onnx.affine import Affine, Array, check_shape, stacked
from cumprop.networks.importers.onnx.file import array_of, opset_of
from cumprop.networks.importers.onnx.layers import layers
from cumprop.networks.importers.onnx.neurons import Neurons
from cumprop.networks.importers.onnx.nodes import Node, Value, title
from cumprop.networks.importers.parts import Parts, library

FLOATS = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")
ENDINGS = ("Softmax", "LogSoftmax", "ArgMax", "Hardmax")
"""Operators that are left off at the end of a network."""

CONTROL = "which chooses or repeats parts of the network; export it without control flow"
RECURRENT = "which is recurrent; only feed-forward networks can be read"
STATISTICS = "which divides by a statistic of its input; only BatchNormalization can be read"
REASONS = {
    **dict.fromkeys(("If", "Loop", "Scan"), CONTROL),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), RECURRENT),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN",
                     "RMSNormalization", "LpNormalization", "MeanVarianceNormalization"),
                    STATISTICS),
    "Attention": "which multiplies tensors that depend on the input",
}  # fmt: skip


def passed_on(neurons: Neurons, node: Node) -> Affine:
    return node.tensor()


def dropout(neurons: Neurons, node: Node) -> Affine:
    if node.has(2) and node.constant(2).any():
        raise node.refused("is in training mode; export the network in evaluation mode")
    return node.tensor()


def cast(neurons: Neurons, node: Node) -> Affine:
    kinds = library("onnx").TensorProto.DataType
    if node.op == "Cast" and node.number("to", 0) not in {kinds.Value(kind) for kind in FLOATS}:
        raise node.refused("rounds what depends on the input to integers; cast to float32")
    return node.tensor()


def flatten(neurons: Neurons, node: Node) -> Affine:
    x = node.tensor()
    axis = int(node.number("axis", 1))
    axis += len(x.shape) * (axis < 0)
    return x.reshape((prod(x.shape[:axis]), prod(x.shape[axis:])))


def shape(neurons: Neurons, node: Node) -> Array:
    lengths = np.array(node.tensor().shape, dtype=np.int64)
    start, end = int(node.number("start", 0)), int(node.number("end", len(lengths)))
    return lengths[start:end]


def size(neurons: Neurons, node: Node) -> Array:
    return np.array(node.tensor().constant.size)


def pad(neurons: Neurons, node: Node) -> Affine:
    x = node.tensor()
    if node.text("mode", "constant") != "constant":
        raise node.refused("repeats its input at the border; pad with a constant")
    pads = node.constant(1).ravel()
    axes = node.constant(3, range(len(x.shape))).ravel() % max(len(x.shape), 1)
    if len(pads) != 2 * len(axes) or len({*axes.tolist()}) != len(axes):
        raise node.refused("has pads that do not fit its input; export the network anew")
    width = np.zeros((len(x.shape), 2), dtype=np.int64)
    width[axes] = pads.reshape(2, -1).T
    lengths = np.array(x.shape)
    if (lengths + width.sum(axis=1) < 0).any() or (lengths + width.min(axis=1) < 0).any():
        raise node.refused("cuts off more than there is; export the network anew")
    check_shape(tuple((lengths + np.maximum(width, 0).sum(axis=1)).tolist()))
    where = np.pad(x.entries, np.maximum(width, 0).tolist(), constant_values=-1)
    cut = tuple(
        slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(width, where.shape, strict=True)
    )
    return x.take(where[cut], float(node.constant(2, 0.0).ravel()[0]))


OPERATORS: dict[str, Callable[[Neurons, Node], Any]] = {
    **dict.fromkeys(evaluation.MOVES, lambda neurons, node: evaluation.moved(node)),
    **linear.OPERATORS, **windows.OPERATORS, **entrywise.OPERATORS,
    **dict.fromkeys(("Identity", *ENDINGS), passed_on), **dict.fromkeys(("Cast", "CastLike"), cast),
    "Dropout": dropout, "Flatten": flatten, "Shape": shape, "Size": size, "Pad": pad,
}  # fmt: skip


class Walk:
    """The values of a graph, found node by node; what no output needs is not looked at."""

    def __init__(self, model: Any, folder: Path) -> None:
        self._graph, self._folder, self._opset = model.graph, folder, opset_of(model)
        self._tensors = {tensor.name: tensor for tensor in self._graph.initializer}
        self._neurons = Neurons()
        self._values: dict[str, Value] = {}
        self._ended: dict[str, str] = {}
        self._notes: list[str] = []
        self._nodes = self._needed()
        self._readers = Counter(name for node in self._nodes for name in {*node.input})
        self._readers.update(value.name for value in self._graph.output)

    def parts(self) -> Parts:
        self._take_inputs()
        for node in self._nodes:
            self._follow(node)
        found = layers(self._neurons, self._output(), self._dtype())
        found.notes = self._notes
        return found

    def _needed(self) -> list[Any]:
        wanted = {value.name for value in self._graph.output}
        found = []
        for node in reversed(self._graph.node):
            if wanted & {*node.output} - {""}:
                found.append(node)
                wanted |= {*node.input}
        return found[::-1]

    def _inputs(self) -> list[Any]:
        return [value for value in self._graph.input if value.name not in self._tensors]

    def _dtype(self) -> Any:
        kinds = {value.type.tensor_type.elem_type for value in self._inputs()}
        return np.float64 if library("onnx").TensorProto.DOUBLE in kinds else np.float32

    def _take_inputs(self) -> None:
        """Make a tensor of every input; of a batch there is one."""
        inputs = self._inputs()
        if not inputs:
            raise CumpropError("it has no input; export the network anew")
        start, ranges = 0, []
        for value in inputs:
            self._check_kind(value)
            lengths = self._lengths(value)
            check_shape(lengths)
            self._values[value.name] = self._neurons.inputs(lengths)
            n = int(np.prod(lengths))
            ranges.append(f"{value.name!r} {start} to {start + n - 1}")
            start += n
            if len(lengths) > 1 and lengths[0] > 1:
                self._notes.append(
                    f"the first axis of the input {value.name!r}, {lengths[0]} long, is read as "
                    "features; if it is a batch, export the network with a batch of 1"
                )
        if len(inputs) > 1:
            self._notes.append(f"the inputs are concatenated: {', '.join(ranges)}")

    def _check_kind(self, value: Any) -> None:
        """Refuse integers as inputs, unless they become floating-point numbers at once."""
        kinds = library("onnx").TensorProto.DataType
        kind = value.type.tensor_type.elem_type
        readers = {node.op_type for node in self._nodes if value.name in node.input}
        if kind not in {kinds.Value(name) for name in FLOATS} and readers != {"Cast"}:
            raise CumpropError(
                f"its input {value.name!r} holds no floating-point numbers; export float32"
            )

    def _lengths(self, value: Any) -> tuple[int, ...]:
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            lengths = [dim.dim_value for dim in tensor.shape.dim]  # 0 where it is a name
            if len(lengths) > 1 and lengths[0] < 1:
                lengths[0] = 1
            if all(n > 0 for n in lengths):
                return tuple(lengths)
            if len(lengths) > 2:
                raise self._shapeless(value.name)
        for node in self._nodes:
            if node.op_type in ("Gemm", "MatMul") and node.input[0] == value.name:
                if len(node.input) > 1 and node.input[1] in self._tensors:
                    dims = list(self._tensors[node.input[1]].dims)
                    transposed = any(a.name == "transB" and a.i for a in node.attribute)
                    if len(dims) == 2:
                        return 1, dims[1 if transposed else 0]
        raise self._shapeless(value.name)

    @staticmethod
    def _shapeless(name: str) -> CumpropError:
        return CumpropError(
            f"its input {name!r} has axes of unknown length beside the batch; "
            "export it with a fixed shape"
        )

    def _value(self, name: str, reader: str) -> Value:
        if name not in self._values:
            if name not in self._tensors:
                raise CumpropError(f"{reader} reads {name!r}, which nothing before it gives")
            self._values[name] = array_of(self._tensors[name], self._folder)
        return self._values[name]

    def _follow(self, proto: Any) -> None:
        if proto.op_type == "Constant" and proto.domain in ("", "ai.onnx"):
            self._values[proto.output[0]] = self._constant(proto)
            return
        name = title(proto)
        inputs = [self._value(i, f"node {name}") if i else None for i in proto.input]
        node = Node(proto, self._opset, inputs)
        self._check(proto, node)
        outputs: list[Value]
        if not any(isinstance(value, Affine) for value in inputs) and node.op not in ENDINGS:
            outputs = [_kept(array) for array in evaluation.fold(node)]
        else:
            evaluation.check(node)
            try:
                found = OPERATORS[node.op](self._neurons, node)
            except ValueError as error:  # of NumPy, of shapes that do not broadcast
                why = " ".join(str(error).split())[:100]
                raise node.refused(f"does not fit its inputs ({why}); export it anew") from None
            outputs = found if isinstance(found, list) else [found]
        for output, value in zip(proto.output, outputs, strict=False):
            if isinstance(value, Affine) and self._readers[output] > 1:
                value = self._neurons.named(value)
            self._values[output] = value

    def _check(self, proto: Any, node: Node) -> None:
        """Refuse operators that cannot be read, and those behind a Softmax."""
        kinds = library("onnx").AttributeProto
        external = library("onnx").TensorProto.EXTERNAL
        known = node.op in OPERATORS or node.op in evaluation.FOLDED
        if proto.domain not in ("", "ai.onnx") or not known or node.op in REASONS:
            why = REASONS.get(node.op, "; docs/networks.md lists the operators that can")
            comma = "" if why.startswith(";") else ", "
            raise node.refused(f"cannot be read{comma}{why}")
        if any(a.type in (kinds.GRAPH, kinds.GRAPHS) or a.t.data_location == external
               for a in proto.attribute):  # fmt: skip
            raise node.refused("has attributes that cannot be read; export the network anew")
        ended = next((self._ended[i] for i in proto.input if i in self._ended), None)
        if ended is not None and node.op not in ("Identity", "Cast", *ENDINGS):
            raise node.refused(
                f"follows {ended}, which only the end of a network may have; export logits"
            )
        if node.op in ENDINGS or ended is not None:
            self._ended[proto.output[0]] = ended or node.name
            if node.op in ENDINGS:
                self._notes.append(f"the final {node.name} is left off: the outputs are logits")

    def _constant(self, proto: Any) -> Array:
        kinds = library("onnx").AttributeProto
        for a in proto.attribute:
            if a.name == "value" and a.type == kinds.TENSOR:
                return array_of(a.t, self._folder)
            if a.name in ("value_float", "value_floats"):
                return np.array(a.f if a.name == "value_float" else a.floats, dtype=np.float32)
            if a.name in ("value_int", "value_ints"):
                return np.array(a.i if a.name == "value_int" else a.ints, dtype=np.int64)
        raise CumpropError(f"node {title(proto)} holds no plain numbers; export the network anew")

    def _output(self) -> Affine:
        """All outputs behind one another, each once."""
        found: list[Affine] = []
        ranges, start = [], 0
        for value in self._graph.output:
            tensor = linear.as_affine(self._value(value.name, "the output"))
            if any(tensor is other for other in found):
                continue
            found.append(tensor)
            n = len(tensor.constant)
            ranges.append(f"{value.name!r} {start} to {start + n - 1}")
            start += n
        if not found:
            raise CumpropError("it has no output; export the network anew")
        if len(found) > 1:
            self._notes.append(f"the outputs are concatenated: {', '.join(ranges)}")
        return stacked(found)


def _kept(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float16 else array


__all__ = ["Walk"]
