"""Networks of Gaussian input that have the same outputs as one of any other input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import counted, not_counting, plain
from cumprop.inputs import Gaussian, Mixture
from cumprop.inputs.independent import ByCoordinates
from cumprop.networks.mlp import MLP

Array = NDArray[Any]


def gaussian_parts(network: MLP) -> list[tuple[float, MLP]]:
    """Networks of Gaussian input with their weights, whose outputs have the law of `network`.

    A mixture has a part for each component. Independent coordinates r_a = φ_a(z_a) of a law become
    one more hidden layer of neurons φ_a, the first, under z ~ N(0, I); cumulants of the input of
    any order so enter an expansion as those of that layer. A Gaussian input, and rows of data, are
    left as they are. Cost: 2 n_1 n_0 m FLOPs for a mixing matrix (n_0, m).

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
            for share, part in gaussian_parts(network.replace(input=component))
        ]
    if isinstance(law, ByCoordinates):
        return [(1.0, _with_layer_of(network, law))]
    return [(1.0, network)]


def _with_layer_of(network: MLP, law: ByCoordinates) -> MLP:
    layer = law.unfolded()
    with not_counting():
        first, bias = counted(network.weights[0]), network.biases[0]
        shift = first @ layer.mean.astype(network.dtype)
        mix = layer.mix.astype(network.dtype)
        mixed = first @ mix if mix.ndim == 2 else first * mix
        bias = shift if bias is None else shift + bias
    return network.replace(
        weights=[np.diag(layer.scale), plain(mixed), *network.weights[1:]],
        biases=[None, plain(bias), *network.biases[1:]],
        activations=[layer.activations, *network.activations],
        input=Gaussian(),
        init_scale=None,
    )
