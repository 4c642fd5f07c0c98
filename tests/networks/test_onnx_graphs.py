"""Whole ONNX graphs of the kinds that people have, against ONNX Runtime."""

import time

import numpy as np
import pytest
from helpers.onnx_graphs import difference, loaded, model
from helpers.onnx_random import random_graph

FOUR = np.array([0.5, 1.5, 0.7, 2.0], dtype=np.float32)


def ints(*values):
    return np.array(values)


def floats(*values):
    return np.array(values, dtype=np.float32)


RESIDUAL = (
    "h0 = Gemm(x, W0, b0) "
    "r1 = Relu(h0) a1 = Gemm(r1, W1, b1) h1 = Add(h0, a1) "
    "r2 = Relu(h1) a2 = Gemm(r2, W2, b2) h2 = Add(a2, h1) "
    "r3 = Relu(h2) a3 = Gemm(r3, W3, b3) h3 = Add(h2, a3) y = Gemm(h3, W4)"
)

GRAPHS = {
    "residual block": (
        "z = Gemm(x, W, b) h = Relu(z) a = Gemm(h, V, c) s = Add(a, x) r = Relu(s) "
        "y = Gemm(r, U)",
        {"x": ("N", 6), "W": (6, 8), "b": (8,), "V": (8, 6), "c": (6,), "U": (6, 3)},
    ),
    "residual stream": (
        RESIDUAL,
        {"x": ("N", 6), "W0": (6, 8), "b0": (8,), "W4": (8, 2)}
        | {f"W{i}": (8, 8) for i in (1, 2, 3)} | {f"b{i}": (8,) for i in (1, 2, 3)},
    ),
    "LeNet": (
        "a = Conv<pads=[2,2,2,2]>(x, K1, k1) r = Relu(a) "
        "p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r) b = Conv(p, K2, k2) s = Tanh(b) "
        "q = AveragePool<kernel_shape=[2,2], strides=[2,2]>(s) f = Flatten(q) "
        "z = Gemm<transB=1>(f, W1, w1) t = Relu(z) l = Gemm<transB=1>(t, W2, w2) y = Softmax(l)",
        {"x": ("N", 1, 12, 12), "K1": (3, 1, 5, 5), "k1": (3,), "K2": (4, 3, 3, 3), "k2": (4,),
         "W1": (10, 16), "w1": (10,), "W2": (5, 10), "w2": (5,)},
    ),
    "normalised controller": (
        "s = Sub(x, m) d = Div(s, w) f = Flatten(d) z = MatMul(f, W) a = Add(z, b) r = Relu(a) "
        "u = MatMul(r, V) v = Add(u, c) k = Mul(v, g) y = Add(k, e)",
        {"x": (1, 1, 1, 5), "m": (5,), "w": floats(1.5, 2, 60, 0.3, 4), "W": (5, 9), "b": (9,),
         "V": (9, 5), "c": (5,), "g": floats(373.9), "e": floats(7.5)},
    ),
    "two-level lattice": (
        "z = Gemm(x, W, b) c = Reshape(z, s) m = ReduceMin<keepdims=0>(c, two) "
        "y = ReduceMax(m, one)",
        {"x": ("N", 3), "W": (3, 12), "b": (12,), "s": ints(-1, 4, 3), "two": ints(2),
         "one": ints(1)},
    ),
    "lattice of selections": (
        "z = Gemm(x, W, b) a = MatMul(z, A) c = MatMul(z, B) m = Max(a, c) d = MatMul(z, C) "
        "n = Min(m, d) k = Max(n, z) y = MatMul(k, V)",
        {"x": ("N", 3), "W": (3, 6), "b": (6,), "V": (6, 2),
         **{name: np.eye(6, dtype=np.float32)[list(order)] for name, order in
            (("A", (5, 4, 3, 2, 1, 0)), ("B", (1, 2, 0, 4, 5, 3)), ("C", (0, 0, 1, 1, 2, 2)))}},
    ),
    "one input of rank 4": (
        "f = Flatten(x) z = Gemm(f, W, b) r = Relu(z) y = Gemm(r, V)",
        {"x": (1, 1, 1, 1), "W": (1, 7), "b": (7,), "V": (7, 2)},
    ),
    "two inputs": (
        "a = Gemm(x0, W, b) r = Relu(a) f = Flatten(x1) c = Concat<axis=1>(r, f) z = Gemm(c, V) "
        "t = Tanh(z) y = Gemm(t, U)",
        {"x0": ("N", 3), "x1": ("N", 2, 2), "W": (3, 5), "b": (5,), "V": (9, 6), "U": (6, 2)},
    ),
    "U-shaped autoencoder": (
        "a = Conv<pads=[1,1,1,1]>(x, K1, k1) r = Relu(a) "
        "b = Conv<strides=[2,2], pads=[1,1,1,1]>(r, K2, k2) s = Relu(b) "
        "u = ConvTranspose<strides=[2,2]>(s, K3, k3) t = Relu(u) c = Concat<axis=1>(t, r) "
        "y = Conv<pads=[1,1,1,1]>(c, K4, k4)",
        {"x": (1, 1, 6, 6), "K1": (2, 1, 3, 3), "k1": (2,), "K2": (4, 2, 3, 3), "k2": (4,),
         "K3": (4, 2, 2, 2), "k3": (2,), "K4": (1, 4, 3, 3), "k4": (1,)},
    ),
    "DenseNet": (
        "a = Conv<pads=[1,1,1,1]>(x, K1) n = BatchNormalization(a, s, o, m, v) r = Relu(n) "
        "c = Concat<axis=1>(x, r) b = Conv<pads=[1,1,1,1]>(c, K2) t = Relu(b) "
        "d = Concat<axis=1>(c, t) e = Conv(d, K3) u = Relu(e) g = GlobalAveragePool(u) "
        "f = Flatten(g) y = Gemm(f, W, w)",
        {"x": ("N", 2, 4, 4), "K1": (4, 2, 3, 3), "s": (4,), "o": (4,), "m": (4,), "v": FOUR,
         "K2": (4, 6, 3, 3), "K3": (5, 10, 1, 1), "W": (5, 3), "w": (3,)},
    ),
    "MobileNet": (
        "a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, K1, k1) r = HardSwish(a) "
        "b = Conv<group=4, pads=[1,1,1,1]>(r, K2) n = BatchNormalization(b, s, o, m, v) "
        "l = Constant<value_float=0.0>() h = Constant<value_float=6.0>() c = Clip(n, l, h) "
        "d = Conv(c, K3, k3) e = HardSwish(d) g = GlobalAveragePool(e) f = Flatten(g) "
        "y = Gemm(f, W, w)",
        {"x": ("N", 3, 8, 8), "K1": (4, 3, 3, 3), "k1": (4,), "K2": (4, 1, 3, 3), "s": (4,),
         "o": (4,), "m": (4,), "v": FOUR, "K3": (6, 4, 1, 1), "k3": (6,), "W": (6, 3), "w": (3,)},
    ),
    "Keras, channels last": (
        "t = Transpose<perm=[0,3,1,2]>(x) a = Conv(t, K1, k1) r = Relu(a) "
        "p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r) u = Transpose<perm=[0,2,3,1]>(p) "
        "q = Reshape(u, s) z = MatMul(q, W) b = Add(z, w) e = Elu(b) l = MatMul(e, V) "
        "y = Softmax(l)",
        {"x": ("N", 7, 7, 2), "K1": (3, 2, 2, 2), "k1": (3,), "s": ints(-1, 27), "W": (27, 5),
         "w": (5,), "V": (5, 3)},
    ),
    "columns": (
        "z = MatMul(W, x) a = Add(z, b) r = Relu(a) u = MatMul(V, r) y = Add(u, c)",
        {"x": (5, 1), "W": (8, 5), "b": (8, 1), "V": (3, 8), "c": (3, 1)},
    ),
    "arithmetic of shapes": (
        "a = Conv(x, K1) r = Relu(a) s = Shape(r) n = Gather(s, zero) h = Gather(s, i2) "
        "w = Gather(s, i3) hw = Mul(h, w) four = Constant<value_int=3>() k = Mul(hw, four) "
        "nu = Unsqueeze(n, ax) ku = Unsqueeze(k, ax) t = Concat<axis=0>(nu, ku) f = Reshape(r, t) "
        "y = Gemm(f, W)",
        {"x": ("N", 2, 4, 5), "K1": (3, 2, 2, 2), "zero": ints(0)[0], "i2": ints(2)[0],
         "i3": ints(3)[0], "ax": ints(0), "W": (36, 4)},
    ),
    "pre-activation ResNet": (
        "a = Conv<pads=[1,1,1,1]>(x, K0, k0) "
        "n1 = BatchNormalization(a, s, o, m, v) r1 = Relu(n1) c1 = Conv<pads=[1,1,1,1]>(r1, K1) "
        "n2 = BatchNormalization(c1, o, s, m, v) r2 = Relu(n2) c2 = Conv<pads=[1,1,1,1]>(r2, K2) "
        "h1 = Add(a, c2) n3 = BatchNormalization(h1, s, m, o, v) r3 = Relu(n3) "
        "c3 = Conv<strides=[2,2]>(r3, K3) d = Conv<strides=[2,2]>(h1, K4) h2 = Add(c3, d) "
        "r4 = Relu(h2) f = Flatten(r4) y = Gemm(f, W, w)",
        {"x": ("N", 2, 4, 4), "K0": (4, 2, 3, 3), "k0": (4,), "K1": (4, 4, 3, 3),
         "K2": (4, 4, 3, 3), "K3": (5, 4, 2, 2), "K4": (5, 4, 2, 2), "s": (4,), "o": (4,),
         "m": (4,), "v": FOUR, "W": (20, 3), "w": (3,)},
    ),
    "additive coupling": (
        "a, b = Split<axis=1, num_outputs=2>(x) z = Gemm(a, W, w) r = Tanh(z) u = Gemm(r, V) "
        "c = Add(b, u) p = Gemm(c, W, w) q = Relu(p) t = Gemm(q, V) d = Sub(a, t) "
        "y = Concat<axis=1>(c, d)",
        {"x": ("N", 6), "W": (3, 7), "w": (7,), "V": (7, 3)},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPHS)
def test_graph(tmp_path, name):
    body, tensors = GRAPHS[name]
    if "Softmax" in body:  # is left off: the runtime gives logits, too
        made = model(body.replace("Softmax", "Identity"), 18, **tensors)
    else:
        made = model(body, 18, **tensors)
    assert difference(loaded(model(body, 18, **tensors), tmp_path), made) < 1e-5


def test_a_residual_stream_is_carried_as_its_sum(tmp_path):
    """Beside 8 neurons: the 6 inputs, the 8 sums, and what the 2 outputs add up of them."""
    body, tensors = GRAPHS["residual stream"]
    network = loaded(model(body, 18, **tensors), tmp_path)
    assert network.widths == (6, 8 + 6, 8 + 8, 8 + 2, 2)
    assert network.activations[1].name == "identity[8]+relu[8]"


def test_what_is_added_later_is_carried_if_it_is_narrower_than_its_terms(tmp_path):
    """3 sums V x pass the first layer, not 20 inputs; 2 sums of relu(x) the second, not all 20."""
    made = model(
        "z = Gemm(x, W, w) r = Relu(z) s = Gemm(r, U, u) v = Gemm(x, V) a = Add(s, v) t = Relu(a) "
        "i = Relu(x) c = Concat<axis=1>(t, i) y = Gemm(c, Y)",
        x=("N", 20), W=(20, 8), w=(8,), U=(8, 3), u=(3,), V=(20, 3), Y=(23, 2),
    )  # fmt: skip
    network = loaded(made, tmp_path)
    assert network.widths == (20, 8 + 20 + 3, 3 + 2, 2)
    names = [a.name for a in network.activations]
    assert names == ["identity[3]+relu[28]", "identity[2]+relu[3]"]
    assert difference(network, made) < 1e-5


def test_neurons_that_no_output_needs(tmp_path):
    """Rows that a Slice drops, terms that cancel, and unknown nodes that nothing reads."""
    made = model(
        "z = Gemm(x, W, w) r = Relu(z) s = Slice(r, b, e, a) t = Tanh(s) m = Sub(x, x) "
        "n = Gemm(m, V) q = Add(t, n) y = Gemm(q, U) k = NonZero(z)",
        x=("N", 5), W=(5, 9), w=(9,), V=(5, 4), U=(4, 2), b=np.array([2]), e=np.array([6]),
        a=np.array([1]),
    )  # fmt: skip
    network = loaded(made, tmp_path)
    assert network.widths == (5, 4, 4, 2)
    assert [a.name for a in network.activations] == ["relu", "tanh"]
    assert difference(network, made) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(tmp_path, seed):
    made = random_graph(seed)
    assert difference(loaded(made, tmp_path), made, n=3) < 1e-5


@pytest.mark.slow
def test_a_network_for_images_is_read_in_seconds(tmp_path):
    """3×32×32 inputs, 8,192 neurons in a layer; the matrices stay sparse until the end."""
    made = model(
        "a = Conv<pads=[1,1,1,1]>(x, K1, k1) r = Relu(a) "
        "b = Conv<strides=[2,2], pads=[1,1,1,1]>(r, K2) s = Relu(b) "
        "c = Conv<pads=[1,1,1,1]>(s, K3) m = Add(c, s) t = Relu(m) "
        "p = MaxPool<kernel_shape=[4,4], strides=[4,4]>(t) f = Flatten(p) y = Gemm(f, W)",
        x=("N", 3, 32, 32), K1=(8, 3, 3, 3), k1=(8,), K2=(12, 8, 3, 3), K3=(12, 12, 3, 3),
        W=(192, 10),
    )  # fmt: skip
    start = time.process_time()
    network = loaded(made, tmp_path)
    assert time.process_time() - start < 60
    assert network.widths[:4] == (3072, 8192, 3072, 3072)
    assert difference(network, made, n=2) < 1e-5
