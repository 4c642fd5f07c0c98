"""Networks of Gaussian input that have the same outputs as one of any other input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import counted, not_counting, plain
from cumprop.inputs import Gaussian, Mixture
from cumprop.inputs.independent import ByCoordinates
from cumprop.memory import check_memory
from cumprop.networks.mlp import MLP

Array = NDArray[Any]


def gaussian_parts(network: MLP, matched: bool = False) -> list[tuple[float, MLP]]:
    """Networks of Gaussian input with their weights, whose outputs have the law of `network`.

    A mixture has a part for each component. Independent coordinates r_a = φ_a(z_a) of a law become
    one more hidden layer of neurons φ_a, the first, under z ~ N(0, I); cumulants of the input of
    any order so enter an expansion as those of that layer. If `matched`, they become a Gaussian of
    the same mean and covariance instead, which changes the law of the outputs. A Gaussian input,
    and rows of data, are left as they are. Raises CumpropError where the layer, (m, m), does not
    fit in memory. Cost: 2 n_1 n_0 m FLOPs for a mixing matrix (n_0, m), and m² numbers.

    >>> from cumprop.inputs import Uniform
    >>> [(_, part)] = gaussian_parts(MLP([[[1.0, 2.0]]], input=Uniform(0.0, 1.0)))
    >>> part.widths, part.weights[1].tolist(), part.biases[1].tolist()
    ((2, 2, 1), [[0.5, 1.0]], [1.5])
    """
    law = network.input
    if isinstance(law, Mixture):
        return [
            (weight * share, part)
            for weight, component in law.parts
            for share, part in gaussian_parts(network.replace(input=component), matched)
        ]
    if isinstance(law, ByCoordinates):
        if matched:
            return [(1.0, network.replace(input=Gaussian(law.mean, law.cov)))]
        return [(1.0, _with_layer_of(network, law))]
    return [(1.0, network)]


def _with_layer_of(network: MLP, law: ByCoordinates) -> MLP:
    """Coordinates that reach no input are left out; a constant is a part of the bias."""
    layer, dtype = law.unfolded(), network.dtype
    mix, bias = layer.mix.astype(dtype), network.biases[0]
    reaching = np.flatnonzero(mix if mix.ndim == 1 else mix.any(axis=0))
    kept = reaching if len(reaching) else np.arange(1)
    check_memory(len(kept) ** 2 * dtype.itemsize)
    with not_counting():
        first = counted(network.weights[0])
        shift = first @ layer.mean.astype(dtype)
        mixed = first[:, kept] * mix[kept] if mix.ndim == 1 else first @ mix[:, kept]
        bias = shift if bias is None else shift + bias
    return network.replace(
        weights=[np.diag(layer.scale[kept].astype(dtype)), plain(mixed), *network.weights[1:]],
        biases=[None, plain(bias), *network.biases[1:]],
        activations=[[layer.activations[a] for a in kept], *network.activations],
        input_mean=None,
        input_cov=None,
        init_scale=None,
    )
