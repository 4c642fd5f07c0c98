"""The network of standard normal inputs that has the same outputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import Flops, component, counted, counting, on_host, plain
from cumprop.networks import MLP
from cumprop.sampling.roots import input_root

Array = NDArray[Any]


def standardised(network: MLP) -> tuple[MLP, Flops]:
    """The network of standard normal inputs with the same outputs, and the FLOPs of making it.

    x = μ + R u turns W_1 into W_1 R, (n_1, r), and b_1 into W_1 μ + b_1; r is the rank of Σ0.
    Cost: that of `covariance_root` and 2 n_1 n_0 r FLOPs.
    """
    if not network.shape.gaussian_input:
        return network, Flops()
    mean = network.input_mean
    first, bias = network.weights[0], network.biases[0]
    with counting() as flops, component("input"):
        if mean is not None:
            shift = counted(first) @ mean
            bias = plain(shift if bias is None else shift + bias)
        root = input_root(network)
        if root is not None:
            kept = _spread(on_host(root), network.widths[0])
            if root.ndim == 2:
                first = plain(counted(first) @ root[:, kept])
            else:
                lengths = np.broadcast_to(root, kept.shape)
                first = plain(counted(first[:, kept]) * lengths[kept])
    weights, biases = [first, *network.weights[1:]], [bias, *network.biases[1:]]
    found = network.replace(
        weights=weights, biases=biases, input_mean=None, input_cov=None, init_scale=None
    )
    return found, flops


def _spread(root: Array, n: int) -> Array:
    """A mask of the columns of a root that are more than rounding, at least one.

    Rows are scaled to one size before, because inputs may differ in unit.
    """
    if root.ndim == 2:
        sizes = np.abs(root).max(axis=1, keepdims=True)
        lengths = np.linalg.norm(root / np.where(sizes > 0, sizes, 1), axis=0)
        kept: Array = lengths > math.sqrt(n * float(np.finfo(root.dtype).eps)) * lengths.max()
    else:
        kept = np.broadcast_to(root, (n,)) > 0
    return kept if kept.any() else np.arange(n) == 0
