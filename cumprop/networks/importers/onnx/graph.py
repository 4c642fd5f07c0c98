"""The walk along an ONNX graph, from its inputs to its outputs."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from cumprop.errors import CumpropError
from cumprop.networks.importers.onnx import ends, entrywise, evaluation, linear, moves, windows
from cumprop.networks.importers.onnx.affine import Affine
from cumprop.networks.importers.onnx.file import array_of, constant_of, opset_of
from cumprop.networks.importers.onnx.layers import layers
from cumprop.networks.importers.onnx.neurons import Neurons
from cumprop.networks.importers.onnx.nodes import Node, Operators, Value, standard, title
from cumprop.networks.importers.parts import Parts, library

ENDINGS = ("Softmax", "LogSoftmax", "ArgMax", "Hardmax")
"""Operators that are left off at the end of a network."""

OPERATORS: Operators = {
    **moves.OPERATORS, **linear.OPERATORS, **windows.OPERATORS, **entrywise.OPERATORS,
    **dict.fromkeys(ENDINGS, moves.passed_on),
}  # fmt: skip

STATISTIC = "divides by a statistic of its input; of normalisations BatchNormalization can be read"
PRODUCT = "multiplies tensors that depend on the input; attention cannot be read"
RECURRENT = "is recurrent; only feed-forward networks can be read"
CONTROL = "chooses or repeats parts of the network; export it without control flow"
REASONS = {
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN",
                     "RMSNormalization", "LpNormalization", "MeanVarianceNormalization"),
                    STATISTIC),
    **dict.fromkeys(("Attention", "Einsum"), PRODUCT),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), RECURRENT),
    **dict.fromkeys(("If", "Loop", "Scan"), CONTROL),
}  # fmt: skip
"""The reasons for which operators are refused."""

UNKNOWN = "cannot be read; the operators that can are listed in docs/networks.md"


class Walk:
    """The values of a graph, found node by node; what no output needs is not looked at."""

    def __init__(self, model: Any, folder: Path) -> None:
        self._graph, self._folder, self._opset = model.graph, folder, opset_of(model)
        self._tensors = {tensor.name: tensor for tensor in self._graph.initializer}
        self._inputs = [value for value in self._graph.input if value.name not in self._tensors]
        self._nodes = self._needed()
        self._readers = Counter(name for node in self._nodes for name in {*node.input})
        self._readers.update(value.name for value in self._graph.output)
        self._neurons = Neurons()
        self._values: dict[str, Value] = {}
        self._ended: dict[str, str] = {}
        self._notes: list[str] = []

    def parts(self) -> Parts:
        """The network, and notes of how it is read."""
        self._values, notes = ends.inputs(self._neurons, self._inputs, self._nodes, self._tensors)
        for node in self._nodes:
            self._follow(node)
        names = [value.name for value in self._graph.output]
        output, more = ends.output({name: self._value(name, "the output") for name in names})
        double = library("onnx").TensorProto.DOUBLE
        kinds = [value.type.tensor_type.elem_type for value in self._inputs]
        found = layers(self._neurons, output, np.float64 if double in kinds else np.float32)
        found.notes = [*notes, *self._notes, *more]
        return found

    def _needed(self) -> list[Any]:
        """The nodes that the outputs depend on, in their order."""
        given = Counter(name for node in self._graph.node for name in node.output if name)
        given.update(value.name for value in self._graph.input)
        name, times = max(given.items(), key=itemgetter(1), default=("", 0))
        if times > 1:
            raise CumpropError(f"it gives {name!r} {times} times; export the network anew")
        wanted = {value.name for value in self._graph.output}
        found = []
        for node in reversed(self._graph.node):
            if wanted & {*node.output} - {""}:
                found.append(node)
                wanted |= {*node.input}
        return found[::-1]

    def _value(self, name: str, reader: str) -> Value:
        if name not in self._values:
            if name not in self._tensors:
                raise CumpropError(
                    f"{reader} reads {name!r}, which nothing before it gives; export it anew"
                )
            self._values[name] = array_of(self._tensors[name], self._folder)
        return self._values[name]

    def _follow(self, proto: Any) -> None:
        """Find the values that a node gives."""
        if proto.op_type == "Constant" and standard(proto):
            self._values[proto.output[0]] = constant_of(proto, self._folder)
            return
        reader = f"node {title(proto)}"
        inputs = [self._value(name, reader) if name else None for name in proto.input]
        node = Node(proto, self._opset, inputs)
        if not standard(proto):
            raise node.refused(UNKNOWN)
        if not any(isinstance(value, Affine) for value in inputs):
            self._values |= zip(proto.output, evaluation.folded(node), strict=False)
            return
        if node.op not in OPERATORS:
            raise node.refused(REASONS.get(node.op, UNKNOWN))
        self._note_end(proto, node)
        evaluation.check(node)
        try:
            found = OPERATORS[node.op](self._neurons, node)
        except ValueError as error:  # of NumPy, of shapes that do not broadcast
            why = " ".join(str(error).split())[:100]
            raise node.refused(f"does not fit its inputs ({why}); export it anew") from None
        outputs = found if isinstance(found, list) else [found]
        for name, value in zip(proto.output, outputs, strict=False):
            if isinstance(value, Affine):
                if not np.isfinite(value.matrix.data).all():
                    raise node.refused("makes weights infinite or NaN; export the network anew")
                if self._readers[name] > 1:
                    value = self._neurons.named(value)
            self._values[name] = value

    def _note_end(self, proto: Any, node: Node) -> None:
        """Note that a Softmax is left off; refuse what follows one."""
        before = next((self._ended[name] for name in proto.input if name in self._ended), None)
        if before is not None and node.op not in ("Identity", "Cast", *ENDINGS):
            raise node.refused(f"follows {before}, which only the end can have; export logits")
        if node.op in ENDINGS:
            self._notes.append(
                f"the final {node.name} is left off: the outputs are logits; --classes, or "
                "cumprop.class_probabilities, gives the probabilities"
            )
        if node.op in ENDINGS or before is not None:
            self._ended[proto.output[0]] = before or node.name
