"""The ONNX library's own evaluation of single nodes: on constants, and on indices of entries."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from cumprop.networks.importers.onnx.affine import Affine, Array, constant, stacked
from cumprop.networks.importers.onnx.nodes import Node, Value
from cumprop.networks.importers.parts import check_memory, library

FOLDED = {
    "Abs", "Add", "And", "ArgMax", "ArgMin", "BatchNormalization", "Cast", "CastLike", "Ceil",
    "Celu", "Clip", "Concat", "ConstantOfShape", "Cos", "CumSum", "DepthToSpace", "Div", "Dropout",
    "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten", "Floor", "Gather",
    "GatherElements", "GatherND", "Gelu", "Gemm", "Greater", "GreaterOrEqual", "HardSigmoid",
    "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual", "Log", "MatMul", "Max", "Mean",
    "Min", "Mish", "Mod", "Mul", "Neg", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "Range",
    "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Relu",
    "Reshape", "Round", "ScatterElements", "ScatterND", "Selu", "Shape", "Sigmoid", "Sign", "Sin",
    "Size", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze",
    "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Tile", "Transpose", "Trilu", "Unsqueeze",
    "Where", "Xor",
}  # fmt: skip
"""Operators that are evaluated where all their inputs are constants."""

MOVES = {
    "Concat": None, "Where": (1, 2), **dict.fromkeys(
        ("DepthToSpace", "Expand", "Gather", "GatherElements", "GatherND", "Reshape",
         "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"), (0,)),
}  # fmt: skip
"""Operators that move entries about, and which inputs they take them from (None: all)."""

SMALL = 1000
"""Constants of at most so many entries are shown to the inference of shapes."""


def evaluated(node: Node, arrays: list[Array | None]) -> list[Array]:
    """What a node gives for arrays, after the memory of the outcome has been predicted."""
    outputs = _inferred(node, arrays)
    check_memory(sum(8 * prod(shape) for shape in outputs))
    reference = library("onnx.reference")
    proto, feeds = _renamed(node, arrays)
    try:
        with np.errstate(all="ignore"):
            found = reference.ReferenceEvaluator(proto, opsets={"": node.opset}).run(None, feeds)
        arrays_found = [np.asarray(array) for array in found]
    except Exception:  # of any kind, from inside the library
        raise node.refused("cannot be evaluated; export the network anew") from None
    if any(array.dtype.kind not in "biuf" for array in arrays_found):
        raise node.refused("gives a constant that holds no numbers; export the network anew")
    return arrays_found


def fold(node: Node) -> list[Array]:
    """The outputs of a node all of whose inputs are constants."""
    if node.op not in FOLDED:
        raise node.refused("has constants alone as inputs, and is none of the operators that fold")
    return evaluated(node, [None if i is None else np.asarray(i) for i in node.inputs])


def check(node: Node) -> None:
    """Raise CumpropError for a node that does not fit the shapes of its inputs."""
    _inferred(node, [_stand_in(value) for value in node.inputs])


def moved(node: Node) -> list[Value]:
    """The outputs of a node that moves entries: it is evaluated on their indices."""
    positions = MOVES[node.op] or tuple(range(len(node.inputs)))
    parts = [value if isinstance(value, Affine) else constant(value)
             for value in map(node.value, positions)]  # fmt: skip
    arrays: list[Array | None] = [
        None if i in positions or not node.has(i) else node.constant(i)
        for i in range(len(node.inputs))
    ]
    start = 0
    for position, part in zip(positions, parts, strict=True):
        arrays[position] = start + part.entries
        start += len(part.constant)
    whole = stacked(parts)
    return [whole.take(where) for where in evaluated(node, arrays)]


def _inferred(node: Node, arrays: list[Array | None]) -> list[tuple[int, ...]]:
    """The shapes of the outputs, which are checked against the memory."""
    onnx = library("onnx")
    proto, feeds = _renamed(node, arrays)
    helper, types, data = onnx.helper, {}, {}
    for name, array in feeds.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        types[name] = helper.make_tensor_type_proto(kind, array.shape)
        if (array.size <= SMALL and array.strides != (0,) * array.ndim) or not array.ndim:
            data[name] = onnx.numpy_helper.from_array(array, name)
    opsets = [helper.make_opsetid("", node.opset)]
    try:
        schema = onnx.defs.get_schema(node.op, node.opset, "")
        found = onnx.shape_inference.infer_node_outputs(
            schema, proto, types, data, opset_imports=opsets
        )
    except Exception as error:  # of several kinds, from inside the library
        why = " ".join(str(error).split())[:150]
        raise node.refused(f"does not fit its inputs ({why}); export the network anew") from None
    shapes = []
    for name in proto.output:
        kind = found[name].tensor_type if name in found else None
        dims = kind.shape.dim if kind is not None and kind.HasField("shape") else None
        if dims is None or not all(dim.HasField("dim_value") for dim in dims):
            raise node.refused("gives a tensor whose shape cannot be told; export it anew")
        shape = tuple(dim.dim_value for dim in dims)
        if min(shape, default=0) < 0:
            raise node.refused(f"gives a tensor of shape {shape}; export the network anew")
        check_memory(8 * prod(shape))
        shapes.append(shape)
    return shapes


def _stand_in(value: Value | None) -> Array | None:
    """An array of a tensor's shape that takes no memory; all floats have one type."""
    if value is None or (not isinstance(value, Affine) and value.dtype.kind != "f"):
        return value
    if isinstance(value, Affine) or value.size > SMALL:
        return np.broadcast_to(np.float32(0), value.shape)
    return value.astype(np.float32)


def _renamed(node: Node, arrays: list[Array | None]) -> tuple[Any, dict[str, Array]]:
    """The node with inputs i0, i1, … and outputs o0, …, and the arrays by these names."""
    names = ["" if array is None else f"i{i}" for i, array in enumerate(arrays)]
    while names and not names[-1]:
        names.pop()
    outputs = [f"o{i}" for i in range(node.n_outputs)]
    proto = library("onnx").helper.make_node(node.op, names, outputs)
    proto.attribute.extend(node.protos.values())
    return proto, {name: array for name, array in zip(names, arrays, strict=False)
                   if name and array is not None}  # fmt: skip
