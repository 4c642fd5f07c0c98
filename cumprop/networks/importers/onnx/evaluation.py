"""The ONNX library's own evaluation of single nodes: on constants, and on indices of entries."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from cumprop.memory import check_memory
from cumprop.networks.importers.onnx.affine import Affine, Array, check_entries
from cumprop.networks.importers.onnx.nodes import Node, Value
from cumprop.networks.importers.parts import library

FOLDED = {
    "Abs", "Add", "And", "ArgMax", "ArgMin", "BatchNormalization", "Cast", "CastLike", "Ceil",
    "Celu", "Clip", "Concat", "ConstantOfShape", "Cos", "CumSum", "DepthToSpace", "Div", "Dropout",
    "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten", "Floor", "Gather",
    "GatherElements", "GatherND", "Gelu", "Gemm", "Greater", "GreaterOrEqual", "HardSigmoid",
    "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual", "Log", "MatMul", "Max", "Mean",
    "Min", "Mish", "Mod", "Mul", "Neg", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "Range",
    "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "Selu", "Shape", "Sigmoid", "Sign",
    "Sin", "Size", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt",
    "Squeeze", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Tile", "Transpose", "Trilu",
    "Unsqueeze", "Where", "Xor",
}  # fmt: skip
"""Operators that are evaluated where all their inputs are constants."""

SMALL = 1000
"""Constants of at most so many entries are shown to the inference of shapes."""


def folded(node: Node) -> list[Array]:
    """The outputs of a node all of whose inputs are constants."""
    if node.op not in FOLDED:
        raise node.refused("has constants alone as inputs and cannot be folded; simplify the file")
    if any(_hidden(attribute) for attribute in node.protos.values()):
        raise node.refused("has attributes that cannot be read; export the network anew")
    found = evaluated(node, [None if i is None else np.asarray(i) for i in node.inputs])
    return [a.astype(np.float32) if a.dtype == np.float16 else a for a in found]


def evaluated(node: Node, arrays: list[Array | None]) -> list[Array]:
    """The outputs of a node for arrays; their memory is predicted first."""
    _inferred(node, arrays)
    reference = library("onnx.reference")
    proto, feeds = _renamed(node, arrays)
    try:
        evaluator = reference.ReferenceEvaluator(proto, opsets={"": node.opset})
        found = [np.asarray(array) for array in evaluator.run(None, feeds)]
    except Exception:  # of any kind, from inside the library
        raise node.refused("cannot be evaluated; export the network anew") from None
    if any(array.dtype.kind not in "biuf" for array in found):
        raise node.refused("gives a constant that holds no numbers; export the network anew")
    return found


def check(node: Node) -> None:
    """Raise CumpropError for a node that does not fit the shapes of its inputs."""
    for shape in _inferred(node, [_stand_in(value) for value in node.inputs]):
        check_entries(tuple(shape))


def _hidden(attribute: Any) -> bool:
    """Whether an attribute has numbers in another file, which the evaluator would open."""
    tensors = (attribute.t, attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
    return any(t.data_location == library("onnx").TensorProto.EXTERNAL for t in tensors)


def _inferred(node: Node, arrays: list[Array | None]) -> list[list[int]]:
    """The shapes of the outputs, inferred by the library and checked against the memory."""
    onnx = library("onnx")
    proto, feeds = _renamed(node, arrays)
    types, data = {}, {}
    for name, array in feeds.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        types[name] = onnx.helper.make_tensor_type_proto(kind, array.shape)
        if array.size <= SMALL:
            data[name] = onnx.numpy_helper.from_array(np.array(array), name)
    opsets = [onnx.helper.make_opsetid("", node.opset)]
    try:
        found = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op, node.opset, ""), proto, types, data, opset_imports=opsets
        )
        shapes = [
            [dim.dim_value if dim.HasField("dim_value") else -1 for dim in t.tensor_type.shape.dim]
            if t.tensor_type.HasField("shape") else [-1]
            for t in (found[name] for name in proto.output)
        ]  # fmt: skip
    except Exception as error:  # of several kinds, from inside the library
        why = str(error).partition("\n")[0].rpartition("Error] ")[2][:150]
        raise node.refused(f"does not fit its inputs ({why}); export the network anew") from None
    if any(n < 0 for shape in shapes for n in shape):
        raise node.refused("gives a tensor whose shape cannot be told; export the network anew")
    check_memory(sum(8 * prod(shape) for shape in shapes))
    return shapes


def _stand_in(value: Value | None) -> Array | None:
    """An array of the shape of a tensor, with the numbers of a small constant alone.

    All floats have one type: mixtures, which some exporters write, are no mistake here.
    """
    if value is None or (not isinstance(value, Affine) and value.dtype.kind != "f"):
        return value
    if isinstance(value, Affine) or value.size > SMALL:
        return np.broadcast_to(np.float32(0), value.shape)
    return value.astype(np.float32)


def _renamed(node: Node, arrays: list[Array | None]) -> tuple[Any, dict[str, Array]]:
    """The node with inputs i0, i1, … and outputs o0, …, and the arrays by these names."""
    feeds = {f"i{i}": array for i, array in enumerate(arrays) if array is not None}
    names = ["" if array is None else f"i{i}" for i, array in enumerate(arrays)]
    while names and not names[-1]:
        names.pop()
    outputs = [f"o{i}" for i in range(node.n_outputs)]
    proto = library("onnx").helper.make_node(node.op, names, outputs)
    proto.attribute.extend(node.protos.values())
    return proto, feeds
