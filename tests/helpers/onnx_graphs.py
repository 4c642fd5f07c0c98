"""ONNX models from a few lines of text, and the comparison with ONNX Runtime."""

import warnings

import numpy as np
import pytest

import cumprop

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")

KINDS = {np.float16: "float16", np.float32: "float", np.float64: "double"}


def model(body, opset=21, dtype=np.float32, outputs=("y",), seed=0, **tensors):
    """A model whose nodes are lines such as "y = Gemm<transB=1>(x, W)".

    A tensor is given by its shape: x, x0, x1, … are inputs, all others random constants. Shapes of
    inputs may hold names. Arrays and lists are constants as they are.
    """
    rng = np.random.default_rng(seed)
    kind = KINDS[dtype]
    inputs, constants = [], []
    for name, value in tensors.items():
        if name.startswith("x"):
            inputs.append(f"{kind}[{','.join(map(str, value))}] {name}")
        else:
            array = rng.normal(size=value).astype(dtype) if isinstance(value, tuple) else value
            constants.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    ends = ", ".join(f"{kind}[] {name}" for name in outputs)
    text = (
        f'<ir_version: 8, opset_import: ["": {opset}]> '
        f"g ({', '.join(inputs)}) => ({ends}) {{ {body} }}"
    )
    made = onnx.parser.parse_model(text)
    made.graph.initializer.extend(constants)
    return made


def runtime(made, dtype=np.float32):
    """f(rows) of a model: ONNX Runtime on one input after the other, inputs and outputs flat."""
    ort = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(made.SerializeToString(), options)
    shapes = [
        (i.name, [n if isinstance(n, int) else 1 for n in i.shape]) for i in session.get_inputs()
    ]

    def outputs(row):
        feeds, start = {}, 0
        for name, shape in shapes:
            n = int(np.prod(shape))
            feeds[name] = row[start : start + n].reshape(shape).astype(dtype)
            start += n
        assert start == len(row)
        return np.concatenate([np.ravel(y) for y in session.run(None, feeds)])

    return lambda rows: np.array([outputs(row) for row in rows])


def loaded(made, folder):
    """The network that cumprop reads from the model."""
    path = folder / "a.onnx"
    path.write_bytes(made.SerializeToString())
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # the notes
        return cumprop.load(path)


def difference(network, made, n=6, seed=0, dtype=np.float32):
    """The largest difference of outputs on random inputs, relative to the largest output."""
    rows = np.random.default_rng(seed).normal(size=(n, network.widths[0])).astype(dtype)
    expected = runtime(made, dtype)(rows)
    found = network.forward(rows)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 0.01)
