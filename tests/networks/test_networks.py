"""MLP: the forward pass, what is refused, and the npz format."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

import cumprop
from cumprop import estimate
from cumprop.activations import Custom, get
from cumprop.contract import build
from cumprop.errors import CumpropError
from cumprop.estimators.adaptive.error_laws import effective_inputs
from cumprop.flops import counted, counting
from cumprop.networks import MLP, Shape
from cumprop.sampling import standardised
from cumprop.sampling.designs import DESIGNS

RNG = np.random.default_rng(0)
W = [RNG.normal(size=shape) for shape in [(5, 3), (4, 5), (2, 4)]]
B = [RNG.normal(size=5), None, RNG.normal(size=2)]
X = RNG.normal(size=(7, 3))


def refusal(*args, **kwargs):
    """The one-line message with which MLP refuses its arguments."""
    with pytest.raises(CumpropError) as caught:
        MLP(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_forward_is_the_written_out_network():
    network = MLP(W, B, ["tanh", "square"])
    x1 = np.tanh(X @ W[0].T + B[0])
    x2 = (x1 @ W[1].T) ** 2
    y = x2 @ W[2].T + B[2]
    np.testing.assert_allclose(network.forward(X), y, rtol=1e-13)
    layers = list(network.layers(X))
    np.testing.assert_allclose(layers[0][1], x1, rtol=1e-13)
    np.testing.assert_allclose(layers[1][0], x1 @ W[1].T, rtol=1e-13)
    np.testing.assert_allclose(layers[1][1], x2, rtol=1e-13)
    np.testing.assert_allclose(layers[2][0], y, rtol=1e-13)
    assert layers[2][1] is None and len(layers) == 3


def test_shape_and_properties():
    network = MLP(W, B, ["relu", "leaky_relu(0.2)"], input_cov=2.0)
    assert (network.depth, network.widths) == (2, (3, 5, 4, 2))
    assert network.shape == Shape((3, 5, 4, 2), ("relu", "leaky_relu(0.2)"), True, True, "float64")
    assert MLP(W).shape == Shape((3, 5, 4, 2), ("relu", "relu"), False, False, "float64")
    assert MLP(W[:1]).depth == 0 and MLP(W[:1]).forward(X).shape == (7, 5)


def test_homogeneous():
    assert MLP(W).homogeneous and MLP(W, activations="abs").homogeneous
    assert MLP(W, [np.zeros(5), None, None]).homogeneous
    assert not MLP(W, B).homogeneous
    assert not MLP(W, activations=["relu", "heaviside"]).homogeneous


def test_prefix_reads_the_next_map():
    network = MLP(W, B, ["tanh", "relu"], input_mean=1.0, init_scale=[1, 2, 3])
    prefix = network.prefix(1)
    np.testing.assert_array_equal(prefix.forward(X), list(network.layers(X))[1][0])
    assert prefix.init_scale == (1.0, 2.0) and prefix.input_mean.tolist() == [1.0] * 3
    with pytest.raises(CumpropError, match="2 hidden layers"):
        network.prefix(3)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (("f4", "f4", "f4"), "float32"),
        (("f4", "f8", "f4"), "float64"),
        (("f2", "f2", "f2"), "float32"),
        (("i8", "i8", "i8"), "float64"),
        (("f4", "i4", "f4"), "float64"),
    ],
)
def test_all_arrays_share_the_widest_type(given, kept):
    network = MLP(
        [w.astype(t) for w, t in zip(W, given, strict=True)], B, input_mean=1, input_cov=1
    )
    arrays = [*network.weights, network.biases[0], network.input_mean, network.input_cov]
    assert {array.dtype.name for array in arrays} == {network.dtype.name} == {kept}
    assert network.forward(X).dtype == kept


def test_arrays_are_read_only_copies():
    mine = [w.copy() for w in W]
    network = MLP(mine)
    mine[0][:] = 0
    np.testing.assert_array_equal(network.weights[0], W[0])
    with pytest.raises(ValueError, match="read-only"):
        network.weights[0][0, 0] = 1


def test_gaussian_input():
    cov = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])  # rank-deficient
    np.testing.assert_array_equal(MLP(W, input_cov=cov).input_cov, cov)
    np.testing.assert_array_equal(MLP(W, input_cov=3).input_cov, 3 * np.eye(3))
    np.testing.assert_array_equal(MLP(W, input_cov=[1, 2, 3]).input_cov, np.diag([1, 2, 3]))
    rank_one = np.outer(X[0], X[0]).astype(np.float32)
    assert MLP(W, input_cov=rank_one).input_cov.shape == (3, 3)


@pytest.mark.parametrize(
    ("given", "variance"),
    [
        (3, 3.0),
        ([3, 3, 3], 3.0),
        (3 * np.eye(3), 3.0),
        ([1, 0, 3], [1.0, 0, 3]),
        (np.diag([1, 2, 3]), [1.0, 2, 3]),
        (np.zeros((3, 3)), 0.0),
        (np.eye(3) + 1e-3, None),
        (None, None),
    ],
)
def test_covariances_are_kept_in_their_smallest_form(given, variance):
    network = MLP(W, input_cov=given)
    found = network.input_variance
    assert (None if found is None else found.tolist()) == variance
    if given is None:
        assert network.input_cov is None
    else:
        matrix = np.diag(np.full(3, given)) if np.ndim(given) == 0 else given
        matrix = np.diag(matrix) if np.ndim(matrix) == 1 else matrix
        np.testing.assert_array_equal(network.input_cov, matrix)
        with pytest.raises(ValueError, match="read-only"):
            network.input_cov[0, 0] = 1


def test_diagonal_covariances_take_no_matrix(tmp_path):
    """A matrix of these 3,000 inputs has 72 MB; half of that is allowed, imports included."""
    n = 3000
    w = RNG.normal(size=(4, n)) / n
    MLP([w]).save(tmp_path / "plain.npz")
    for cov in (0.09, np.linspace(0, 1, n)):
        tracemalloc.start()
        network = MLP([w], input_mean=0.5, input_cov=cov)
        network.save(tmp_path / "a.npz")
        again = cumprop.load(tmp_path / "a.npz").replace(input_mean=0.0)
        np.testing.assert_array_equal(again.input_variance, cov)
        standardised(network)
        estimate(network, "monte_carlo", n_samples=2)
        estimate(network, "adaptive", tolerance=0.5)
        assert repr(network).endswith("0.09 I))" if np.ndim(cov) == 0 else "diag))")
        assert tracemalloc.get_traced_memory()[1] < 36e6
        tracemalloc.stop()
        more = (tmp_path / "a.npz").stat().st_size - (tmp_path / "plain.npz").stat().st_size
        assert more < 8 * n * (1 + np.ndim(cov)) + 1000


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [2.0**-80, 2.0**80])
@pytest.mark.parametrize("form", ["number", "diagonal", "full", "singular"])
def test_covariances_of_any_size(form, scale, dtype):
    """What is checked and dropped is relative: all is that of scale 1, in other units (8e±25).

    Powers of two, lest rounding make a singular matrix a regular one at one scale only.
    """
    root = RNG.normal(size=(3, 2))
    full = root @ root.T + np.diag([0.1, 0.2, 0.3])
    cov = {"number": 2.0, "diagonal": np.diag([1.0, 0, 2]), "singular": root @ root.T}
    weights = [w.astype(dtype) for w in W]
    one, other = (MLP(weights, input_cov=c * cov.get(form, full)) for c in (1.0, scale))
    rounding = 200 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(other.input_cov, scale * one.input_cov, rtol=rounding)
    assert standardised(other)[0].widths == standardised(one)[0].widths
    wanted = effective_inputs(one.shape, one.input_cov)
    assert effective_inputs(other.shape, other.input_cov) == pytest.approx(wanted, rel=rounding)
    if one.input_variance is not None:
        found = effective_inputs(one.shape, one.input_variance)
        assert found == pytest.approx(wanted, rel=rounding)
    for name in ("monte_carlo", "adaptive"):
        a, b = (
            build(name).estimate(network, rng=np.random.default_rng(1)) for network in (one, other)
        )
        np.testing.assert_allclose(b.mean, a.mean * np.sqrt(scale), rtol=rounding)
    with pytest.raises(CumpropError, match="negative eigenvalue"):
        MLP(weights, input_cov=scale * np.diag([1.0, -1e-3, 1]))


def test_no_covariance_vanishes_unseen():
    single = [w.astype(np.float32) for w in W]
    assert "input_cov is too small for float32" in refusal(single, input_cov=1e-40)
    assert "numbers too large for float32" in refusal(single, input_cov=1e40)
    assert MLP(single, input_cov=0.0).input_variance == 0
    assert MLP(single, input_cov=[1.0, 1e-40, 0]).input_variance[0] == 1


BACKENDS = [
    ("cumulant", {"order": 2, "cov": True}),
    ("cumulant", {"order": 3}),
    ("gaussian", {"cov": True}),
    ("conditional", {"cov": True}),
    ("linearized", {"cov": True}),
    ("unscented", {"cov": True}),
    ("adaptive", {"tolerance": 1e-3}),
    ("blend", {"order": 2, "n_samples": 64}),
    *(("monte_carlo", {"n_samples": 200, "design": design}) for design in DESIGNS),
]


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "given"), BACKENDS, ids=str)
@pytest.mark.parametrize("cov", [0.5, [0.5, 0.7, 0.9]], ids=str)
def test_diagonal_and_full_matrices_agree(name, given, cov):
    """An entry of 1e-200 beside the diagonal makes a matrix that is treated as a full one."""
    full = np.diag(np.broadcast_to(cov, (3,))).copy()
    full[0, 1] = full[1, 0] = 1e-200
    one, other = (MLP(W, B, "tanh", [0.1, 0.2, 0.3], c) for c in (cov, full))
    assert one.input_variance is not None and other.input_variance is None
    a, b = (estimate(network, name, **given) for network in (one, other))
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-10)
    if a.cov is not None:
        np.testing.assert_allclose(a.cov, b.cov, rtol=1e-9, atol=1e-13)
    assert a.status == b.status and a.flops.total <= b.flops.total


def test_replace_keeps_all_that_is_not_named(monkeypatch):
    full = np.eye(3) + 0.1
    network = MLP(W, B, ["tanh", "square"], [1, 2, 3], full, [1, 2, 3])
    monkeypatch.setattr(np.linalg, "eigvalsh", None)  # what stays is not checked again
    assert vars(network.replace()).keys() == vars(network).keys()
    halved = network.replace(weights=[w / 2 for w in W])
    np.testing.assert_array_equal(halved.weights[1], W[1] / 2)
    assert halved.biases[1] is None and halved.init_scale == (1, 2, 3)
    assert halved.activations == network.activations
    for a, b in [
        (halved.biases[0], B[0]), (halved.input_mean, [1, 2, 3]), (halved.input_cov, full)
    ]:  # fmt: skip
        np.testing.assert_array_equal(a, b)
    bare = network.replace(biases=None, input_cov=None, input_mean=None, init_scale=None)
    assert bare.biases == (None,) * 3 and not bare.shape.gaussian_input
    assert bare.init_scale is None and bare.activations == network.activations
    for changes, message in [
        ({"weights": W[:2]}, "3 biases for 2"),
        ({"weights": [np.ones((5, 4)), *W[1:]], "input_mean": None}, r"input_cov has shape"),
        ({"input_cov": [1, 1, -1]}, "negative eigenvalue"),
    ]:
        with pytest.raises(CumpropError, match=message):
            network.replace(**changes)


def test_repr():
    def shown(*args, **kwargs):
        return repr(MLP(*args, **kwargs))

    square = [np.zeros((256, 256), np.float32)] * 5
    zeros = [np.zeros(256)] * 5
    assert shown(square) == "MLP(256 → 256 ×4 → 256, relu, 328k weights, x ~ N(0, I))"
    assert shown(square, zeros, "gelu", 0.13, 0.09) == (
        "MLP(256 → 256 ×4 → 256, gelu, 329k weights and biases, x ~ N(0.13, 0.09 I))"
    )
    assert shown(W, B, ["tanh", "leaky_relu(0.2)"], [1, 2, 3], [1, 2, 3]) == (
        "MLP(3 → 5 → 4 → 2, tanh → leaky_relu(0.2), 50 weights and biases, x ~ N(mean, diag))"
    )
    assert shown(W[:1], input_cov=np.eye(3) + 1) == "MLP(3 → 5, linear, 15 weights, x ~ N(0, full))"
    assert shown(W[:1], input_cov=0) == "MLP(3 → 5, linear, 15 weights, x ~ N(0, 0))"
    mixed = MLP([np.eye(2)] * 5, activations=["relu", "relu", "abs", "relu"])
    assert "2 → 2 ×4 → 2, relu ×2 → abs → relu, 20 weights" in repr(mixed)
    many = [np.zeros((i + 2, i + 1)) for i in range(50)]
    assert repr(MLP(many)).startswith("MLP(1 → 2 → 3 → 4 → … → 49 → 50 → 51, relu, 44.2k weights,")


def test_above_has_one_more_layer_of_steps():
    network = MLP(W, B, ["tanh", "square"], input_mean=1.0, init_scale=[1, 2, 3])
    tail = network.above([0.5, -0.5])
    np.testing.assert_array_equal(tail.forward(X), network.forward(X) > [0.5, -0.5])
    assert tail.input_mean.tolist() == [1.0] * 3 and tail.init_scale == (1, 2, 3, 1)
    np.testing.assert_array_equal(MLP(W).above(0).forward(X), MLP(W).forward(X) > 0)
    with pytest.raises(CumpropError, match="threshold contains NaN"):
        network.above(np.nan)


def test_forward_is_counted():
    with counting() as flops:
        MLP(W, B).forward(counted(X))
    linear = 2 * 7 * (3 * 5 + 5 * 4 + 4 * 2)
    assert flops.total == linear + 7 * (5 + 2) + 7 * (5 + 4)  # maps, biases, ReLUs


def test_what_is_refused():
    assert "at least one matrix" in refusal([])
    assert "W1" in refusal([W[0], W[1].T]) and "transpose" in refusal([W[0], W[1].T])
    assert "W0 has shape (3,)" in refusal([X[0]])
    assert "W0 has shape (0, 3)" in refusal([np.zeros((0, 3))])
    assert "W1 contains NaN" in refusal([W[0], W[1] * np.nan])
    assert "NaN or infinite" in refusal([np.full((5, 3), np.inf)])
    assert "complex128" in refusal([W[0] * 1j])
    assert "ragged" in refusal([[[1.0, 2.0], [3.0]]])
    assert "weights is int; give a list of matrices" in refusal(3)
    assert "biases is float; give a list of vectors" in refusal(W, 0.5)
    assert "activations is NoneType; give a name, or a list" in refusal(W, activations=None)
    assert "2 biases for 3" in refusal(W, B[:2])
    assert "b0 has shape (2,); give (5,)" in refusal(W, [B[2], None, None])
    single = [w.astype(np.float32) for w in W]
    assert "too large for float32" in refusal(single, [np.full(5, 1e300), None, None])
    assert "b0 contains NaN" in refusal(W, [B[0] * np.nan, None, None])
    assert "3 activations for 2" in refusal(W, activations=["relu"] * 3)
    assert "unknown activation 'wave'" in refusal(W, activations="wave")
    assert "input_mean has shape (2,)" in refusal(W, input_mean=[1, 2])
    assert "input_cov has shape (2, 2)" in refusal(W, input_cov=np.eye(2))
    assert "not symmetric" in refusal(W, input_cov=np.arange(9.0).reshape(3, 3))
    assert "negative eigenvalue -1" in refusal(W, input_cov=np.diag([1, 1, -1.0]))
    assert "init_scale must be 3" in refusal(W, init_scale=[1, 2])
    assert "init_scale must be 3" in refusal(W, init_scale=[1, -2, 1])
    with pytest.raises(CumpropError, match="depth must be a whole number"):
        MLP(W).prefix("1")
    with pytest.raises(CumpropError, match=r"inputs have shape \(3, 7\)"):
        MLP(W).forward(X.T)


# --- npz ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_save_and_load(tmp_path, dtype):
    network = MLP(
        [w.astype(dtype) for w in W],
        B,
        ["leaky_relu(0.3)", "gelu"],
        input_mean=[1, 2, 3],
        input_cov=2,
        init_scale=[1, 2, 2],
    )
    network.save(tmp_path / "network.npz")
    again = cumprop.load(tmp_path / "network.npz")
    assert again.shape == network.shape and again.init_scale == network.init_scale
    np.testing.assert_array_equal(again.forward(X), network.forward(X))
    np.testing.assert_array_equal(again.input_mean, network.input_mean)
    np.testing.assert_array_equal(again.input_cov, network.input_cov)
    assert [b is None for b in again.biases] == [False, True, False]


def test_files_with_a_matrix_for_every_covariance_are_read(tmp_path):
    path = tmp_path / "network.npz"
    for cov, variance in [(2 * np.eye(3), 2.0), (np.diag([1.0, 2, 3]), [1.0, 2, 3])]:
        np.savez(path, W0=W[0], input_cov=cov)
        assert cumprop.load(path).input_variance.tolist() == variance
    np.savez(path, W0=W[0], input_cov=np.eye(3) + 1)
    np.testing.assert_array_equal(cumprop.load(path).input_cov, np.eye(3) + 1)


def test_load_plain_files(tmp_path):
    path = tmp_path / "network.npz"
    np.savez(path, W0=W[0], W1=W[1], W2=W[2])
    assert cumprop.load(path).activations == (get("relu"),) * 2
    np.savez(path, W0=W[0], W1=W[1], W2=W[2], b1=np.ones(4), activations="tanh", note=1)
    network = cumprop.load(str(path))
    assert network.activations == (get("tanh"),) * 2 and network.biases[1].tolist() == [1.0] * 4
    MLP(W[:1]).save(path)
    assert cumprop.load(path).depth == 0


def test_custom_activations_are_not_saved(tmp_path):
    with pytest.raises(CumpropError, match="cannot be saved"):
        MLP(W, activations=Custom(np.sin)).save(tmp_path / "network.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "W0, W1"),
        ({"V": W[0]}, "found V"),
        ({"W1": W[0]}, "found W1"),
        ({"W0": W[0], "W2": W[1]}, "found W2"),
        ({"W0": W[0], "b1": B[0]}, "found b1"),
        ({"W0": W[0], "W1": W[1].T}, "W1 has shape"),
        ({"W0": W[0], "W1": W[1], "activations": np.array([1])}, "must be names"),
        ({"W0": W[0], "W1": W[1], "activations": np.array(["relu", "relu"])}, "2 activations"),
        ({"W0": W[0], "W1": W[1], "activations": "wave"}, "unknown activation"),
        ({"W0": np.array(["a"])}, "entries; give real numbers"),
        ({"W0": np.array([None])}, "not an npz file of plain arrays"),
        ({"W0": W[0], "init_scale": np.ones(2)}, "init_scale must be 1"),
    ],
)
def test_files_that_hold_no_network(tmp_path, arrays, message):
    path = tmp_path / "network.npz"
    np.savez(path, **arrays)
    with pytest.raises(CumpropError) as caught:
        cumprop.load(path)
    assert message in str(caught.value) and str(caught.value).startswith(str(path))


def test_unreadable_files(tmp_path):
    with pytest.raises(CumpropError, match="No such file"):
        cumprop.load(tmp_path / "missing.npz")
    with pytest.raises(CumpropError, match="directory"):
        cumprop.load(tmp_path)
    path = tmp_path / "network.npz"
    buffer = io.BytesIO()
    np.savez(buffer, W0=W[0], W1=W[1], W2=W[2])
    whole = buffer.getvalue()
    npy = io.BytesIO()
    np.save(npy, W[0])
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 0xFF
    for content in (b"", b"hello", whole[:100], whole[:-30], bytes(damaged), npy.getvalue()):
        path.write_bytes(content)
        with pytest.raises(CumpropError, match=r"network\.npz: damaged, or not an npz file"):
            cumprop.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("W0.npy", b"no array")
    with pytest.raises(CumpropError):
        cumprop.load(path)
