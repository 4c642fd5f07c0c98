"""Tensors through the formulas: NumPy's numbers and FLOPs, gradients against finite differences."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import ndtr

import cumprop
from cumprop.activations import Custom
from cumprop.errors import CumpropError
from cumprop.estimators.cumulant.kinds import EDGES
from cumprop.flops import counted, counting, numpy_arrays, plain

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

WIDTHS = (4, 6, 5, 6, 3)
TREE = {"order": 3, "kind": "tree"}
ALGORITHMS = [(1, "dense"), (2, "dense"), (3, "dense"), (3, "structured"), (4, "structured")]
DIFFERENTIABLE = [variant for variant in ALGORITHMS if variant[0] < 4]
ACTIVATIONS = ["relu", "gelu", "tanh", "square"]


@pytest.fixture
def full_products(monkeypatch):
    """NumPy's symmetric products count in full, as PyTorch's do."""
    monkeypatch.setattr(numpy_arrays, "_is_symmetric_product", lambda *_: False)


def parameters_of(widths=WIDTHS, seed=0, dtype=np.float64):
    """Weights, biases, input mean and a root of the input covariance."""
    rng = np.random.default_rng(seed)
    maps = list(zip(widths[1:], widths[:-1], strict=True))
    weights = [(rng.normal(size=m) * np.sqrt(2 / m[1])).astype(dtype) for m in maps]
    biases = [(rng.normal(size=m[0]) * 0.3).astype(dtype) for m in maps]
    mean = rng.normal(size=widths[0]).astype(dtype)
    root = (rng.normal(size=(widths[0],) * 2) / np.sqrt(widths[0])).astype(dtype)
    return weights, biases, mean, root


def networks(activation, widths=WIDTHS, dtype=np.float64):
    """The same network of arrays and of tensors."""
    weights, biases, mean, root = parameters_of(widths, dtype=dtype)

    def tensors(arrays):
        return [torch.tensor(a) for a in arrays]

    cov = root @ root.T
    scale = [2.0] * len(weights)
    return (
        cumprop.MLP(weights, biases, activation, mean, cov, scale),
        cumprop.MLP(tensors(weights), tensors(biases), activation, *tensors([mean, cov]), scale),
    )


def outputs(estimate):
    cov = [] if estimate.cov is None else [estimate.cov]
    return [estimate.mean, *estimate.layer_means, *cov]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("order", "algorithm"), [*ALGORITHMS, (4, "dense")])
@pytest.mark.parametrize("metric", ["exact", "average"])
def test_numbers_and_flops_are_those_of_numpy(full_products, activation, order, algorithm, metric):
    parameters = {"order": order, "algorithm": algorithm, "metric": metric, "cov": order > 1}
    wanted, found = (
        cumprop.estimate(network, "cumulant", **parameters) for network in networks(activation)
    )
    for a, b in zip(outputs(wanted), outputs(found), strict=True):
        assert isinstance(b, torch.Tensor)
        assert b.dtype == torch.float64
        assert np.abs(a - b.numpy()).max() <= 1e-12 * np.abs(a).max()
    assert dict(found.flops) == dict(wanted.flops)
    assert found.status == wanted.status


@pytest.mark.parametrize("kind", ["augmented", "augmented_factorised", "ablated"])
def test_other_kinds_too(full_products, kind):
    wanted, found = (
        cumprop.estimate(network, "cumulant", order=3, kind=kind) for network in networks("relu")
    )
    assert np.allclose(found.mean.numpy(), wanted.mean, rtol=1e-12, atol=1e-12)
    assert dict(found.flops) == dict(wanted.flops)


@pytest.mark.parametrize("edges", EDGES)
def test_trees_too(full_products, edges):
    parameters = TREE | {"edges": edges, "cov": True}
    one, other = networks("gelu")
    wanted, found = (cumprop.estimate(mlp, "cumulant", **parameters) for mlp in (one, other))
    for a, b in zip(outputs(wanted), outputs(found), strict=True):
        assert np.abs(a - b.numpy()).max() <= 1e-12 * np.abs(a).max()
    assert dict(found.flops) == dict(wanted.flops)


def test_standard_input_without_biases(full_products):
    network = cumprop.random_mlp(width=8, depth=3, seed=0, dtype="float64")
    tensors = cumprop.MLP([torch.tensor(np.array(w)) for w in network.weights])
    for order, algorithm in ALGORITHMS:
        wanted, found = (
            cumprop.estimate(n, "cumulant", order=order, algorithm=algorithm)
            for n in (network, tensors)
        )
        assert np.allclose(found.mean.numpy(), wanted.mean, rtol=1e-12, atol=1e-12)
        assert dict(found.flops) == dict(wanted.flops)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("order", "algorithm"), ALGORITHMS)
def test_float32_stays_float32(full_products, activation, order, algorithm):
    wanted, found = (
        cumprop.estimate(n, "cumulant", order=order, algorithm=algorithm, cov=order > 1)
        for n in networks(activation, dtype=np.float32)
    )
    for a, b in zip(outputs(wanted), outputs(found), strict=True):
        assert b.dtype == torch.float32
        assert np.abs(a - b.numpy()).max() <= 1e-4 * np.abs(a).max()
    assert found.flops["linear"] == wanted.flops["linear"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("order", "algorithm"), DIFFERENTIABLE)
def test_gradients_are_finite_differences(activation, order, algorithm):
    """With respect to all parameters of all outputs; input_cov = root rootᵀ stays symmetric."""
    weights, biases, mean, root = parameters_of((2, 3, 3, 2))
    inputs = [torch.tensor(a, requires_grad=True) for a in (*weights, *biases, mean, root)]

    def function(*tensors):
        *maps, mean, root = tensors
        weights, biases = maps[: len(maps) // 2], maps[len(maps) // 2 :]
        network = cumprop.MLP(weights, biases, activation, mean, root @ root.T)
        estimate = cumprop.estimate(
            network, "cumulant", order=order, algorithm=algorithm, cov=order > 1
        )
        return tuple(outputs(estimate))

    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", ["number", "diagonal", "matrix that starts as a diagonal"])
def test_gradients_by_the_smaller_forms_of_a_covariance(form):
    weights, biases, mean, _ = parameters_of((3, 4, 2))
    start = {"number": 0.5, "diagonal": [0.5, 1.0, 2.0]}.get(form, np.diag([0.5, 1.0, 2.0]))
    given = torch.tensor(start, dtype=torch.float64, requires_grad=True)

    def function(cov):
        cov = cov if cov.ndim < 2 else (cov + cov.T) / 2
        network = cumprop.MLP(tensors, biases, "tanh", mean, cov).prefix(1)
        return cumprop.estimate(network, "cumulant", order=2, cov=True).mean

    tensors = [torch.tensor(w) for w in weights]
    with torch.no_grad():
        function(given)  # nothing of it is kept for later
    assert torch.autograd.gradcheck(function, [given], eps=1e-6, atol=1e-8)
    function(given).sum().backward()
    assert (given.grad != 0).all()


def test_a_network_of_tensors_in_one_line(tmp_path):
    network = cumprop.MLP([torch.ones(1, 2)], input_mean=torch.ones(2), input_cov=torch.tensor(0.5))
    assert repr(network) == "MLP(2 → 1, linear, 2 weights, x ~ N(1, 0.5 I), tensors)"
    network.save(tmp_path / "a.npz")
    assert cumprop.load(tmp_path / "a.npz").input_variance == 0.5


def test_gradients_of_trees_are_finite_differences():
    weights, biases, *_ = parameters_of((2, 3, 3, 3, 2))
    inputs = [torch.tensor(a, requires_grad=True) for a in (*weights, *biases)]

    def function(*tensors):
        maps = len(tensors) // 2
        network = cumprop.MLP(tensors[:maps], tensors[maps:], "tanh")
        return cumprop.estimate(network, "cumulant", order=3, kind="tree").mean

    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-6)


def test_gradients_of_float32_weights_arrive():
    network = cumprop.random_mlp(width=8, depth=2, seed=0)
    weights = [torch.tensor(np.array(w), requires_grad=True) for w in network.weights]
    cumprop.estimate(cumprop.MLP(weights), "cumulant", order=3).mean.sum().backward()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in weights)


def test_a_training_step_lowers_the_loss():
    """The expected output is pulled to zero by gradient descent."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(8, 8, dtype=torch.float64) for _ in range(3)]
    parameters = [p for layer in layers for p in layer.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=0.05)

    def loss():
        network = cumprop.MLP([a.weight for a in layers], [a.bias for a in layers], "gelu")
        return cumprop.estimate(network, "cumulant", order=3).mean.square().sum()

    before = loss()
    before.backward()
    optimiser.step()
    assert loss() < before


def test_the_network_keeps_the_tensors_themselves():
    weights = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(1, 3))]
    network = cumprop.MLP(weights, [None, np.array([2.0])], input_mean=1.0)
    assert all(a is b for a, b in zip(network.weights, weights, strict=True))
    assert network.biases[1].dtype == torch.float32  # beside tensors all become tensors
    assert network.dtype == np.float32
    assert network.prefix(0).weights[0] is weights[0]


def test_forward_is_that_of_numpy(tmp_path):
    arrays, tensors = networks("gelu")
    x = np.random.default_rng(0).normal(size=(7, WIDTHS[0]))
    found = tensors.forward(torch.tensor(x))
    assert isinstance(found, torch.Tensor)
    assert np.allclose(found.numpy(), arrays.forward(x), rtol=1e-12)
    tensors.save(tmp_path / "network.npz")
    loaded = cumprop.load(tmp_path / "network.npz")
    assert np.array_equal(loaded.weights[0], arrays.weights[0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([torch.ones(3, 2), torch.ones(1, 4)], "W1 has shape .* but W0 gives 3"),
        ([torch.full((3, 2), torch.nan)], "W0 contains NaN"),
        ([torch.ones(3, 2, dtype=torch.bfloat16)], "bfloat16 has no NumPy counterpart"),
        ([torch.ones(3, 2, dtype=torch.complex64)], "complex64 entries; give real numbers"),
        ([torch.ones(3)], "give a matrix"),
    ],
)
def test_tensors_are_validated_like_arrays(weights, message):
    with pytest.raises(CumpropError, match=message):
        cumprop.MLP(weights)


def test_input_covariances_are_validated():
    with pytest.raises(CumpropError, match="negative eigenvalue -1"):
        cumprop.MLP([torch.ones(1, 2)], input_cov=torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize("name", ["monte_carlo", "gaussian"])
def test_estimators_that_need_numpy_say_so(name):
    with pytest.raises(CumpropError, match=f"{name} takes NumPy weights"):
        cumprop.estimate(networks("relu")[1], name)


def test_custom_activations_work_and_what_is_missing_is_named():
    bump = Custom(lambda z: np.where(z > 0, z, 0) * np.exp(-z * z), breakpoints=[0.0])
    wanted, found = (cumprop.estimate(n, "cumulant", order=3) for n in networks(bump))
    assert np.allclose(found.mean.numpy(), wanted.mean, rtol=1e-12, atol=1e-12)
    for function, name in [(np.cbrt, "cbrt"), (np.sort, "sort"), (np.asarray, "plain")]:
        with pytest.raises(CumpropError, match=name):
            function(counted(torch.ones(3)))


def test_writes_and_views_are_those_of_numpy():
    """Aliases see a write; a tensor that autograd recorded is never written to."""
    start = np.arange(12.0).reshape(3, 4)
    given = torch.tensor(start, requires_grad=True)

    def program(a):
        squares = a * a  # its gradient needs `a`, which is overwritten below
        a = a * 1.0
        column, flat, turned = a[:, 1], a.reshape(-1), a.T
        column[...] = 7.0
        flat += 1.0
        turned[0] *= 3.0
        first = a[0, 0]
        np.multiply(a, 2.0, out=a)
        a[np.array([0, 2]), np.array([3, 0])] = 0.0
        return np.hstack([a, squares, column[:, None]]) * first

    wanted, found = program(start), plain(program(counted(given)))
    assert np.array_equal(found.detach().numpy(), wanted)
    assert np.array_equal(given.detach().numpy(), start)
    assert torch.autograd.gradcheck(lambda t: plain(program(counted(t))), given)
    with torch.no_grad():
        assert np.array_equal(plain(program(counted(given))).numpy(), wanted)


def test_types_promote_and_flops_count_as_in_numpy(full_products):
    a = np.arange(1.0, 7.0, dtype=np.float32).reshape(2, 3)
    double = np.ones(3)
    programs = [
        lambda x: x + 1.5,
        lambda x: double * x,
        lambda x: x * np.float64(2),
        lambda x: x @ x.T,
        lambda x: x @ counted(double),
        lambda x: counted(np.ones((2, 2))) @ x,
        lambda x: ndtr(x).sum(axis=1),
        lambda x: (x > 2).sum(),
        lambda x: np.max(np.maximum(x, 2.0), initial=9.0),
        lambda x: np.vecdot(x, double),
        lambda x: (2 - x[0, 0] * x[1, 1]) * x[:, 1],
    ]
    for program in programs:
        with counting() as wanted_flops:
            wanted = plain(program(counted(a)))
        with counting() as found_flops:
            found = plain(program(counted(torch.tensor(a))))
        assert found.numpy().dtype == wanted.dtype
        assert np.allclose(found.numpy(), wanted)
        assert found_flops == wanted_flops


def test_torch_is_imported_only_when_used():
    code = "import sys, cumprop; cumprop.estimate(cumprop.MLP([[[1.0]]])); print(*sys.modules)"
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, check=True, text=True)
    assert "torch" not in printed.stdout.split()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "parameters", [{"order": 2}, TREE, TREE | {"edges": "full"}, {"order": 4}], ids=str
)
def test_small_inputs_and_dead_neurons_have_gradients(activation, parameters):
    """σ → 0 and rows of zeros: NumPy's numbers, and no gradient that is not finite."""
    weights, biases, mean, _ = parameters_of()
    weights[0][2], weights[1][3] = 0, 0
    sigma = 1e-8
    one = cumprop.MLP(weights, biases, activation, mean, sigma**2)
    tensors = [torch.tensor(a, requires_grad=True) for a in (*weights, *biases)]
    n = len(weights)
    other = cumprop.MLP(tensors[:n], tensors[n:], activation, torch.tensor(mean), sigma**2)
    wanted, found = (
        cumprop.estimate(net, "cumulant", cov=True, **parameters) for net in (one, other)
    )
    for a, b in zip(outputs(wanted), outputs(found), strict=True):
        assert np.abs(a - b.detach().numpy()).max() <= 1e-12 * np.abs(a).max()
    (found.mean.sum() + found.cov.sum() / sigma**2).backward()
    assert all(bool(tensor.grad.isfinite().all()) for tensor in tensors)
