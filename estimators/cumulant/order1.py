"""Order 1, kind basic: the means, and one variance for all neurons of a layer (§3.3, §3.4).

The covariance of X̂ is A · I, A the mean variance. The numbers are those of the dense algorithm.
Cost: a few n² FLOPs per layer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import component, counted, records_gradients
from cumprop.networks import MLP

from .evidence import Evidence
from .kinds import Scheme
from .propagation import Propagated, affine_maps, metric_scales
from .standardised import (
    expected,
    standard_input,
    standardised,
    trusted_nodes,
    variances,
    wick_coefficients,
)

Array = NDArray[Any]


def run(
    network: MLP,
    scheme: Scheme,
    metric: str,
    cov: bool,
    third: bool = False,
    means: Array | None = None,
) -> Propagated:
    """Propagate κ_1 and the trace of κ_2, of a batch of inputs if `means` (B, n_0) are given."""
    scales = metric_scales(network, scheme.order, metric)
    maps = affine_maps(network, scales)
    mean, C, unit = standard_input(network)
    A: Any = 1.0 if C is None else _mean(variances(C))
    if means is not None:
        mean = counted(means)
    evidence = None if records_gradients(network.weights) else Evidence(maps, C, unit, leading=True)
    layer_means, precision, trust = [], 0.0, trusted_nodes(network.depth)
    negative: Array | int = 0
    for i, activation in enumerate(network.activations):
        affine = maps[i]
        with component("linear"):
            mean = affine.mean(mean)
            variance = np.broadcast_to(A * affine.metric.diagonal, mean.shape, subok=True)
            z = standardised(affine, mean, variance, None, partial(np.asanyarray, variance))
        with component("nonlinear"):
            w = wick_coefficients(activation, z, unit, trust)
            centre = w(0, 1)
            if cov or i + 1 < network.depth:
                A = _mean(w(0, 2) - centre * centre)
            mean, unit = expected(centre, w), w.size
        if evidence is not None:
            evidence.add(z, w, centre, None, None)
        layer_means.append(mean)
        negative, precision = negative + z.negative, max(precision, w.precision)
    last, covariance = maps[-1], None
    with component("linear"):
        output = last.mean(mean)
        if cov:
            own = np.broadcast_to(A * last.metric.diagonal, output.shape, subok=True)
            covariance = np.zeros_like(own, shape=(*own.shape, own.shape[-1]))
            variances(covariance)[...] = own
            covariance = last.in_units(covariance, unit)
    signs = None if evidence is None else evidence.signs(output, mean, unit)
    own_variances = None if evidence is None else tuple(evidence.variances)
    return Propagated(output, layer_means, own_variances, covariance, negative, precision, signs)


def _mean(variances: Array) -> Array:
    """The mean variance, as a factor of vectors."""
    mean: Array = variances.sum(axis=-1)[..., None] * (1 / variances.shape[-1])
    return mean
