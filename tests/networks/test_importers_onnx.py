"""Networks from ONNX files, written by its own library and by PyTorch."""

import numpy as np
import pytest
from helpers.sources import export, refusal

import cumprop

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
nn = torch.nn

RNG = np.random.default_rng(0)
W = RNG.normal(size=(4, 3)).astype(np.float32)
V = RNG.normal(size=(4, 2)).astype(np.float32)
B = RNG.normal(size=(1, 4)).astype(np.float32)


def written(tmp_path, nodes, shape=("N", 3), outputs=("y",), **constants):
    """An ONNX file of nodes (op, inputs, output, attributes) and constants."""
    helper, float_ = onnx.helper, onnx.TensorProto.FLOAT
    made = [
        helper.make_node(op, inputs, [output], name=f"{op}_{i}", **attributes)
        for i, (op, inputs, output, attributes) in enumerate(nodes)
    ]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", float_, shape)],
        [helper.make_tensor_value_info(y, float_, None) for y in outputs],
        [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
    )
    onnx.save(helper.make_model(graph), tmp_path / "a.onnx")
    return tmp_path / "a.onnx"


def test_onnx_operations(tmp_path):
    """Against the reference evaluator of ONNX."""
    from onnx.reference import ReferenceEvaluator

    path = written(
        tmp_path,
        [
            ("Flatten", ["x"], "x1", {}),
            ("Gemm", ["x1", "W", "B"], "z1", {"transB": 1, "alpha": 0.5, "beta": 2.0}),
            ("LeakyRelu", ["z1"], "h1", {"alpha": 0.2}),
            ("MatMul", ["h1", "S"], "m", {}),
            ("Add", ["B", "m"], "z2", {}),
            ("Identity", ["z2"], "i", {}),
            ("Abs", ["i"], "h2", {}),
            ("Gemm", ["h2", "V"], "z3", {}),
            ("Tanh", ["z3"], "y", {}),
        ],
        shape=("N", 3, 1),
        W=W, V=V, B=B, S=RNG.normal(size=(4, 4)).astype(np.float32),
    )  # fmt: skip
    network = cumprop.load(path)
    assert [a.name for a in network.activations] == ["leaky_relu(0.2)", "abs", "tanh"]
    x = RNG.normal(size=(6, 3, 1)).astype(np.float32)
    expected = ReferenceEvaluator(str(path)).run(None, {"x": x})[0]
    np.testing.assert_allclose(network.forward(x[:, :, 0]), expected, atol=1e-5)


def test_onnx_from_pytorch(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 8, bias=False), nn.Sigmoid(),
        nn.Dropout(), nn.Linear(8, 3), nn.LeakyReLU(0.3),
    ).eval()  # fmt: skip
    path = export(module, tmp_path / "a.onnx", (1, 2, 3), opset_version=20)
    x = torch.randn(5, 2, 3)
    expected = module(x).detach().numpy()
    np.testing.assert_allclose(cumprop.load(path).forward(x.reshape(5, 6)), expected, atol=1e-6)


def test_onnx_flatten_as_a_reshape(tmp_path):
    """As the newer exporter of PyTorch writes it."""

    def path(shape, target):
        nodes = [("Reshape", ["x", "s"], "f", {}), ("Gemm", ["f", "W"], "y", {"transB": 1})]
        return written(tmp_path, nodes, shape, W=W, s=np.array(target))

    for target in ([1, 3], [-1, 3], [0, -1]):
        assert cumprop.load(path((1, 3, 1), target)).widths == (3, 4)
    for shape, target in (((2, 6), [-1, 3]), ((1, 3, 1), [3]), (("N", "M"), [-1, 3])):
        assert "only a Reshape that does" in refusal(path(shape, target))


def test_onnx_external_data(tmp_path):
    path = written(tmp_path, [("Gemm", ["x", "W"], "y", {"transB": 1})], W=W)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="a.data", size_threshold=0)
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


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        ([("Conv", ["x", "W"], "y", {})], {}, "node Conv 'Conv_0' cannot be read; only Gemm"),
        ([("Gemm", ["x", "W"], "y", {"transB": 1, "domain": "my"})], {}, "node my.Gemm"),
        ([("Gemm", ["x", "W"], "y", {"transA": 1})], {}, "transposes its input"),
        ([("Gemm", ["x", "V"], "y", {})], {}, "takes 4 numbers but gets 3"),
        ([("Gemm", ["x", "x"], "y", {})], {}, "no constant numbers as its input 1"),
        ([("Gemm", ["x", "W", "V"], "y", {"transB": 1})], {}, "bias of shape (4, 2)"),
        ([("Gemm", ["x", "W"], "y", {"alpha": "a"})], {}, "attribute alpha that is no number"),
        ([("MatMul", ["W", "x"], "y", {})], {}, "multiplies from the left"),
        (
            [("MatMul", ["x", "B"], "y", {})],
            {"shape": ("N", 1), "B": B[0]},
            "weights of shape (4,)",
        ),
        ([("Add", ["x", "B"], "y", {})], {}, "follows no MatMul"),
        ([("Relu", ["x"], "a", {}), ("Add", ["a", "x"], "y", {})], {}, "follows no MatMul"),
        ([("Gelu", ["x"], "y", {"approximate": "tanh"})], {}, "tanh form of GELU"),
        ([("Flatten", ["x"], "y", {"axis": 0})], {}, "another axis"),
        ([("Relu", ["x"], "a", {}), ("Tanh", ["x"], "y", {})], {}, "does not follow the node"),
        ([("Relu", ["x"], "y", {}), ("Tanh", ["y"], "z", {})], {}, "output is not what"),
        ([("Relu", ["x"], "y", {})], {}, "holds no linear layer"),
        ([("Relu", ["x"], "y", {})], {"outputs": ("x", "y")}, "1 inputs and 2 outputs"),
        ([("MatMul", ["x", "W"], "y", {})], {"shape": (1, 5, 4)}, "put a Flatten before"),
        ([("MatMul", ["x", "I"], "y", {})], {"I": np.ones((3, 2), np.int32)}, "floating-point"),
        ([("MatMul", ["x", "W"], "y", {})], {"shape": None, "W": W * np.nan}, "W0 contains NaN"),
    ],
)
def test_onnx_files_that_are_no_mlp(tmp_path, nodes, options, message):
    path = written(tmp_path, nodes, **({"W": W, "V": V, "B": B} | options))
    found = refusal(path)
    assert found.startswith(f"{path}: ") and message in found


def test_onnx_constants_in_nodes(tmp_path):
    value = onnx.numpy_helper.from_array(W)
    nodes = [("Constant", [], "C", {"value": value}), ("Gemm", ["x", "C"], "y", {"transB": 1})]
    np.testing.assert_array_equal(cumprop.load(written(tmp_path, nodes)).weights[0], W)


SMALL = np.random.default_rng(1)
CONSTANTS = {
    "W1": SMALL.normal(size=(6, 8)), "b1": SMALL.normal(size=8), "W2": SMALL.normal(size=(8, 3)),
    "b2": SMALL.normal(size=3), "c": SMALL.normal(size=6), "d": SMALL.normal(size=8),
    "g": SMALL.uniform(1, 2, size=8), "v": SMALL.uniform(1, 2, size=8),
    "K1": SMALL.normal(size=(8, 1, 1, 6)), "K2": SMALL.normal(size=(3, 8, 1, 1)),
    "z": SMALL.normal(size=(1, 1, 1, 6)),
}  # fmt: skip
END = [("Relu", ["a"], "r", {}), ("Gemm", ["r", "W2", "b2"], "y", {})]
CHAINS = {
    "a constant subtracted first": [
        ("Sub", ["x", "c"], "s", {}), ("Gemm", ["s", "W1", "b1"], "a", {}), *END],
    "two additions": [
        ("MatMul", ["x", "W1"], "m", {}), ("Add", ["m", "b1"], "t", {}),
        ("Add", ["t", "d"], "a", {}), *END],
    "batch normalisation": [
        ("Gemm", ["x", "W1", "b1"], "o", {}),
        ("BatchNormalization", ["o", "g", "b1", "d", "v"], "a", {}), *END],
    "an identity of a constant": [
        ("Identity", ["W1"], "V", {}), ("Gemm", ["x", "V", "b1"], "a", {}), *END],
    "a cast first": [
        ("Cast", ["x"], "s", {"to": 1}), ("Gemm", ["s", "W1", "b1"], "a", {}), *END],
    "convolutions that are dense": [
        ("Sub", ["x", "z"], "s", {}), ("Conv", ["s", "K1", "b1"], "a", {}),
        ("Relu", ["a"], "r", {}), ("Conv", ["r", "K2", "b2"], "q", {}),
        ("Flatten", ["q"], "y", {})],
}  # fmt: skip


@pytest.mark.xfail(strict=True, raises=cumprop.CumpropError, reason="refused, though feed-forward")
@pytest.mark.parametrize("chain", CHAINS)
def test_chains_that_are_still_refused(tmp_path, chain):
    """Each is a network of dense layers; the reference evaluator of ONNX says which."""
    from onnx.reference import ReferenceEvaluator

    nodes = CHAINS[chain]
    shape = ("N", 1, 1, 6) if "Conv" in {op for op, *_ in nodes} else ("N", 6)
    used = {name for _, names, _, _ in nodes for name in names} & set(CONSTANTS)
    constants = {name: CONSTANTS[name].astype(np.float32) for name in used}
    path = written(tmp_path, nodes, shape=shape, **constants)
    x = RNG.normal(size=(5, *shape[1:])).astype(np.float32)
    expected = ReferenceEvaluator(str(path)).run(None, {"x": x})[0]
    found = cumprop.load(path).forward(x.reshape(5, -1))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
