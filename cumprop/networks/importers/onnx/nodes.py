"""Nodes of an ONNX graph: their attributes, their inputs, and how one is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cumprop.errors import CumpropError
from cumprop.networks.importers.onnx.affine import Affine, Array
from cumprop.networks.importers.onnx.neurons import Neurons
from cumprop.networks.importers.parts import library

Value = Affine | Array
"""A tensor, or an array that does not depend on the input of the network."""

NEWER = {
    "Unsqueeze": (13, ("axes",)),
    "Pad": (11, ("pads", "value")),
    "Clip": (11, ("min", "max")),
    **dict.fromkeys(("ReduceSum", "Squeeze"), (13, ("axes",))),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"), (18, ("axes",))),
}
"""Operators whose attributes became inputs: the first such opset, and the attributes in order."""


class Node:
    """A node with the values of its inputs, None for those left out."""

    def __init__(self, proto: Any, opset: int, inputs: list[Value | None]) -> None:
        helper = library("onnx").helper
        self.op = str(proto.op_type)
        self.name = title(proto)
        self.n_outputs = len(proto.output)
        self.inputs = list(inputs)
        self.opset = opset
        self.protos = {attribute.name: attribute for attribute in proto.attribute}
        self._attributes: dict[str, Any] = {}
        for name, attribute in self.protos.items():
            try:
                value = helper.get_attribute_value(attribute)
            except Exception:  # of protobuf and of onnx
                raise self.refused(f"has a damaged attribute {name}") from None
            self._attributes[name] = (
                value.decode(errors="replace") if isinstance(value, bytes) else value
            )
        self._renew()

    def _renew(self) -> None:
        """Make inputs of the attributes that are inputs in newer opsets."""
        since, names = NEWER.get(self.op, (0, ()))
        if self.opset >= since:
            return
        for name in names:
            value: Array | None = None
            if name in self.protos and name in ("axes", "pads"):
                value = np.array(self.numbers(name, []), dtype=np.int64)
            elif name in self.protos:
                value = np.array(self.number(name, 0.0), dtype=np.float32)
            self.protos.pop(name, None)
            self.inputs.append(value)
        self.opset = since

    def refused(self, why: str) -> CumpropError:
        return CumpropError(f"node {self.name} {why}")

    def number(self, name: str, default: float) -> float:
        value = self._attributes.get(name, default)
        if not isinstance(value, int | float):
            raise self.refused(f"has an attribute {name} that is no number; export it anew")
        return value

    def numbers(self, name: str, default: list[int]) -> list[int]:
        value = self._attributes.get(name, default)
        if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
            raise self.refused(f"has an attribute {name} that is no list of integers")
        return value

    def text(self, name: str, default: str) -> str:
        return str(self._attributes.get(name, default))

    def has(self, position: int) -> bool:
        """Whether it has that input."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def value(self, position: int) -> Value:
        value = self.inputs[position] if position < len(self.inputs) else None
        if value is None:
            raise self.refused(f"has no input {position}; export the network anew")
        return value

    def constant(self, position: int, default: Any = None) -> Array:
        """An input that must not depend on the network's input; the default if it is left out."""
        if default is not None and not self.has(position):
            return np.asarray(default)
        value = self.value(position)
        if isinstance(value, Affine):
            raise self.refused(
                f"has an input, number {position}, that depends on the network's input where only "
                "constants can be read"
            )
        return value

    def tensor(self, position: int = 0) -> Affine:
        value = self.value(position)
        if not isinstance(value, Affine):
            raise self.refused(f"has a constant input {position} where only tensors can be read")
        return value

    def axes(self, rank: int) -> tuple[int, ...]:
        """The axes of a reduction, its second input; all of them if it has none."""
        given = self.constant(1, []).ravel().tolist()
        if not given and self.number("noop_with_empty_axes", 0):
            return ()
        if any(not -rank <= axis < rank for axis in given):
            raise self.refused(f"reduces axes {given} of a tensor that has {rank}")
        return tuple(sorted({int(axis) % rank for axis in given})) or tuple(range(rank))


def standard(proto: Any) -> bool:
    """Whether a node is one of ONNX's own operators."""
    return proto.domain in ("", "ai.onnx")


def title(proto: Any) -> str:
    """A node in a message: Gemm 'name'."""
    domain = "" if standard(proto) else f"{proto.domain}."
    return f"{domain}{proto.op_type}" + (f" {proto.name!r}" if proto.name else "")


Operators = dict[str, Callable[[Neurons, Node], Value | Sequence[Value]]]
"""By the name of an operator, the function that gives the outputs of its nodes."""
