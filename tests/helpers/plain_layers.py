"""The method of mathematics §3 as it is written: full tensors in the network's own units."""

from typing import Any, NamedTuple

import numpy as np

from cumprop.estimators.cumulant.dense import nonlinear
from cumprop.estimators.cumulant.propagation import metric_scales
from cumprop.estimators.cumulant.standardised import input_of, trusted_nodes
from cumprop.estimators.cumulant.symmetric_tensors import (
    DiagonalMetric,
    Metric,
    TracePart,
    radial_core,
)
from cumprop.flops import counted


class Layer(NamedTuple):
    """Cumulants of Z_l and of X_l, by order; of the output Y, whose X is None."""

    z: dict[int, TracePart]
    x: Any


def layers(network, scheme, metric="exact"):
    """Yield Z_l and X_l, l = 1..L, then the output."""
    x = of_input(network, scheme)
    scales = metric_scales(network, scheme.order, metric)
    activations = [*network.activations, None]
    for weight, bias, scale, phi in zip(
        network.weights, network.biases, scales, activations, strict=True
    ):
        z = linear(x, counted(weight), bias, scale)
        if phi is None:
            yield Layer(z, None)
            return
        mean = z[1].core
        variance = np.ones_like(mean) if scheme.unit_variance else z[2].slice((2,))
        w = phi.wick_table(mean, variance, trust=trusted_nodes(network.depth))
        x = nonlinear(z, w, scheme, scheme.tracked)
        yield Layer(z, x)


def of_input(network, scheme):
    mean, C = input_of(network)
    identity = DiagonalMetric.identity(len(mean), mean.dtype)
    x = {1: TracePart(mean)}
    if scheme.unit_variance:
        return x
    if C is not None and scheme.tracked[2] == 0:
        return x | {2: TracePart(C)}
    trace = counted(np.ones(())) if C is None else radial_core(C.diagonal().sum(), 2, 1, len(mean))
    return x | {2: TracePart(trace, 1, identity)}


def linear(x, weight, bias, scale):
    metric = Metric(weight)
    if scale is not None:
        metric = DiagonalMetric(np.full_like(weight, scale, shape=len(weight)))
    z = {d: part.transform(weight, metric) for d, part in x.items()}
    return z if bias is None else z | {1: TracePart(z[1].core + bias)}
