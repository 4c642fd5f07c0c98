"""Tensors on a device: NumPy's numbers, results that stay there, no matrix that comes back.

Without a GPU the same tests run with the host as the device.
"""

import numpy as np
import pytest

import cumprop

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]
CLOSURES = {
    "order 1": {"order": 1},
    "order 2": {"order": 2},
    "order 3": {"order": 3},
    "order 4": {"order": 4},
    "order 4 with edgeworth": {"order": 4, "edgeworth": True},
    "tree": {"order": 3, "kind": "tree"},
    "augmented_factorised": {"order": 3, "kind": "augmented_factorised"},
}
WIDTHS = (20, 24, 24, 24, 6)


def parameters_of(seed=0):
    """Weights, biases, input mean and input covariance in float64."""
    rng = np.random.default_rng(seed)
    maps = list(zip(WIDTHS[1:], WIDTHS[:-1], strict=True))
    weights = [rng.normal(size=m) * np.sqrt(2 / m[1]) for m in maps]
    biases = [rng.normal(size=m[0]) * 0.3 for m in maps]
    root = rng.normal(size=(WIDTHS[0],) * 2) / np.sqrt(WIDTHS[0])
    return weights, biases, rng.normal(size=WIDTHS[0]), root @ root.T


def on(device, array, dtype=None):
    return torch.tensor(array).to(device, dtype or torch.float64)


def outputs(estimate):
    cov = [] if estimate.cov is None else [estimate.cov]
    return [estimate.mean, *estimate.layer_means, *cov]


def assert_near(found, wanted, tolerance, device, dtype):
    for tensor, array in zip(outputs(found), outputs(wanted), strict=True):
        assert (tensor.device.type, tensor.dtype) == (device, dtype)
        difference = np.abs(tensor.cpu().numpy() - array).max()
        assert difference <= tolerance * np.abs(array).max()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("closure", CLOSURES)
def test_float64_numbers_are_those_of_numpy(closure, activation, device):
    weights, biases, mean, cov = parameters_of()
    tensors = [on(device, w) for w in weights], [on(device, b) for b in biases]
    asked = CLOSURES[closure] | {"cov": closure != "order 1"}
    network = cumprop.MLP(weights, biases, activation, mean, cov)
    moved = cumprop.MLP(*tensors, activation, on(device, mean), on(device, cov))
    wanted, found = (cumprop.estimate(mlp, "cumulant", **asked) for mlp in (network, moved))
    assert_near(found, wanted, 1e-9, device, torch.float64)
    assert found.status == wanted.status


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("closure", CLOSURES)
def test_float32_is_near_float64(closure, device):
    network = cumprop.random_mlp(width=48, depth=4, seed=0)
    exact = cumprop.MLP([np.array(w, np.float64) for w in network.weights])
    tensors = [on(device, np.array(w), torch.float32) for w in network.weights]
    wanted = cumprop.estimate(exact, "cumulant", **CLOSURES[closure])
    found = cumprop.estimate(cumprop.MLP(tensors), "cumulant", **CLOSURES[closure])
    assert_near(found, wanted, 5e-6, device, torch.float32)


@CUDA
@pytest.mark.parametrize("closure", CLOSURES)
def test_gradients_are_those_of_the_host(closure):
    """Which finite differences confirm in test_torch.py."""
    gradients = {}
    for device in ("cpu", "cuda"):
        weights, biases, *_ = parameters_of()
        given = [on(device, a).requires_grad_() for a in (*weights, *biases)]
        mlp = cumprop.MLP(given[: len(weights)], given[len(weights) :], "gelu")
        cumprop.estimate(mlp, "cumulant", **CLOSURES[closure]).mean.square().sum().backward()
        assert all(tensor.grad.device.type == device for tensor in given)
        gradients[device] = [tensor.grad.cpu().numpy() for tensor in given]
    for wanted, found in zip(gradients["cpu"], gradients["cuda"], strict=True):
        assert np.abs(found - wanted).max() <= 1e-9 * max(np.abs(wanted).max(), 1e-3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("closure", CLOSURES)
def test_no_matrix_comes_back_to_the_host(closure, device, monkeypatch):
    """Of what an estimate copies, all are numbers, or a few for each neuron."""
    network, sizes, copy = cumprop.random_mlp(width=48, depth=3, seed=0), [], torch.Tensor.cpu

    def watched(self, *arguments, **options):
        sizes.append(self.numel())
        return copy(self, *arguments, **options)

    tensors = cumprop.MLP([on(device, np.array(w)) for w in network.weights])
    asked = CLOSURES[closure] | {"cov": closure != "order 1"}
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "cpu", watched)
        cumprop.estimate(tensors, "cumulant", **asked)
    assert sizes
    assert max(sizes) <= 48
