"""Modules of PyTorch that are exported to ONNX, against their own forward pass."""

import sys

import numpy as np
import pytest
from helpers.sources import refusal

import cumprop

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
nn = torch.nn
weight_norm = nn.utils.parametrizations.weight_norm

RNG = np.random.default_rng(0)


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
    "weights that are computed": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Softplus()
        ),
        (5,),
        (5,),
    ),
    "the same map of every row": (lambda: nn.Linear(3, 2), (4, 3), (4, 3)),
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


@pytest.mark.thorough
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


def test_a_final_softmax_is_left_off_with_a_note():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(dim=1)).double()
    with pytest.warns(UserWarning, match=r"^Sequential: the final Softmax .*left off"):
        network = cumprop.load(module)
    x = torch.tensor(RNG.normal(size=(9, 3)))
    logits = module[:-1](x).detach()
    np.testing.assert_allclose(network.forward(x.numpy()), logits, rtol=0, atol=1e-12)


class Branching(nn.Linear):
    """A module whose Python code looks at its numbers."""

    def forward(self, x):
        return super().forward(x) if x.norm() < 1e6 else x


def test_code_that_looks_at_numbers_is_noted():
    module = Branching(3, 3)
    with pytest.warns(UserWarning, match=r"Branching: its Python code looks at .*.py, line"):
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
        (nn.LogSigmoid(), None, "node Log"),
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
