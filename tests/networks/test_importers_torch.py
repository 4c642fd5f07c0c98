"""Networks from PyTorch: modules, state dicts, checkpoints, and safetensors of them."""

import sys
import warnings

import numpy as np
import pytest
from helpers.sources import refusal

import cumprop
from cumprop.errors import CumpropError
from cumprop.networks.importers.torch import NAMES

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
safetensors = pytest.importorskip("safetensors.torch", reason="pip install safetensors")
nn = torch.nn

RNG = np.random.default_rng(0)


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


@pytest.mark.parametrize("name", sorted(NAMES))
def test_activations_by_name(name):
    module = nn.Sequential(nn.Linear(3, 40), getattr(nn, name)(), nn.GELU("tanh")).double()
    network = cumprop.load(module)
    assert [a.name for a in network.activations] == [NAMES[name], "gelu_tanh"]
    x = torch.tensor(5 * RNG.normal(size=(50, 3)))
    np.testing.assert_allclose(network.forward(x.numpy()), module(x).detach(), atol=1e-12)


def test_a_single_linear_layer():
    layer = nn.Linear(3, 2)
    assert cumprop.load(nn.Sequential(layer)).depth == 0
    np.testing.assert_array_equal(cumprop.load(layer).weights[0], layer.weight.detach())


# --- modules that are exported -----------------------------------------------------------------


class Residual(nn.Module):
    """x + W relu(V x), normalised, then a head."""

    def __init__(self, width=6):
        super().__init__()
        self.first, self.second = nn.Linear(width, 8), nn.Linear(8, width)
        self.norm, self.drop = nn.BatchNorm1d(width), nn.Dropout(0.5)
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        h = self.second(self.drop(torch.relu(self.first(x))))
        return self.head(torch.tanh(self.norm(x + h)))


class Block(nn.Module):
    """Two convolutions beside a skip connection."""

    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x):
        return torch.relu(x + self.layers(x))


class Flattened(nn.Module):
    """A forward function that flattens, multiplies by a parameter and calls functions."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0, 1.0, -1.0]))
        self.linear = nn.Linear(6, 4)

    def forward(self, x):
        x = x.view(x.size(0), -1) * self.scale
        return nn.functional.silu(self.linear(x - 1)).sum(dim=1, keepdim=True)


def conv_net():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        Block(4),
        nn.AvgPool2d(2),
        nn.MaxPool2d((1, 2)),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


MODULES = {
    "residual": (Residual, None, (6,)),
    "convolutions": (conv_net, (2, 8, 8), (2, 8, 8)),
    "one channel": (lambda: nn.Conv1d(1, 2, 3), (1, 7), (1, 7)),
    "functions": (Flattened, (2, 3), (2, 3)),
    "global pooling": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1)),
        [1, 5, 6],
        (1, 5, 6),
    ),
    "normalised input": (
        lambda: nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 4), nn.GELU("tanh")),
        (5,),
        (5,),
    ),
    "layers of other kinds": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.SiLU(), nn.ReLU6()),
        None,
        (5,),
    ),
}


def trained_a_little(make, shape):
    """A module whose normalisations have statistics, in training mode."""
    torch.manual_seed(0)
    module = make().double()
    for _ in range(3):
        module(2 * torch.randn(16, *shape, dtype=torch.float64) + 1)
    return module


@pytest.mark.parametrize("name", MODULES)
def test_modules_agree_with_their_network(name):
    """In evaluation mode, for inputs of any number of axes; the module stays in training mode."""
    make, given, shape = MODULES[name]
    module = trained_a_little(make, shape)
    network = cumprop.load(module, input_shape=given)
    assert all(layer.training for layer in module.modules())
    x = torch.tensor(RNG.normal(size=(20, *shape)))
    y = module.eval()(x).flatten(1).detach().numpy()
    found = network.forward(x.flatten(1).numpy())
    np.testing.assert_allclose(found, y, rtol=0, atol=1e-10 * np.abs(y).max())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_modules_of_other_types(dtype):
    module = nn.Sequential(nn.Linear(4, 3), nn.Flatten(), nn.Linear(3, 2)).to(dtype)
    network, exported = cumprop.load(module), cumprop.load(module, input_shape=(4,))
    x = RNG.normal(size=(9, 4))
    assert exported.dtype == np.float32
    np.testing.assert_allclose(exported.forward(x), network.forward(x), rtol=1e-5, atol=1e-6)


def test_the_mode_of_every_layer_is_kept():
    module = Residual().train()
    module.norm.eval()
    cumprop.load(module)
    modes = {name for name, layer in module.named_modules() if not layer.training}
    assert modes == {"norm"}
    module.head = nn.Linear(3, 2)
    refusal(module)
    assert modes == {name for name, layer in module.named_modules() if not layer.training}


def test_an_export_is_silent_and_leaves_no_trace(tmp_path, monkeypatch, capfd):
    """Neither output, nor files, nor numbers taken from the user's random stream."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    module, state = Residual(), torch.random.get_rng_state()
    cumprop.load(module)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not [*tmp_path.iterdir()]
    assert capfd.readouterr() == ("", "")


def test_an_export_needs_onnx(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert refusal(Residual()) == "Residual: onnx is not installed: pip install onnx"
    assert cumprop.load(nn.Sequential(nn.Linear(2, 2), nn.ReLU())).depth == 1


class Branching(nn.Linear):
    """A module whose Python code looks at its numbers."""

    def forward(self, x):
        return super().forward(x) if x.norm() < 1e6 else x


def test_code_that_looks_at_numbers_is_noted():
    module = Branching(3, 3)
    with pytest.warns(UserWarning, match=r"Branching: its Python code looks at .*_torch.py, line"):
        network = cumprop.load(module)
    np.testing.assert_array_equal(network.weights[0], module.weight.detach())


class Raising(nn.Linear):
    def forward(self, x):
        raise RuntimeError("no\nforward")


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x) + torch.randn_like(x)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.LazyLinear(4), None, "no ordinary tensor"),
        (nn.LazyLinear(4), (4,), "PyTorch cannot export it for an input of shape (4,)"),
        (nn.Linear(3, 2), None, "W1 has shape (2, 3) but W0 gives 4 numbers"),
        (nn.Linear(3, 2), (4,), "export it for an input of shape (4,) (input_shape gives another)"),
        (nn.LayerNorm(4), None, "LayerNorm"),
        (nn.Linear(4, 4).to("meta"), None, "no ordinary tensor"),
        (nn.MultiheadAttention(4, 1), None, "PyTorch cannot export it"),
        (Raising(4, 4), None, "no"),
        (Noisy(4, 4), None, "RandomNormalLike"),
        (nn.LSTM(4, 4), None, "recurrent"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_layers_that_cannot_be_read(layer, shape, message):
    found = refusal(nn.Sequential(nn.Linear(4, 4), layer), input_shape=shape)
    assert found.startswith("Sequential: ") and message in found


@pytest.mark.parametrize("shape", [5, (0,), (-1, 3), ("a",), (2.5,), "ab"])
def test_shapes_that_are_none(shape):
    assert "input_shape must be positive whole numbers" in refusal(Residual(), input_shape=shape)


def test_the_shape_is_asked_for_where_it_is_not_known():
    for module in (
        nn.Conv2d(1, 1, 3),
        nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4)),
        Flattened(),
    ):
        said = refusal(module)
        assert "its first layer is no Linear" in said and "input_shape=(3, 32, 32)" in said
    assert "GB are free" in refusal(nn.Conv2d(1, 1, 3), input_shape=(1, 10**6, 10**6))


# --- weights alone -----------------------------------------------------------------------------


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
    with pytest.raises(CumpropError, match="several networks"):
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
