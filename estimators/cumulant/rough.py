"""A second, rough estimate for O(n²) FLOPs: Gaussian moments of neurons from a few tangents."""

from __future__ import annotations

from dataclasses import replace
from math import hypot, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import Signs
from cumprop.flops import component, count, counted
from cumprop.networks import MLP

from .evidence import Evidence
from .neglected import like, probes
from .standardised import AffineMap, expected, standard_input, standardised, wick_coefficients

Array = NDArray[Any]

RIDGE = 1e-6
"""A number added to the diagonal of input correlations, so that singular ones have a root."""
ALIKE = 0.1
"""The share of the nonlinearity by which two rough estimates may be wrong alike."""


def run(network: MLP, root: Array | None = None) -> tuple[Array, Signs]:
    """The mean E[Y] and signs, from the mean and the variance of every neuron.

    A variance is the variance of the neuron's tangent, by sums of inputs with random signs, plus
    the bends of the neurons before it as if these were independent. `root` (n_0, r) has R Rᵀ = Σ0;
    None stands for `root_of`. Cost: about 70 n² FLOPs per layer and 50 n².
    """
    maps = [*map(AffineMap.in_range, map(counted, network.weights), network.biases)]
    mean, C, unit = standard_input(network)
    evidence, bent = Evidence(maps, C, unit, leading=True), None
    with component("error"):
        root = root_of(network) if root is None else root
        signs, share = probes(network.widths[0] if root is None else root.shape[-1])
        tangent = like(maps[0].weight, signs)
        if root is not None:
            scaled = counted(root).astype(tangent.dtype) * (1 / unit)
            tangent = scaled @ tangent if root.ndim == 2 else scaled[:, None] * tangent
    for affine, activation in zip(maps, network.activations, strict=False):
        with component("linear"):
            tangent, variance = _through(affine, tangent, share, bent)
            z = standardised(affine, affine.mean(mean), variance, None, variance.copy)
        with component("nonlinear"):
            w = wick_coefficients(activation, z, unit)
            centre, slope = w(0, 1), w(1, 1)
            bent = np.maximum(w(0, 2) - centre * centre - slope * slope, 0)
            tangent = (slope * z.inverse)[:, None] * tangent
            mean, unit = expected(centre, w), w.size
        evidence.add(z, w, centre, None, None)
    with component("linear"):
        output = maps[-1].mean(mean)
        _, variance = _through(maps[-1], tangent, share, bent)
        scale = unit if maps[-1].rows is None else maps[-1].rows.astype(np.float64) * unit
        total = float((variance.astype(np.float64) * scale * scale).sum())
    [found] = evidence.signs(output, mean, unit)
    return output, replace(found, unit=total)


def compared(network: MLP, mean: Array, unit: float, root: Array | None = None) -> Signs:
    """The signs, with the distances from another `mean` and its sum of output variances `unit`.

    Both may be wrong alike: distances are no smaller than a tenth of the nonlinearity.
    """
    rough, signs = run(network, root)
    with component("error"):
        distance = rough.astype(np.float64) - mean
        squares = float((distance * distance).sum())
    known, alike = unit if unit > 0 else signs.unit, ALIKE * signs.nonlinear
    apart = sqrt(squares / known) if known > 0 else 0.0
    changed = abs(sqrt(signs.unit / known) - 1) if known > 0 else 0.0
    return replace(
        signs, neglected=hypot(apart, alike), correction=hypot(changed, alike), unit=known
    )


def root_of(network: MLP) -> Array | None:
    """A root R (n, n), R Rᵀ ≈ Σ0, accurate enough for tangents; (n,) if diagonal, None for I.

    Cost: n³/3 FLOPs, n for a diagonal.
    """
    if network.input_variance is not None:
        count(network.widths[0])
        sizes: Array = np.sqrt(np.broadcast_to(network.input_variance, network.widths[:1]))
        return sizes
    cov = network.input_cov
    if cov is None:
        return None
    n, variances = len(cov), cov.diagonal().astype(np.float64)
    sizes = np.sqrt(np.where(variances > 0, variances, 1))
    correlations = cov / sizes[:, None] / sizes
    count(n**3 // 3 + 3 * n * n)
    root: Array = sizes[:, None] * np.linalg.cholesky(correlations + RIDGE * np.eye(n))
    return root


def _through(
    affine: AffineMap, tangent: Array, share: float, bent: Array | None
) -> tuple[Array, Array]:
    """The tangents after a map, and the variances of its results."""
    tangent = affine.weight @ tangent
    variance = (tangent * tangent).sum(axis=1) * share
    if bent is not None:
        variance = variance + (affine.weight * affine.weight) @ bent
    return tangent, variance
