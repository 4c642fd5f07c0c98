"""MLP: the forward pass, what is refused, and the npz format."""

import io
import zipfile

import numpy as np
import pytest

from cumprop.activations import Custom, get
from cumprop.errors import CumpropError
from cumprop.estimator import Shape
from cumprop.flops import counted, counting
from cumprop.networks import MLP

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
    assert "2 biases for 3" in refusal(W, B[:2])
    assert "b0 has shape (2,); give (5,)" in refusal(W, [B[2], None, None])
    single = [w.astype(np.float32) for w in W]
    assert "too large for float32" in refusal(single, [np.full(5, 1e300), None, None])
    assert "b0 contains NaN" in refusal(W, [B[0] * np.nan, None, None])
    assert "3 activations for 2" in refusal(W, activations=["relu"] * 3)
    assert "unknown activation 'swish'" in refusal(W, activations="swish")
    assert "input_mean has shape (2,)" in refusal(W, input_mean=[1, 2])
    assert "input_cov has shape (2, 2)" in refusal(W, input_cov=np.eye(2))
    assert "not symmetric" in refusal(W, input_cov=np.arange(9.0).reshape(3, 3))
    assert "negative eigenvalue -1" in refusal(W, input_cov=np.diag([1, 1, -1.0]))
    assert "init_scale must be 3" in refusal(W, init_scale=[1, 2])
    assert "init_scale must be 3" in refusal(W, init_scale=[1, -2, 1])
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
    again = MLP.load(tmp_path / "network.npz")
    assert again.shape == network.shape and again.init_scale == network.init_scale
    np.testing.assert_array_equal(again.forward(X), network.forward(X))
    np.testing.assert_array_equal(again.input_mean, network.input_mean)
    np.testing.assert_array_equal(again.input_cov, network.input_cov)
    assert [b is None for b in again.biases] == [False, True, False]


def test_load_plain_files(tmp_path):
    path = tmp_path / "network.npz"
    np.savez(path, W0=W[0], W1=W[1], W2=W[2])
    assert MLP.load(path).activations == (get("relu"),) * 2
    np.savez(path, W0=W[0], W1=W[1], W2=W[2], b1=np.ones(4), activations="tanh", note=1)
    network = MLP.load(str(path))
    assert network.activations == (get("tanh"),) * 2 and network.biases[1].tolist() == [1.0] * 4
    MLP(W[:1]).save(path)
    assert MLP.load(path).depth == 0


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
        ({"W0": W[0], "W1": W[1], "activations": "swish"}, "unknown activation"),
        ({"W0": np.array(["a"])}, "entries; give real numbers"),
        ({"W0": np.array([None])}, "not an npz file of plain arrays"),
        ({"W0": W[0], "init_scale": np.ones(2)}, "init_scale must be 1"),
    ],
)
def test_files_that_hold_no_network(tmp_path, arrays, message):
    path = tmp_path / "network.npz"
    np.savez(path, **arrays)
    with pytest.raises(CumpropError) as caught:
        MLP.load(path)
    assert message in str(caught.value) and str(caught.value).startswith(str(path))


def test_unreadable_files(tmp_path):
    with pytest.raises(CumpropError, match="No such file"):
        MLP.load(tmp_path / "missing.npz")
    with pytest.raises(CumpropError, match="directory"):
        MLP.load(tmp_path)
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
            MLP.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("W0.npy", b"no array")
    with pytest.raises(CumpropError):
        MLP.load(path)
