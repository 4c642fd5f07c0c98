"""Each operator of ONNX files against ONNX Runtime, over opsets where its meaning changed."""

import numpy as np
import pytest
from helpers.onnx_graphs import difference, loaded, model

POSITIVE = np.array([0.5, 1.5, 0.3, 2.0], dtype=np.float32)
IMAGE = (1, 2, 5, 6)
ROWS = (1, 6)


def case(body, opset=21, **tensors):
    return pytest.param(body, opset, tensors, id=f"{body[:70]} {opset}")


def half(*values):
    return np.array(values, dtype=np.float32)


CASES = [
    *(case("y = Gemm<transB=1, alpha=0.5, beta=2.0>(x, W, b)", o, x=ROWS, W=(4, 6), b=(4,))
      for o in (7, 9, 11, 13, 24)),
    case("y = Gemm<transA=1>(x, W)", x=(6, 1), W=(6, 3)),
    case("y = Gemm(W, x, b)", x=(6, 1), W=(3, 6), b=(3, 1)),
    case("y = Gemm<transB=1>(W, x, b)", x=("N", 6), W=(3, 6), b=(1, 1)),
    case("y = MatMul(x, W)", x=("N", 6), W=(6, 4)),
    case("y = MatMul(W, x)", x=(6,), W=(4, 6)),
    case("y = MatMul(x, W)", x=(6,), W=(6, 4)),
    case("y = MatMul(x, v)", x=(3, 6), v=(6,)),
    case("y = MatMul(v, x)", x=(6, 3), v=(6,)),
    case("y = MatMul(x, v)", x=(6,), v=(6,)),
    case("y = MatMul(x, W)", x=(1, 3, 4), W=(4, 2)),
    case("y = MatMul(x, W)", x=(1, 3, 4), W=(5, 4, 2)),
    case("y = MatMul(W, x)", x=(1, 2, 3, 4), W=(2, 5, 3)),
    *(case("y = Add(x, b)", o, x=IMAGE, b=(2, 1, 6)) for o in (7, 13, 14)),
    case("y = Add(b, x)", x=(1, 1, 6), b=(3, 1)),
    case("y = Sub(x, b)", x=ROWS, b=(6,)),
    case("y = Sub(b, x)", x=ROWS, b=(6,)),
    case("y = Mul(b, x)", x=ROWS, b=(4, 1)),
    case("y = Div(x, b)", x=ROWS, b=[[2.0]]) if False else
    case("y = Div(x, b)", x=(1, 4), b=POSITIVE),
    case("y = Neg(x)", x=ROWS),
    case("y = Sum(x, b, x)", x=ROWS, b=(6,)),
    case("y = Mean(x, b, x)", x=ROWS, b=(6,)),
    case("y = Mean(x)", x=ROWS),
    *(case("y = Conv(x, W, b)", o, x=IMAGE, W=(3, 2, 2, 3), b=(3,)) for o in (7, 11, 22)),
    case("y = Conv<strides=[2,1], pads=[1,0,2,1], dilations=[1,2]>(x, W)", x=IMAGE, W=(3, 2, 3, 2)),
    case("y = Conv<group=2>(x, W, b)", x=(1, 4, 5, 5), W=(6, 2, 3, 3), b=(6,)),
    case("y = Conv<group=4, pads=[1,1,1,1]>(x, W)", x=(1, 4, 5, 5), W=(4, 1, 3, 3)),
    case('y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, W)', x=IMAGE, W=(3, 2, 2, 3)),
    case('y = Conv<auto_pad="SAME_LOWER", strides=[2,3]>(x, W)', x=IMAGE, W=(3, 2, 2, 3)),
    case('y = Conv<auto_pad="VALID", strides=[2,3]>(x, W)', x=IMAGE, W=(3, 2, 2, 3)),
    case("y = Conv<strides=[2], pads=[1,1]>(x, W)", x=("N", 3, 9), W=(2, 3, 4)),
    case("y = Conv<strides=[2,1,1]>(x, W)", x=(1, 2, 4, 3, 3), W=(2, 2, 2, 2, 3)),
    case("y = Conv(x, W)", x=(2, 2, 3, 3), W=(2, 2, 2, 2)),
    case("y = ConvTranspose(x, W, b)", 11, x=(1, 3, 3, 4), W=(3, 2, 2, 3), b=(2,)),
    case("y = ConvTranspose<strides=[2,3], pads=[1,0,0,1], output_padding=[1,2]>(x, W)",
         x=(1, 3, 3, 4), W=(3, 2, 2, 3)),
    case("y = ConvTranspose<group=2, dilations=[2,1]>(x, W)", x=(1, 4, 3, 3), W=(4, 3, 2, 3)),
    case("y = ConvTranspose<strides=[2,2], output_shape=[7,8]>(x, W)", x=(1, 3, 3, 4),
         W=(3, 2, 3, 3)),
    case('y = ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(x, W)', x=(1, 3, 3, 4),
         W=(3, 2, 3, 3)),
    case('y = ConvTranspose<strides=[2,2], auto_pad="SAME_LOWER">(x, W)', x=(1, 3, 3, 4),
         W=(3, 2, 3, 3)),
    case("y = ConvTranspose<strides=[2]>(x, W)", x=(1, 3, 5), W=(3, 2, 3)),
    *(case("y = BatchNormalization<epsilon=0.01>(x, s, b, m, v)", o, x=(1, 4, 3), s=(4,), b=(4,),
           m=(4,), v=POSITIVE) for o in (7, 9, 14, 15)),
    case("y = BatchNormalization(x, s, b, m, v)", x=("N", 4), s=(4,), b=(4,), m=(4,), v=POSITIVE),
    case("y = AveragePool<kernel_shape=[2,3]>(x)", 7, x=IMAGE),
    case("y = AveragePool<kernel_shape=[2,3], strides=[2,2], pads=[1,1,0,2]>(x)", 11, x=IMAGE),
    case("y = AveragePool<kernel_shape=[2,3], pads=[1,1,0,2], count_include_pad=1>(x)", 19,
         x=IMAGE),
    case("y = AveragePool<kernel_shape=[2,2], strides=[2,4], ceil_mode=1>(x)", 19, x=IMAGE),
    case("y = AveragePool<kernel_shape=[2,2], dilations=[2,3]>(x)", 19, x=IMAGE),
    case('y = AveragePool<kernel_shape=[2,2], strides=[2,2], auto_pad="SAME_UPPER">(x)', x=IMAGE),
    case("y = GlobalAveragePool(x)", x=IMAGE),
    case("y = MaxPool<kernel_shape=[2,3]>(x)", 7, x=IMAGE),
    case("y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)", 12, x=IMAGE),
    case("y = MaxPool<kernel_shape=[2,2], strides=[2,4], ceil_mode=1>(x)", 12, x=IMAGE),
    case("y = MaxPool<kernel_shape=[2,2], dilations=[2,3]>(x)", 12, x=IMAGE),
    case('y = MaxPool<kernel_shape=[2,2], strides=[2,2], auto_pad="SAME_LOWER">(x)', x=IMAGE),
    case("y = MaxPool<kernel_shape=[4], strides=[3]>(x)", x=(1, 2, 10)),
    *(case("a = Pad(x, p, c) y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)", 13, x=IMAGE,
           p=np.array([0, 0, 1, 0, 0, 0, 0, 1]), c=half(low)[0])
      for low in (-3.4028235e38, -np.inf)),
    case("y = GlobalMaxPool(x)", x=(1, 2, 3, 3)),
    *(case("y = ReduceMean<axes=[2,3], keepdims=0>(x)", o, x=IMAGE) for o in (7, 13)),
    case("y = ReduceMean(x, axes)", 18, x=IMAGE, axes=np.array([-1])),
    case("y = ReduceMean(x)", 18, x=IMAGE),
    case("y = ReduceSum<axes=[1]>(x)", 11, x=IMAGE),
    case("y = ReduceSum<keepdims=0>(x, axes)", 13, x=IMAGE, axes=np.array([1, -2])),
    case("y = ReduceSum<noop_with_empty_axes=1>(x)", 13, x=ROWS),
    case("y = ReduceMax<axes=[-1], keepdims=0>(x)", 13, x=(1, 2, 5)),
    case("y = ReduceMin(x, axes)", 18, x=(1, 2, 5), axes=np.array([2])),
    *(case("y = Max(x, m)\nm = Neg(x)" if False else "m = Neg(x) y = Max(x, m, b)", o, x=ROWS,
           b=(6,)) for o in (8, 13)),
    case("m = MatMul(x, W) y = Min(x, m, b)", x=ROWS, W=(6, 6), b=(3, 1)),
    case("y = Flatten(x)", 7, x=IMAGE),
    case("y = Flatten<axis=2>(x)", 9, x=IMAGE),
    case("y = Flatten<axis=-1>(x)", 13, x=IMAGE),
    case("y = Reshape(x, s)", 7, x=IMAGE, s=np.array([0, -1, 3])),
    case("y = Reshape(x, s)", 21, x=("N", 2, 6), s=np.array([-1, 4, 3])),
    case("y = Transpose<perm=[0,2,3,1]>(x)", x=IMAGE),
    case("y = Transpose(x)", 7, x=IMAGE),
    case("y = Squeeze<axes=[0]>(x)", 7, x=ROWS),
    case("y = Squeeze(x, a)", 13, x=(1, 2, 1, 3), a=np.array([2])),
    case("y = Squeeze(x)", 13, x=(1, 2, 1, 3)),
    case("y = Unsqueeze<axes=[0,2]>(x)", 7, x=ROWS),
    case("y = Unsqueeze(x, a)", 13, x=ROWS, a=np.array([-1])),
    case("y = Slice<starts=[1,-3], ends=[9,-1], axes=[1,3]>(x)", 7, x=IMAGE),
    case("y = Slice(x, s, e, a, t)", 10, x=IMAGE, s=np.array([-1, 0]), e=np.array([-9, 6]),
         a=np.array([2, 3]), t=np.array([-2, 3])),
    case("a, b = Split<axis=1, split=[2,4]>(x) y = Concat<axis=1>(b, a)", 7, x=ROWS),
    case("a, b = Split<axis=-1>(x, s) y = Concat<axis=1>(b, x, a)", 13, x=ROWS,
         s=np.array([1, 5])),
    case("a, b, c = Split<axis=1, num_outputs=3>(x) y = Add(a, c)", 18, x=ROWS),
    case("y = Concat<axis=0>(x, b, x)", x=ROWS, b=(2, 6)),
    case("y = Gather<axis=1>(x, i)", 7, x=IMAGE, i=np.array([[1, 0], [1, 1]])),
    case("y = Gather<axis=-1>(x, i)", 13, x=IMAGE, i=np.array(-2)),
    case("y = GatherElements<axis=1>(x, i)", 13, x=ROWS, i=np.array([[3, -1]])),
    case("y = GatherND(x, i)", 13, x=IMAGE, i=np.array([[0, 1], [0, 0]])),
    case("y = Pad<pads=[0,1,0,2], value=0.5>(x)", 7, x=ROWS),
    case("y = Pad(x, p, c)", 11, x=IMAGE, p=np.array([0, 0, 1, -1, 0, 0, 2, 3]), c=half(1.5)[0]),
    case("y = Pad(x, p, c, a)", 18, x=IMAGE, p=np.array([1, 2]), c=half(0)[0], a=np.array([-1])),
    case("y = Expand(x, s)", 8, x=ROWS, s=np.array([3, 1])),
    case("y = Tile(x, s)", 7, x=ROWS, s=np.array([2, 3])),
    case("y = DepthToSpace<blocksize=2>(x)", 13, x=(1, 8, 2, 3)),
    case('y = DepthToSpace<blocksize=2, mode="CRD">(x)', 13, x=(1, 8, 2, 3)),
    case("y = SpaceToDepth<blocksize=2>(x)", 13, x=(1, 2, 4, 6)),
    case("y = Where(c, x, b)", 16, x=ROWS, b=(6,), c=np.array([True, False] * 3)),
    case("y = Identity(x)", x=ROWS),
    *(case("y = Dropout(x)", o, x=ROWS) for o in (7, 12, 22)),
    case("a = Cast<to=11>(x) y = Cast<to=1>(a)", x=ROWS),
    case("s = Shape(x) n = Gather(s, i) m = Unsqueeze(n, o) t = Concat<axis=0>(m, e) "
         "y = Reshape(x, t)", 13, x=("N", 2, 6), i=np.array(0), o=np.array([0]),
         e=np.array([-1, 4])),
    case("s = Shape<start=1>(x) t = ConstantOfShape(s) a = Add(x, t) y = Expand(a, s)", 21, x=ROWS),
    case("n = Size(x) f = Cast<to=1>(n) y = Div(x, f)", x=ROWS),
    case("r = Range(l, h, d) y = Gather<axis=1>(x, r)", 11, x=ROWS, l=np.array(0),
         h=np.array(6), d=np.array(2)),
    *(case(f"y = {op}(x)", o, x=ROWS) for op, o in (
        ("Relu", 7), ("Relu", 13), ("Relu", 14), ("Tanh", 7), ("Sigmoid", 13), ("Abs", 13),
        ("Sign", 13), ("Softplus", 7), ("Softsign", 7), ("Erf", 9), ("Erf", 13), ("Sin", 7),
        ("Cos", 7), ("Exp", 13), ("Mish", 18), ("HardSwish", 14), ("LeakyRelu", 7), ("Elu", 7),
        ("Selu", 7), ("Celu", 12), ("HardSigmoid", 7), ("ThresholdedRelu", 10), ("Gelu", 20),
    )),
    case("y = LeakyRelu<alpha=0.3>(x)", 16, x=ROWS),
    case("y = Elu<alpha=0.7>(x)", x=ROWS),
    case("y = Selu<alpha=1.2, gamma=0.8>(x)", x=ROWS),
    case("y = Celu<alpha=0.7>(x)", x=ROWS),
    case("y = HardSigmoid<alpha=0.3, beta=0.4>(x)", x=ROWS),
    case("y = ThresholdedRelu<alpha=0.3>(x)", x=ROWS),
    case('y = Gelu<approximate="tanh">(x)', 20, x=ROWS),
    case("y = PRelu(x, s)", 7, x=IMAGE, s=half(0.1, 0.3).reshape(2, 1, 1)),
    case("y = PRelu(x, s)", 16, x=ROWS, s=half(0.1, 0.3, 0.1, -0.5, 0.2, 0.1)),
    case("y = PRelu(x, s)", 16, x=ROWS, s=half(0.25)),
    case("y = Clip<min=-0.5, max=0.75>(x)", 7, x=ROWS),
    case("y = Clip<max=6.0, min=0.0>(x)", 7, x=ROWS),
    case("y = Clip(x, l, h)", 11, x=ROWS, l=half(-0.5)[0], h=half(0.3)[0]),
    case("y = Clip(x, l)", 13, x=ROWS, l=half(-0.5)[0]),
    case('y = Clip(x, "", h)' if False else "y = Clip(x, , h)", 13, x=ROWS, h=half(0.25)[0]),
    *(case("y = Pow(x, p)", o, x=ROWS, p=half(n)[0])
      for o in (7, 13) for n in (0, 1, 2, 3, 4)),
    case("y = Mul(x, x)", x=ROWS),
    case("a = Mul(x, x) y = Mul(x, a)", x=ROWS),
    case("a = Mul(x, x) b = Mul(x, a) y = Mul(b, x)", x=ROWS),
    case("s = Sigmoid(x) y = Mul(x, s)", x=ROWS),
    case("a = Mul(x, c) s = Sigmoid(a) y = Mul(s, x)", x=ROWS, c=half(1.702)),
    case("p = Softplus(x) t = Tanh(p) y = Mul(x, t)", x=ROWS),
    case("a = Div(x, r) e = Erf(a) f = Add(e, o) g = Mul(x, f) y = Mul(g, h)", x=ROWS,
         r=half(2**0.5), o=half(1), h=half(0.5)),
    case("a = Mul(x, r) e = Erf(a) f = Add(o, e) h2 = Mul(x, h) y = Mul(h2, f)", x=ROWS,
         r=half(0.5**0.5), o=half(1), h=half(0.5)),
    case("p = Pow(x, n) q = Mul(p, k) s = Add(x, q) m = Mul(s, c) t = Tanh(m) u = Add(t, o) "
         "v = Mul(x, u) y = Mul(v, h)", x=ROWS, n=half(3)[0], k=half(0.044715),
         c=half((2 / np.pi) ** 0.5), o=half(1), h=half(0.5)),
    case("a = Mul(x, x) b = Mul(x, a) q = Mul(b, k) s = Add(x, q) m = Mul(s, c) t = Tanh(m) "
         "u = Add(t, o) w = Mul(x, h) y = Mul(w, u)", x=ROWS, k=half(0.044715),
         c=half((2 / np.pi) ** 0.5), o=half(1), h=half(0.5)),
    case("a = Add(x, t) c = Clip(a, l, u) m = Mul(x, c) y = Div(m, u)", x=ROWS, t=half(3),
         l=half(0)[0], u=half(6)[0]),
    case("s = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, s)", x=ROWS),
    case("a = Abs(x) b = Add(a, o) y = Div(x, b)", x=ROWS, o=half(1)),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("body", "opset", "tensors"), CASES)
def test_operator(tmp_path, body, opset, tensors):
    made = model(body, opset, **tensors)
    assert difference(loaded(made, tmp_path), made) < 1e-5


def test_swish(tmp_path):
    """ONNX's own evaluator says; the runtime may not know the operator yet."""
    from onnx.reference import ReferenceEvaluator

    made = model("y = Swish<alpha=1.5>(x)", 24, x=ROWS)
    x = np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
    expected = ReferenceEvaluator(made).run(None, {"x": x})[0]
    np.testing.assert_allclose(loaded(made, tmp_path).forward(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats(tmp_path, dtype):
    """Halves become float32, so that they agree to the precision of halves alone."""
    body = "z = Gemm(x, W, b) h = Relu(z) m = Mul(h, c) y = MatMul(m, V)"
    made = model(body, dtype=dtype, x=("N", 6), W=(6, 8), b=(8,), c=(8,), V=(8, 3))
    network = loaded(made, tmp_path)
    assert network.dtype == (np.float64 if dtype is np.float64 else np.float32)
    assert difference(network, made, dtype=dtype) < (1e-12 if dtype is np.float64 else 5e-3)
