"""Networks from PyTorch: Sequential, state dicts, checkpoints, and safetensors of them."""

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
