"""Networks from files and objects of other libraries, written by those libraries."""

import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import cumprop
from cumprop.cli import main
from cumprop.errors import CumpropError
from cumprop.importers.parts import chained

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
safetensors = pytest.importorskip("safetensors.torch", reason="pip install safetensors")
neural_network = pytest.importorskip("sklearn.neural_network", reason="pip install scikit-learn")
nn = torch.nn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 5)).astype(np.float32)
Y = np.stack([X[:, 0] * X[:, 1], np.abs(X[:, 2]), X[:, 3] - X[:, 4]], axis=1)


def fitted(cls=neural_network.MLPRegressor, y=Y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # five steps do not converge
        return cls(hidden_layer_sizes=(8, 7), max_iter=5, random_state=0, **options).fit(X, y)


def sequential(model):
    """The fitted scikit-learn network as PyTorch has it."""
    layers = []
    for coefs, intercept in zip(model.coefs_, model.intercepts_, strict=True):
        linear = nn.Linear(*coefs.shape)
        linear.weight.data = torch.tensor(coefs.T).contiguous()
        linear.bias.data = torch.tensor(intercept)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def export(module, path, shape=(1, 5), **options):
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # this exporter needs no further library, but is the old one
        torch.onnx.export(module, (torch.zeros(shape),), path, dynamo=False, **options)
    return path


def refusal(source, **options):
    """The one line with which `load` refuses a source."""
    with pytest.raises(CumpropError) as caught:
        cumprop.load(source, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    return str(caught.value)


# --- every format ------------------------------------------------------------------------------


def test_every_format_gives_the_same_estimate(tmp_path):
    """To 1e-6 of the output scale, with what scikit-learn itself computes as the forward pass."""
    model = fitted()
    module = sequential(model)
    weights, biases = [c.T for c in model.coefs_], model.intercepts_
    cumprop.MLP(weights, biases, "relu").save(tmp_path / "a.npz")
    safetensors.save_file(module.state_dict(), tmp_path / "a.safetensors")
    torch.save(module.state_dict(), tmp_path / "a.pt")
    export(module, tmp_path / "a.onnx")
    loaded = {
        "sklearn": cumprop.load(model),
        "module": cumprop.load(module),
        "state_dict": cumprop.load(module.state_dict(), activations="relu"),
        "npz": cumprop.load(tmp_path / "a.npz"),
        "safetensors": cumprop.load(tmp_path / "a.safetensors", activations=["relu", "relu"]),
        "torch": cumprop.load(str(tmp_path / "a.pt"), activations="relu"),
        "onnx": cumprop.load(tmp_path / "a.onnx"),
    }
    expected = cumprop.estimate(loaded["sklearn"], "cumulant", order=3, cov=True)
    scale = np.sqrt(np.diag(expected.cov)).max()
    for name, network in loaded.items():
        assert network.shape == loaded["sklearn"].shape, name
        found = cumprop.estimate(network, "cumulant", order=3)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=0, atol=1e-6 * scale)
        np.testing.assert_allclose(network.forward(X), model.predict(X), rtol=0, atol=1e-5 * scale)


def test_the_input_is_given_beside_the_network(tmp_path):
    path = tmp_path / "a.npz"
    cumprop.MLP([np.eye(3)], input_mean=5.0).save(path)
    assert cumprop.load(path).input_mean.tolist() == [5.0] * 3
    network = cumprop.load(path, input_mean=[1, 2, 3], input_cov=[1, 0, 4])
    assert network.input_mean.tolist() == [1, 2, 3]
    assert network.input_cov.tolist() == np.diag([1.0, 0, 4]).tolist()


# --- PyTorch -----------------------------------------------------------------------------------


def test_sequential_with_everything_that_can_be_read():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(),
        nn.Tanh(),  # before any map
        nn.Linear(6, 8),
        nn.GELU(),
        nn.Dropout(0.5),
        nn.Sequential(nn.Linear(8, 8, bias=False), nn.LeakyReLU(0.2), nn.Identity()),
        nn.Linear(8, 4),
        nn.Linear(4, 4),  # right after another
        nn.Sigmoid(),  # after the last map
    ).double()
    network = cumprop.load(module)
    assert [a.name for a in network.activations] == [
        "tanh", "gelu", "leaky_relu(0.2)", "identity", "sigmoid",
    ]  # fmt: skip
    x = torch.tensor(RNG.normal(size=(9, 2, 3)))
    y = module.eval()(x).detach().numpy()
    np.testing.assert_allclose(network.forward(x.reshape(9, 6).numpy()), y, rtol=1e-12)


def test_a_single_linear_layer():
    layer = nn.Linear(3, 2)
    assert cumprop.load(nn.Sequential(layer)).depth == 0
    np.testing.assert_array_equal(cumprop.load(layer).weights[0], layer.weight.detach())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(1, 1, 3), "layer 1 (Conv2d) cannot be read"),
        (nn.BatchNorm1d(4), "layer 1 (BatchNorm1d) cannot be read"),
        (nn.Softmax(dim=1), "layer 1 (Softmax) cannot be read"),
        (nn.GELU(approximate="tanh"), "layer 1 (GELU) cannot be read; only"),
        (nn.Sequential(nn.LayerNorm(4)), "layer 0 (LayerNorm) cannot be read"),
        (nn.Flatten(0), "layer 1 (Flatten) cannot be read"),
        (nn.LazyLinear(4), "no ordinary tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_layers_that_cannot_be_read(layer, message):
    found = refusal(nn.Sequential(nn.Linear(4, 4), layer))
    assert found.startswith("Sequential: ") and message in found


def test_modules_with_a_forward_of_their_own_are_refused():
    class Skip(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    assert "Skip cannot be read" in refusal(Skip(nn.Linear(4, 4)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_type(tmp_path, dtype):
    """Also more than ten layers: safetensors sorts their names as words."""
    torch.manual_seed(0)
    module = nn.Sequential(*(nn.Linear(4, 4) for _ in range(12))).to(dtype)
    torch.save(module.state_dict(), tmp_path / "a.pth")
    safetensors.save_file(module.state_dict(), tmp_path / "a.safetensors")
    for path in tmp_path.iterdir():
        network = cumprop.load(path, activations="identity")
        assert network.dtype == (np.float64 if dtype is torch.float64 else np.float32)
        for layer, w, b in zip(module, network.weights, network.biases, strict=True):
            np.testing.assert_array_equal(w, layer.weight.detach().to(torch.float64))
            np.testing.assert_array_equal(b, layer.bias.detach().to(torch.float64))


def test_safetensors_order(tmp_path):
    """By number; families of names in the order that chains; refused where that is open."""

    def order(**shapes):
        tensors = {
            name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(shapes.items())
        }
        safetensors.save_file(tensors, tmp_path / "a.safetensors")
        network = cumprop.load(tmp_path / "a.safetensors", activations="relu")
        return [int(w[0, 0]) for w in network.weights]

    assert order(w9=(3, 3), w10=(3, 3), w11=(3, 3)) == [0, 1, 2]
    assert order(stem=(4, 5), hidden1=(4, 4), hidden2=(4, 4), head=(2, 4)) == [0, 1, 2, 3]
    with pytest.raises(CumpropError, match=r"number the names: 0\.weight"):
        order(first=(4, 4), second=(4, 4))
    with pytest.raises(CumpropError, match="number the names"):
        order(**dict.fromkeys("acdefgh", (4, 4)))


def test_state_dicts_of_any_names():
    w, v = RNG.normal(size=(4, 3)), RNG.normal(size=(2, 4))
    for names in (("W0", "W1", "b1"), ("in.weight", "out.weight", "out.bias"), ("a", "c_w", "c_b")):
        arrays = dict(zip(names, (w, v, np.ones(2)), strict=True))
        network = cumprop.load(arrays, activations="tanh")
        np.testing.assert_array_equal(network.weights[1], v)
        assert network.biases[0] is None and network.biases[1].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Conv1d(2, 2, 3)), "0.weight, of shape (2, 2, 3), is no weight"),
        (nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), "1.weight, of shape (3,), is no weight"),
        (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), "1.num_batches_tracked, of shape ()"),
        (nn.RNN(3, 3), "weight_ih_l0, of shape (3, 3), is no weight"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), "parametrizations.weight"),
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 2)), "1.weight has shape (2, 3) but 0.weight"),
        (nn.Sequential(), "holds no matrix"),
    ],
)
def test_state_dicts_that_are_no_mlp(module, message):
    assert message in refusal(module.state_dict(), activations="relu")


def test_strange_state_dicts():
    w = torch.ones(3, 3)
    assert "no tensor; give a state dict alone" in refusal({"epoch": 3, "state_dict": {"w": w}})
    assert "1 is no name; give a state dict" in refusal({1: w})
    assert "ordinary tensor" in refusal({"w": w.to_sparse()})
    assert "ordinary tensor" in refusal({"w": w.to("meta")})
    assert "GB" in refusal({"w": torch.ones(1).expand(10**9, 10**9)})
    assert "b has shape (2,); w needs (3,)" in refusal({"w": w, "b": torch.ones(2)})
    assert "NaN" in refusal({"w": w * float("nan")})
    assert "complex64" in refusal({"w": w.to(torch.complex64)})
    assert "same name" in refusal({"0.weight": w, "0.w": w})
    assert "name the activations, as in --activations relu" in refusal({"w0": w, "w1": w})
    assert "2 activations for 1" in refusal({"w0": w, "w1": w}, activations=["relu", "relu"])
    assert "\n" not in refusal({"a\nb" * 1000: w[0]})


def test_checkpoints_that_are_refused(tmp_path):
    module = nn.Sequential(nn.Linear(3, 3))
    path = tmp_path / "a.pt"
    remedy = "torch.save(model.state_dict(), path)"
    torch.save(module, path)
    found = refusal(path)
    assert "pickles torch.nn.modules.container.Sequential" in found and remedy in found
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False)
    assert "since version 1.6" in refusal(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        torch.jit.save(torch.jit.script(module), path)
    assert "a TorchScript archive" in refusal(path)
    torch.save(module[0].weight.data, path)
    assert "holds a Tensor, no state dict" in refusal(path)
    torch.save({"model": module.state_dict(), "epoch": 1}, path)
    assert "'model' is a OrderedDict, no tensor" in refusal(path)


# --- scikit-learn ------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_classifiers_give_logits(activation):
    classes = np.argmax(Y, axis=1)
    three = fitted(neural_network.MLPClassifier, classes, activation=activation)
    logits = cumprop.load(three).forward(X)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, three.predict_proba(X), atol=1e-6)
    two = fitted(neural_network.MLPClassifier, classes == 0, activation=activation)
    logistic = 1 / (1 + np.exp(-cumprop.load(two).forward(X)))
    np.testing.assert_allclose(logistic[:, 0], two.predict_proba(X)[:, 1], atol=1e-6)


def test_estimators_that_are_refused():
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    assert "not fitted" in refusal(neural_network.MLPRegressor())
    assert "only MLPRegressor and MLPClassifier" in refusal(LinearRegression())
    assert "give the last step" in refusal(make_pipeline(fitted()))
    poisson = fitted(y=np.abs(Y[:, 0]), loss="poisson")
    assert "end with exp, which cannot be read" in refusal(poisson)
    model = fitted()
    model.coefs_[1][0, 0] = np.nan
    assert refusal(model) == "MLPRegressor: W1 contains NaN or infinite entries; replace them"


# --- ONNX --------------------------------------------------------------------------------------


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


W = RNG.normal(size=(4, 3)).astype(np.float32)
V = RNG.normal(size=(4, 2)).astype(np.float32)
B = RNG.normal(size=(1, 4)).astype(np.float32)


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


# --- the documentation -------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", "docs/networks.md"])
def test_documented_examples_run(tmp_path, monkeypatch, capsys, page):
    """The code of "Your own network", Python first, then the shell, in one folder."""
    text = (Path(__file__).parent.parent / page).read_text(encoding="utf-8")
    section = text.partition("# Your own network\n")[2].partition("\n## Run an experiment")[0]
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python|sh)\n(.*?)```", section, re.DOTALL)
    python, shell = (
        "".join(block for language, block in blocks if language == wanted)
        for wanted in ("python", "sh")
    )
    assert python and shell
    subprocess.run([sys.executable, "-c", f"import cumprop, torch\n{python}"], check=True)
    for line in shell.splitlines():
        program, *words = shlex.split(line, comments=True)
        assert (program, main(words)) == ("cumprop", 0), capsys.readouterr().err


# --- everything else ---------------------------------------------------------------------------


def test_sources_that_are_none(tmp_path):
    assert refusal(tmp_path / "a.h5").endswith(
        "suffix '.h5' is not known; the known ones are .npz, .safetensors, .pt, .pth, .onnx"
    )
    assert "give a path, a state dict" in refusal(42)
    for suffix in (".npz", ".safetensors", ".pt", ".onnx"):
        assert "No such file" in refusal(tmp_path / f"missing{suffix}")
        (tmp_path / f"folder{suffix}").mkdir()
        assert "directory" in refusal(tmp_path / f"folder{suffix}")
    path = tmp_path / "a.npz"
    cumprop.MLP([np.eye(3)]).save(path)
    assert "names its activations itself" in refusal(path, activations="relu")
    assert "input_cov is not symmetric" in refusal(path, input_cov=np.triu(np.ones((3, 3))))


def test_what_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    model = fitted()
    torch.save(sequential(model).state_dict(), tmp_path / "a.pt")
    safetensors.save_file(sequential(model).state_dict(), tmp_path / "a.safetensors")
    cumprop.load(model).save(tmp_path / "a.npz")
    export(sequential(model), tmp_path / "a.onnx")
    monkeypatch.setattr("cumprop.importers.parts.free_memory", lambda: 1000)
    for path in tmp_path.iterdir():
        assert "GB are free" in refusal(path)
    with pytest.raises(CumpropError, match="GB are free"):
        chained([(np.ones((30, 1)), None), "relu"])
    assert "GB are free" in refusal({"w": np.ones((1, 6))}, input_cov=1.0)


def test_a_missing_library_is_named(tmp_path):
    for suffix, package in ((".onnx", "onnx"), (".safetensors", "safetensors"), (".pt", "torch")):
        path = tmp_path / f"a{suffix}"
        path.touch()
        code = (
            f"import sys; sys.modules[{package!r}] = None; import cumprop\n"
            f"try: cumprop.load({str(path)!r})\nexcept cumprop.CumpropError as e: print(e)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == f"{path}: {package} is not installed: pip install {package}\n"


def test_loading_npz_needs_no_other_library(tmp_path):
    cumprop.MLP([np.eye(3)]).save(tmp_path / "a.npz")
    code = f"import sys, cumprop; cumprop.load({str(tmp_path / 'a.npz')!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "numpy" in loaded and not loaded & {"torch", "onnx", "sklearn", "safetensors"}
