"""Networks made of a student and other networks, whose outputs are losses (mathematics §8).

Weights may be NumPy arrays or tensors; gradients flow through all of these functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop import flops
from cumprop.activations import side_by_side
from cumprop.errors import CumpropError
from cumprop.flops import counted, is_foreign, plain
from cumprop.inputs.law import alike
from cumprop.networks import MLP

Array = NDArray[Any]


def stacked(f: MLP, g: MLP) -> MLP:
    """The network x -> f(x) - g(x), whose widths are the sums of both networks' widths.

    The first maps are stacked, the hidden ones block-diagonal, the last is [W_f, -W_g]; the law of
    the input is that of `f`. Weights may be tensors. Raises CumpropError for networks that differ
    in input, output or depth, or have no hidden layer.

    >>> f, g = MLP([[[1.0]], [[2.0]]]), MLP([[[-1.0]], [[3.0]]])   # 2 relu(x), 3 relu(-x)
    >>> stacked(f, g).forward([[1.0], [-1.0]]).tolist()
    [[2.0], [-3.0]]
    """
    _check_pair(f, g)
    a, b = ([counted(w) for w in network.weights] for network in (f, g))
    hidden = [block_diagonal(*blocks) for blocks in zip(a[1:-1], b[1:-1], strict=True)]
    weights = [np.concatenate([a[0], b[0]]), *hidden, np.concatenate([a[-1], -b[-1]], axis=1)]
    biases = None
    if any(bias is not None for bias in (*f.biases, *g.biases)):
        c, d = _biases(f), _biases(g)
        inner = [np.concatenate(pair) for pair in zip(c[:-1], d[:-1], strict=True)]
        biases = [plain(bias) for bias in (*inner, c[-1] - d[-1])]
    activations = [
        side_by_side((a, n), (b, m))
        for a, b, n, m in zip(
            f.activations, g.activations, f.widths[1:], g.widths[1:], strict=False
        )
    ]
    return f.replace(
        weights=[plain(w) for w in weights], biases=biases, activations=activations, init_scale=None
    )


def _check_pair(f: MLP, g: MLP) -> None:
    ends = [(n.widths[0], n.widths[-1], n.depth) for n in (f, g)]
    if ends[0] != ends[1] or not f.depth:
        raise CumpropError(
            f"networks of (inputs, outputs, hidden layers) {ends[0]} and {ends[1]} cannot be "
            "stacked; give two that agree, with a hidden layer at least"
        )
    if not alike(f.input, g.input):
        raise CumpropError("networks of different input distributions cannot be stacked")


def chained(first: MLP, then: MLP) -> MLP:
    """The network x -> then(first(x)), under the input of `first`.

    The last map of `first` and the first of `then` become one. Raises CumpropError where the
    outputs of `first` are not as many as the inputs of `then`. Cost: one product of these maps.

    >>> double, square = MLP([[[2.0]]]), MLP([[[1.0]], [[1.0]]], activations="square")
    >>> chained(double, square).forward([[3.0]]).tolist()
    [[36.0]]
    """
    if first.widths[-1] != then.widths[0]:
        raise CumpropError(
            f"{first.widths[-1]} outputs do not fit {then.widths[0]} inputs; give as many"
        )
    join = counted(then.weights[0])
    bias, inner = then.biases[0], first.biases[-1]
    if inner is not None:
        shift = join @ inner
        bias = plain(shift if bias is None else shift + bias)
    return first.replace(
        weights=[*first.weights[:-1], plain(join @ first.weights[-1]), *then.weights[1:]],
        biases=[*first.biases[:-1], bias, *then.biases[1:]],
        activations=[*first.activations, *then.activations],
        init_scale=None,
    )


def tournament(k: int, activation: str, dtype: Any = np.float64) -> MLP:
    """The network that joins k inputs in pairs, a and b to b + φ(a − b), until one is left.

    It computes the maximum where φ is relu, and log Σ exp where φ is softplus, in ⌈log2 k⌉ layers.

    >>> tournament(3, "relu").forward([[1.0, 7.0, 5.0]]).tolist()
    [[7.0]]
    >>> bool(np.isclose(tournament(3, "softplus").forward([[0.0, 0.0, 0.0]]), np.log(3)))
    True
    """
    weights, activations = [], []
    left = np.eye(k, dtype=dtype)
    while len(left) > 1:
        pairs = len(left) // 2
        first, second, alone = left[:pairs], left[pairs : 2 * pairs], left[2 * pairs :]
        weights.append(np.concatenate([first - second, second, alone]))
        activations.append([activation] * pairs + ["identity"] * (pairs + len(alone)))
        joined, kept = np.split(np.eye(len(weights[-1]), dtype=dtype), [pairs])
        left = kept
        left[:pairs] += joined
    return MLP([*weights, left], None, activations)


def with_layer(network: MLP, activation: str, readout: Array) -> MLP:
    """The network x -> readout · φ(f(x)), of one more layer, whose activation φ is given.

    >>> squared = with_layer(MLP([[[2.0]]]), "square", np.array([[0.5]]))
    >>> squared.forward([[3.0]]).tolist()
    [[18.0]]
    """
    return network.replace(
        weights=[*network.weights, readout.astype(network.dtype)],
        biases=[*network.biases, None],
        activations=[*network.activations, activation],
        init_scale=None,
    )


def in_torch(network: MLP) -> MLP:
    """The network with tensors as weights, copied without a gradient; itself if it has them."""
    if is_foreign(network.weights[0]):
        return network
    return network.replace(weights=[tensor(w) for w in network.weights])


def on_host(network: MLP) -> MLP:
    """The network with NumPy arrays that hold the numbers of its tensors at present."""
    return network.replace(
        weights=[flops.on_host(w) for w in network.weights],
        biases=[None if b is None else flops.on_host(b) for b in network.biases],
    )


def tensor(array: Array) -> Any:
    """A tensor with the numbers of an array, copied."""
    return require_torch().tensor(np.array(array))


def require_torch() -> Any:
    """The module of PyTorch; raises CumpropError with the remedy where it is not installed."""
    try:
        import torch
    except ImportError:
        raise CumpropError(
            "training takes gradients with PyTorch, which is not installed: "
            "pip install 'cumprop[torch]'"
        ) from None
    return torch


def block_diagonal(a: Array, b: Array) -> Array:
    """The matrix with the blocks `a` and `b` on its diagonal, zeros elsewhere."""
    upper = np.concatenate([a, np.zeros_like(a, shape=(len(a), b.shape[1]))], axis=1)
    lower = np.concatenate([np.zeros_like(b, shape=(len(b), a.shape[1])), b], axis=1)
    return np.concatenate([upper, lower])


def _biases(network: MLP) -> list[Array]:
    pairs = zip(network.weights, network.biases, strict=True)
    return [
        np.zeros_like(counted(w), shape=(len(w),)) if b is None else counted(b) for w, b in pairs
    ]
