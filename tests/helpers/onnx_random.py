"""Random valid ONNX graphs of the operators that cumprop reads."""

from math import prod

import numpy as np

from helpers.onnx_graphs import onnx

LARGEST = 300
"""Entries of a tensor."""
OPSETS = (9, 11, 13, 15, 17, 18, 20, 21)
PLAIN = (
    "Relu", "Relu", "Tanh", "Sigmoid", "Abs", "Softplus", "Softsign", "Erf", "Sin", "Cos", "Elu",
    "Selu", "LeakyRelu", "HardSigmoid", "Neg", "Identity", "Dropout", "Flatten",
)  # fmt: skip
OPERATORS = tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas()}))
SINCE = {"Celu": 12, "HardSwish": 14, "Mish": 18, "Gelu": 20}


class Graph:
    """A graph that grows node by node; ONNX's inference of shapes says which nodes fit."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.opset = int(self.pick(OPSETS))
        self.inputs, self.nodes, self.constants, self.shapes = [], [], [], {}
        for i in range(int(self.pick([1, 1, 1, 2]))):
            shape = [1, *self.lengths(self.pick([1, 1, 2, 3, 3]))]
            if self.rng.random() < 0.1:
                shape = shape[1:]
            named = ["N", *shape[1:]] if self.rng.random() < 0.3 and len(shape) > 1 else shape
            self.inputs.append(
                onnx.helper.make_tensor_value_info(f"x{i}", onnx.TensorProto.FLOAT, named)
            )
            self.shapes[f"x{i}"] = tuple(shape)

    def pick(self, choices):
        return choices[self.rng.integers(len(choices))]

    def lengths(self, n):
        return [int(k) for k in self.rng.integers(1, 7 if n < 3 else 6, size=n)]

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def numbers(self, *shape, scale=1.0):
        return self.constant((scale * self.rng.normal(size=shape)).astype(np.float32))

    def integers(self, values):
        return self.constant(np.array(values, dtype=np.int64))

    def model(self, output):
        end = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
        graph = onnx.helper.make_graph(self.nodes, "g", self.inputs, [end], self.constants)
        opsets = [onnx.helper.make_opsetid("", self.opset)]
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def add(self, op, inputs, n_outputs=1, **attributes):
        """The outputs of a new node, or None, without it, where it does not fit."""
        outputs = [f"t{len(self.nodes)}_{i}" for i in range(n_outputs)]
        self.nodes.append(onnx.helper.make_node(op, inputs, outputs, **attributes))
        try:
            made = self.model(outputs[0])
            for value in made.graph.input:
                if value.type.tensor_type.shape.dim[0].dim_param:
                    value.type.tensor_type.shape.dim[0].dim_value = 1
            found = onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)
            known = {v.name: v for v in (*found.graph.value_info, *found.graph.output)}
            shapes = {
                o: tuple(d.dim_value for d in known[o].type.tensor_type.shape.dim) for o in outputs
            }
            fits = all(0 < prod(shape) <= LARGEST for shape in shapes.values())
        except onnx.shape_inference.InferenceError:
            fits = False
        if not fits:
            self.nodes.pop()
            return None
        self.shapes |= shapes
        return outputs

    def along(self, op, since, x, axes, **attributes):
        """A node whose axes are an input from an opset on, and an attribute before it."""
        if self.opset >= since:
            return self.add(op, [x, self.integers(axes)], **attributes)
        return self.add(op, [x], axes=axes, **attributes)

    def fitting(self, shape):
        """A shape that broadcasts to another one."""
        start = self.rng.integers(len(shape) + 1)
        return tuple(n if self.rng.random() < 0.7 else 1 for n in shape[start:])

    def grow(self):
        x = self.pick([name for name, shape in self.shapes.items() if shape][-4:])
        kinds = (plain, plain, plain, parametric, matrix, matrix, arithmetic, two, two, window,
                 window, move, move, reduction, pattern, reshaped)  # fmt: skip
        self.pick(kinds)(self, x, self.shapes[x])


def plain(graph, x, shape):
    op = graph.pick((*PLAIN, *(op for op, since in SINCE.items() if graph.opset >= since)))
    graph.add(op, [x])


def parametric(graph, x, shape):
    kind = graph.pick(["clip", "prelu", "threshold", "leaky", "pow", "exp", "norm"])
    low, high = sorted(graph.rng.normal(size=2).round(2).tolist())
    if kind == "clip" and graph.opset >= 11:
        bounds = [graph.constant(np.float32(b)) for b in (low, high)]
        graph.add("Clip", [x, *graph.pick([bounds, bounds[:1], ["", bounds[1]]])])
    elif kind == "clip":
        graph.add("Clip", [x], min=low, max=high)
    elif kind == "prelu":
        graph.add("PRelu", [x, graph.numbers(*shape[1:])])
    elif kind == "threshold" and graph.opset >= 10:
        graph.add("ThresholdedRelu", [x], alpha=0.5)
    elif kind == "leaky":
        graph.add(graph.pick(["LeakyRelu", "Elu"]), [x], alpha=high)
    elif kind == "pow":
        graph.add("Pow", [x, graph.constant(np.float32(graph.pick([1, 2, 3])))])
    elif kind == "exp" and (bounded := graph.add("Tanh", [x])):
        graph.add("Exp", bounded)
    elif kind == "norm" and len(shape) > 1:
        values = [graph.numbers(shape[1]) for _ in range(3)]
        variance = graph.constant(graph.rng.uniform(0.5, 2, shape[1]).astype(np.float32))
        graph.add("BatchNormalization", [x, *values, variance])


def matrix(graph, x, shape):
    n = int(graph.rng.integers(1, 9))
    if len(shape) == 2 and graph.rng.random() < 0.6:
        flip = int(graph.rng.random() < 0.3)
        inner = shape[0] if flip else shape[1]
        turn = int(graph.rng.random() < 0.5)
        w = graph.numbers(*((n, inner) if turn else (inner, n)), scale=inner**-0.5)
        bias = graph.pick([[graph.numbers(n)], [graph.numbers(1)], *([[]] * (graph.opset >= 11))])
        graph.add("Gemm", [x, w, *bias], transA=flip, transB=turn, alpha=0.5, beta=2.0)
    elif graph.rng.random() < 0.7 or len(shape) < 2:
        graph.add("MatMul", [x, graph.numbers(shape[-1], n, scale=shape[-1] ** -0.5)])
    else:
        stack = graph.fitting(shape[:-2])
        graph.add("MatMul", [graph.numbers(*stack, n, shape[-2], scale=shape[-2] ** -0.5), x])


def arithmetic(graph, x, shape):
    other = graph.numbers(*graph.fitting(shape))
    if graph.rng.random() < 0.2:
        divisor = graph.constant(graph.rng.uniform(0.5, 2, graph.fitting(shape)).astype(np.float32))
        graph.add("Div", [x, divisor])
    else:
        pair = [x, other] if graph.rng.random() < 0.6 else [other, x]
        graph.add(graph.pick(["Add", "Sub", "Mul", "Max", "Min"]), pair)


def two(graph, x, shape):
    """Two branches; the second is made to fit by a matrix where none does."""
    fitting = [name for name, other in graph.shapes.items() if other == shape and name != x]
    if not fitting:
        other = graph.pick(list(graph.shapes))
        flat = graph.add("Flatten", [other])
        if flat is None:
            return
        n = graph.shapes[flat[0]][1]
        if graph.shapes[flat[0]][0] != 1:
            return
        wide = graph.add("MatMul", [*flat, graph.numbers(n, prod(shape), scale=n**-0.5)])
        fitting = graph.add("Reshape", [*wide, graph.integers(shape)]) if wide else None
        if fitting is None:
            return
    op = graph.pick(["Add", "Add", "Add", "Sub", "Max", "Min", "Sum", "Mean", "Concat"])
    attributes = {"axis": int(graph.rng.integers(len(shape)))} if op == "Concat" else {}
    graph.add(op, [x, graph.pick(fitting)], **attributes)


def window(graph, x, shape):
    d, rng = len(shape) - 2, graph.rng
    if d < 1:
        graph.along("Unsqueeze", 13, x, [1])
        return
    kernel = [int(rng.integers(1, min(n, 3) + 1)) for n in shape[2:]]
    attributes = {"strides": [int(s) for s in rng.integers(1, 3, size=d)]}
    if rng.random() < 0.3 and all(np.array(kernel) >= attributes["strides"]):  # see ONNX Runtime
        attributes["auto_pad"] = graph.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
    elif rng.random() < 0.5:
        attributes["pads"] = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
    op = graph.pick(["Conv", "Conv", "ConvTranspose", "AveragePool", "MaxPool", "GlobalAveragePool",
                     "GlobalMaxPool"])  # fmt: skip
    if op.startswith("Conv"):
        groups = graph.pick([1, 1, *(g for g in (2, 3) if shape[1] % g == 0)])
        inner, n = shape[1] // groups, int(rng.integers(1, 4))
        sides = (groups * n, inner) if op == "Conv" else (shape[1], n)
        w = graph.numbers(*sides, *kernel, scale=(inner * prod(kernel)) ** -0.5)
        bias = graph.pick([[], [graph.numbers(groups * n)]])
        graph.add(op, [x, w, *bias], group=groups, **attributes)
    elif op.startswith("Global"):
        graph.add(op, [x])
    else:
        if op == "AveragePool" and "pads" in attributes:
            attributes["count_include_pad"] = int(rng.random() < 0.5)
        graph.add(op, [x], kernel_shape=kernel, **attributes)


def move(graph, x, shape):
    rng = graph.rng
    axis = int(rng.integers(len(shape)))
    n = shape[axis]
    kind = graph.pick(["transpose", "squeeze", "unsqueeze", "slice", "split", "gather", "pad",
                       "expand", "tile"])  # fmt: skip
    if kind == "transpose":
        graph.add("Transpose", [x], perm=[int(i) for i in rng.permutation(len(shape))])
    elif kind == "squeeze" and n == 1 and len(shape) > 1:
        graph.along("Squeeze", 13, x, [axis])
    elif kind == "unsqueeze" and len(shape) < 5:
        graph.along("Unsqueeze", 13, x, [axis])
    elif kind == "slice" and graph.opset >= 10:
        ends = [int(rng.integers(-n, n)), int(rng.integers(-n, n + 3))]
        graph.add("Slice", [x, *(graph.integers([end]) for end in ends), graph.integers([axis]),
                            graph.integers([graph.pick([1, 1, 2, -1])])])  # fmt: skip
    elif kind == "split" and n > 1:
        first = int(rng.integers(1, n))
        sizes = [first, n - first]
        if graph.opset >= 13:
            graph.add("Split", [x, graph.integers(sizes)], 2, axis=axis)
        else:
            graph.add("Split", [x], 2, axis=axis, split=sizes)
    elif kind == "gather":
        where = rng.integers(-n, n, size=graph.pick([(), (2,), (2, 2)]))
        graph.add("Gather", [x, graph.integers(where)], axis=axis)
    elif kind == "pad":
        pads = [int(k) for k in rng.integers(0, 2, size=2 * len(shape))]
        if graph.opset >= 11:
            graph.add("Pad", [x, graph.integers(pads), graph.constant(np.float32(0.5))])
        else:
            graph.add("Pad", [x], pads=pads, value=0.5)
    elif kind == "expand":
        graph.add("Expand", [x, graph.integers([2 if k == 1 else 1 for k in shape])])
    elif kind == "tile":
        graph.add("Tile", [x, graph.integers(rng.integers(1, 3, size=len(shape)))])


def reduction(graph, x, shape):
    op = graph.pick(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"])
    axes = sorted({int(a) for a in graph.rng.integers(len(shape), size=2)})
    keep = int(graph.rng.random() < 0.5)
    graph.along(op, 13 if op == "ReduceSum" else 18, x, axes, keepdims=keep)


def pattern(graph, x, shape):
    kind = graph.pick(["square", "swish", "mish", "gelu"])
    if kind == "square":
        graph.add("Mul", [x, x])
    elif kind == "swish" and (gate := graph.add("Sigmoid", [x])):
        graph.add("Mul", [x, *gate])
    elif kind == "mish" and (inner := graph.add("Softplus", [x])):
        gate = graph.add("Tanh", inner)
        graph.add("Mul", [*gate, x])
    elif kind == "gelu":
        scaled = graph.add("Div", [x, graph.constant(np.float32(2**0.5))])
        if scaled and (gate := graph.add("Erf", scaled)):
            above = graph.add("Add", [*gate, graph.constant(np.float32(1))])
            graph.add("Mul", [x, *above])


def reshaped(graph, x, shape):
    """A Reshape to shapes given, or computed from the tensor's own."""
    size = prod(shape)
    if graph.rng.random() < 0.5:
        first = graph.pick([k for k in range(1, size + 1) if size % k == 0])
        graph.add("Reshape", [x, graph.integers(graph.pick([[1, -1], [1, first, -1], [-1]]))])
        return
    lengths = graph.add("Shape", [x])
    if lengths and (one := graph.add("Gather", [*lengths, graph.integers([0])])):
        target = graph.add("Concat", [*one, graph.integers([-1])], axis=0)
        graph.shapes = {k: v for k, v in graph.shapes.items() if k not in (*lengths, *one, *target)}
        graph.add("Reshape", [x, *target])


def random_graph(seed):
    """A model with one output, of 3 to 12 operators or groups of them."""
    graph = Graph(seed)
    for _ in range(int(graph.rng.integers(3, 13))):
        graph.grow()
    return graph.model(list(graph.shapes)[-1])


NUMBERS = (-(2**63), -(10**9), -1, 0, 1, 2, 7, 10**5, 10**9, 2**31, 2**62, 2**63 - 1)


def mutilated(made, rng):
    """The bytes of a model after one to three changes, to what it says or to bytes."""
    made = onnx.ModelProto.FromString(made.SerializeToString())
    kinds = (_attribute, _integers, _wiring, _operator, _dimensions, _nodes)
    for _ in range(int(rng.integers(1, 4))):
        kinds[rng.integers(len(kinds))](made, rng)
    content = bytearray(made.SerializeToString())
    if rng.random() < 0.2:
        content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
    return bytes(content)


def _any(items, rng):
    return items[rng.integers(len(items))] if len(items) else None


def _number(rng):
    return int(_any(NUMBERS, rng) if rng.random() < 0.5 else rng.integers(-4, 9))


def _attribute(made, rng):
    found = _any([a for node in made.graph.node for a in node.attribute], rng)
    if found is None:
        return
    if found.ints:
        found.ints[rng.integers(len(found.ints))] = _number(rng)
        if rng.random() < 0.2:
            found.ints.append(_number(rng))
    elif found.type == onnx.AttributeProto.INT:
        found.i = _number(rng)
    else:
        found.f = float(_any([np.nan, np.inf, -1e30, 0.0], rng))


def _integers(made, rng):
    whole = [t for t in made.graph.initializer if t.data_type == onnx.TensorProto.INT64]
    if (found := _any(whole, rng)) is not None:
        array = np.frombuffer(found.raw_data, dtype=np.int64).copy()
        if array.size:
            array[rng.integers(array.size)] = _number(rng)
        found.raw_data = array.tobytes()


def _wiring(made, rng):
    names = [name for node in made.graph.node for name in (*node.input, *node.output)]
    node = _any(made.graph.node, rng)
    if node is None:
        return
    change = rng.integers(4)
    if change == 0 and node.input:
        node.input[rng.integers(len(node.input))] = _any([*names, "", "missing"], rng)
    elif change == 1:
        node.input.append(_any(names, rng))
    elif change == 2 and node.input:
        node.input.pop()
    else:
        node.output.append(_any(names, rng))


def _operator(made, rng):
    node = _any(made.graph.node, rng)
    if rng.random() < 0.3:
        made.opset_import[0].version = int(rng.integers(5, 30))
    elif node is not None:
        node.op_type = _any(OPERATORS, rng)


def _dimensions(made, rng):
    tensors = [t for t in made.graph.initializer if t.dims]
    inputs = [v.type.tensor_type.shape.dim for v in made.graph.input]
    if rng.random() < 0.5 and tensors:
        tensor = _any(tensors, rng)
        tensor.dims[rng.integers(len(tensor.dims))] = _number(rng)
    elif lengths := _any([dim for dims in inputs for dim in dims], rng):
        lengths.dim_value = _number(rng)


def _nodes(made, rng):
    nodes = list(made.graph.node)
    if not nodes:
        return
    i = int(rng.integers(len(nodes)))
    if rng.random() < 0.5:
        nodes.insert(int(rng.integers(len(nodes))), nodes[i])
    else:
        del nodes[i]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
