"""Networks from ONNX files: what they become, what is refused, and with which words."""

import numpy as np
import pytest
from helpers.onnx_graphs import difference, loaded, model, onnx
from helpers.sources import export, refusal

import cumprop
from cumprop.networks.importers.onnx import from_model

RNG = np.random.default_rng(0)
W = RNG.normal(size=(4, 3)).astype(np.float32)
ROWS = ("N", 3)


def refused(made, folder):
    """The line with which a model is refused, without the name of the file."""
    path = folder / "a.onnx"
    path.write_bytes(made.SerializeToString())
    line = refusal(path)
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


def notes(made, folder):
    return from_model(made, folder).notes


def test_a_chain_keeps_its_weights(tmp_path):
    body = (
        "f = Flatten(x) z = Gemm<transB=1>(f, W, b) h = LeakyRelu<alpha=0.2>(z) m = MatMul(h, V) "
        "a = Add(c, m) i = Identity(a) t = Abs(i) u = Gemm(t, U) y = Tanh(u)"
    )
    made = model(body, x=("N", 3, 1), W=W, b=(4,), V=(4, 4), c=(4,), U=(4, 2))
    network = loaded(made, tmp_path)
    assert [a.name for a in network.activations] == ["leaky_relu(0.2)", "abs", "tanh"]
    assert network.widths == (3, 4, 4, 2, 2) and network.dtype == np.float32
    np.testing.assert_array_equal(network.weights[0], W)
    np.testing.assert_array_equal(network.weights[3], np.eye(2))
    assert network.biases[2] is None and network.biases[3] is None
    assert difference(network, made) < 1e-5


@pytest.mark.slow
def test_from_pytorch(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    nn = torch.nn
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU6(), nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 2), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8),
        nn.GELU(approximate="tanh"), nn.Dropout(), nn.Linear(8, 8), nn.Hardswish(), nn.Linear(8, 8),
        nn.Mish(), nn.PReLU(8), nn.Linear(8, 3), nn.GELU(),
    ).eval()  # fmt: skip
    x = torch.randn(5, 2, 6, 6)
    expected = module(x).detach().numpy()
    for opset in (11, 14, 17, 20):
        path = export(module, tmp_path / "a.onnx", (1, 2, 6, 6), opset_version=opset)
        found = cumprop.load(path).forward(x.reshape(5, -1).numpy())
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_shapes_of_inputs(tmp_path):
    """A width that the file does not give is that of the matrix; other lengths must be there."""
    for shape in (("N", "M"), ("N", 3), (1, 3)):
        made = model("y = Gemm<transB=1>(x, W)", x=shape, W=W)
        assert loaded(made, tmp_path).widths == (3, 4)
    made.graph.input[0].type.tensor_type.ClearField("shape")
    assert loaded(made, tmp_path).widths == (3, 4)
    made = model("f = Flatten(x) y = Gemm<transB=1>(f, W)", x=("N", "M", 1), W=W)
    assert "'x' has axes of unknown length beside the batch; export it" in refused(made, tmp_path)


def test_notes(tmp_path):
    """Of inputs and outputs that are concatenated, a first axis, and a Softmax left off."""
    made = model(
        "c = Concat<axis=0>(x0, x1) z = MatMul(c, W) s = Softmax(z) a = ArgMax(s) i = Identity(z)",
        outputs=("s", "i"), x0=(1, 3), x1=(2, 3), W=W.T,
    )  # fmt: skip
    assert notes(made, tmp_path) == [
        "the first axis of the input 'x1', 2 long, is read as features; if it is a batch, export "
        "the network with a batch of 1",
        "the inputs are concatenated: 'x0' 0 to 2, 'x1' 3 to 8",
        "the final Softmax is left off: the outputs are logits; --classes, or "
        "cumprop.class_probabilities, gives the probabilities",
    ]
    assert loaded(made, tmp_path).widths == (9, 12)  # s and i are the same tensor now
    made = model("u = Gemm(x, W) v = Neg(x)", outputs=("u", "v"), x=ROWS, W=W.T)
    assert notes(made, tmp_path) == ["the outputs are concatenated: 'u' 0 to 3, 'v' 4 to 6"]
    assert notes(model("y = Gemm(x, W)", x=ROWS, W=W.T), tmp_path) == []


def test_integers_that_become_floats(tmp_path):
    made = model("f = Cast<to=1>(x) y = Gemm(f, W)", x=ROWS, W=W.T)
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    np.testing.assert_array_equal(loaded(made, tmp_path).weights[0], W)


def test_bfloat16(tmp_path):
    made = model("y = Gemm(x, W)", x=ROWS, W=W.T)
    kind = onnx.TensorProto.BFLOAT16
    made.graph.input[0].type.tensor_type.elem_type = kind
    made.graph.output[0].type.tensor_type.elem_type = kind
    half = W.T.view(np.uint32) >> 16
    made.graph.initializer[0].CopyFrom(
        onnx.helper.make_tensor("W", kind, (3, 4), half.astype(np.uint16).tobytes(), raw=True)
    )
    found = loaded(made, tmp_path).weights[0]
    np.testing.assert_array_equal(found, (half << 16).view(np.float32).T)


def test_functions_of_a_model(tmp_path):
    """Exporters write modules as functions of the file's own domain."""
    body = onnx.parser.parse_function(
        '<domain: "mine", opset_import: ["": 21]> twice (a) => (b) { r = Relu(a) b = Add(r, r) }'
    )
    made = model("z = Gemm(x, W) y = mine.twice(z)", x=ROWS, W=W.T)
    made.functions.append(body)
    made.opset_import.append(onnx.helper.make_opsetid("mine", 1))
    x = np.ones((1, 3), dtype=np.float32)
    expected = 2 * np.maximum(x @ W.T, 0)
    np.testing.assert_allclose(loaded(made, tmp_path).forward(x), expected, rtol=1e-6)


@pytest.mark.parametrize("calls", ["f1", "f0"])
def test_functions_that_never_end(tmp_path, calls):
    """30 functions, each of which calls the next one twice, or itself."""
    made = model("z = Gemm(x, W) y = mine.f0(z)", x=ROWS, W=W.T)
    for i in range(30):
        name = f"f{i + 1}" if calls == "f1" else f"f{i}"
        made.functions.append(
            onnx.parser.parse_function(
                f'<domain: "mine", opset_import: ["": 21, "mine": 1]> f{i} (a) => (b) '
                f"{{ c = mine.{name}(a) b = mine.{name}(c) }}"
            )
        )
    made.functions.append(
        onnx.parser.parse_function(
            '<domain: "mine", opset_import: ["": 21]> f30 (a) => (b) { b = Relu(a) }'
        )
    )
    made.opset_import.append(onnx.helper.make_opsetid("mine", 1))
    assert "its functions make more than 100,000 nodes" in refused(made, tmp_path)


def test_external_data(tmp_path):
    path = tmp_path / "a.onnx"
    made = model("y = Gemm<transB=1>(x, W)", x=ROWS, W=W)
    onnx.save(made, path, save_as_external_data=True, location="a.data", size_threshold=0)
    np.testing.assert_array_equal(cumprop.load(path).weights[0], W)
    whole = (tmp_path / "a.data").read_bytes()
    (tmp_path / "a.data").write_bytes(whole[:-4])
    assert "damaged, or the file of its external data is missing" in refusal(path)
    (tmp_path / "a.data").unlink()
    assert "external data is missing" in refusal(path)
    tensor = onnx.load(path, load_external_data=False)
    for entry in tensor.graph.initializer[0].external_data:
        entry.value = {"location": "../secret", "length": str(W.nbytes)}.get(entry.key, "0")
    (tmp_path.parent / "secret").write_bytes(whole)
    path.write_bytes(tensor.SerializeToString())
    assert "external data is missing" in refusal(path)


def test_no_file_is_opened_for_an_attribute(tmp_path, monkeypatch):
    """The evaluator of constants would read external data from the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(8))
    made = model("t = ConstantOfShape(s) y = Add(x, t)", x=ROWS, s=[1])
    value = onnx.numpy_helper.from_array(np.zeros(1), "v")
    value.data_location = onnx.TensorProto.EXTERNAL
    value.ClearField("raw_data")
    for key, text in (("location", "secret"), ("length", "8")):
        value.external_data.add(key=key, value=text)
    made.graph.node[0].attribute.append(onnx.helper.make_attribute("value", value))
    assert "has attributes that cannot be read" in refused(made, tmp_path)


LINE = "node {} multiplies two tensors that depend on the input"
REFUSALS = [
    ("y = Gemm(x, V)", ROWS, "node Gemm does not fit its inputs ("),
    ("y = Gemm(x, W, V)", ROWS, "node Gemm does not fit its inputs ("),
    ("y = MatMul(W, x)", ROWS, "does not fit its inputs (Incompatible dimensions for matrix"),
    ("y = Add(x, u)", ROWS, "node Add does not fit its inputs (Incompatible dimensions)"),
    ("y = Conv(x, W)", ROWS, "fit its input"),
    ("y = ConvTranspose<group=2>(x, K)", (1, 2, 3), "has weights of shape (4, 1, 2) for 2"),
    ("y = Conv<kernel_shape=[1]>(x, K)", (1, 1, 3), "has weights of shape (4, 1, 2) for 1"),
    ("y = MatMul(x, I)", ROWS, "node MatMul does not fit its inputs"),
    ("t = Transpose(x) y = MatMul(x, t)", ROWS, LINE.format("MatMul") + "; attention cannot"),
    ("t = Tanh(x) y = Mul(x, t)", ROWS, LINE.format("Mul") + ", and is no x·x, x·sigmoid(x)"),
    ("m = ReduceMean(x) y = Div(x, m)", ROWS, "node Div divides by a tensor that depends on"),
    ("s = Softmax(x) y = Gemm(s, W)", ROWS, "node Gemm follows Softmax, which only the end"),
    ("y = Sqrt(x)", ROWS, "node Sqrt cannot be read; the operators that can are listed in docs/"),
    ("y = Pow(x, h)", ROWS, "node Pow is no power 0 to 8"),
    ("y = LayerNormalization(x, v)", ROWS, "node LayerNormalization divides by a statistic of"),
    ("y = LSTM(x, R, R)", (1, 1, 3), "node LSTM is recurrent; only feed-forward"),
    ("y = Einsum<equation=\"ij,ij->i\">(x, x)", ROWS, "node Einsum multiplies tensors"),
    ("y, i = MaxPool<kernel_shape=[2]>(x)", (1, 1, 3), "node MaxPool gives the places of its"),
    ("i = Cast<to=6>(x) y = Cast<to=1>(i)", ROWS, "node Cast rounds what depends on the input"),
    ("s = Cast<to=7>(x) y = Reshape(x, s)", ROWS, "node Cast rounds"),
    ("n = Shape(x) y = Gather<axis=1>(q, n)", ROWS, "reads 'q', which nothing before it gives"),
    ("y = Clip(x, h, l)", ROWS, "node Clip clips to at least 0.5 and at most -0.5; exchange"),
    ("y = Pad<mode=\"reflect\">(x, p)", ROWS, "node Pad repeats its input at the border"),
    ("y = Dropout(x, h, t)", ROWS, "node Dropout is in training mode; export the network in"),
    ("y = Relu(z)", ROWS, "node Relu reads 'z', which nothing before it gives; export it anew"),
    ("y = com.microsoft.BiasGelu(x, v)", ROWS, "node com.microsoft.BiasGelu cannot be read"),
    ("a = RandomNormal<shape=[3]>() y = Add(x, a)", ROWS, "node RandomNormal has constants alone"),
    ("y = Relu(x) y = Tanh(x)", ROWS, "it gives 'y' 2 times; export the network anew"),
    ("x = Relu(x) y = Tanh(x)", ROWS, "it gives 'x' 2 times; export the network anew"),
    ("e = Expand(h, s) y = Add(x, e)", ROWS, "GB are free; use a smaller network"),
    ("e = ConstantOfShape(s) y = Add(x, e)", ROWS, "GB are free; use a smaller network"),
    ("y = Expand(x, s)", (1, 1), "GB are free; use a smaller network"),
    ("y = Tile(x, s)", ROWS, "GB are free; use a smaller network"),
    ("y = Pad(x, big)", ROWS, "GB are free; use a smaller network"),
    ("y = Tile(x, many)", ROWS, "tensor of 12,000,000 entries; 8,388,608 can be read, use fewer"),
    ("y = Gemm(x, nan)", ROWS, "node Gemm makes weights infinite or NaN; export the network anew"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "shape", "message"), REFUSALS, ids=[r[0] for r in REFUSALS])
def test_refusals(tmp_path, body, shape, message):
    constants = {
        "W": W.T, "V": W, "v": W[0], "u": W[:, 0], "I": np.ones((3, 2), np.int32),
        "h": np.float32(0.5), "l": np.float32(-0.5), "R": (1, 12, 3), "K": (4, 1, 2),
        "nan": np.full((3, 2), np.nan, np.float32), "p": np.array([0, 1, 0, 1]),
        "t": np.array(True), "s": np.array([10**7, 10**7]), "many": np.array([4, 10**6]),
        "big": np.array([0, 10**9, 10**9, 0]),
    }  # fmt: skip
    assert message in refused(model(body, x=shape, **constants), tmp_path)
