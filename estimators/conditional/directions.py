"""Directions of the whitened input along which a network is looked at closely."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import Activation, Step
from cumprop.errors import CumpropError
from cumprop.flops import count, on_host, plain
from cumprop.networks import MLP, Shape
from cumprop.sampling import input_root, pulled_back

from ..cumulant.neglected import PROBES, probes

Array = NDArray[Any]

STARTS, STEPS, REACH, WIDE = 32, 100, 3.0, 3.0
"""Starts and steps of the search for nearest points of an event: one half of the starts are at this
distance, the other is drawn with this standard deviation."""
OVERSHOOT = 1.05
"""The steps uphill lead a little beyond the tangent plane, so that points end within the event."""
SEEN = 1e-12
"""The share of the variance of Z_1 that counts as rounding."""
APART = 0.9
"""The largest cosine between two points that count as different."""
GRADIENTS, LEAST_POINTS = 64, 16
"""The number of gradients that are averaged, and the least number of random inputs."""
AROUND = 64
"""Points around the nearest one whose gradients give further directions."""


class Whitened:
    """The network as a function of z ~ N(0, I): x = μ + S z, S a root of Σ0."""

    def __init__(self, network: MLP) -> None:
        first, *others = (on_host(w).astype(np.float64) for w in network.weights)
        bias, *biases = (None if b is None else on_host(b) for b in network.biases)
        if network.input_mean is not None:
            shift = first @ on_host(network.input_mean)
            bias = shift if bias is None else shift + bias
        first = times(root_of(network).T, first.T).T
        self._network = MLP([first, *others], [bias, *biases], network.activations)
        self.n = network.widths[0]

    def gradients(self, z: Array, outward: Array) -> tuple[Array, Array]:
        """The sums g = Σ outward · Y, (N,), and their gradients (N, n_0) at z (N, n_0)."""
        with np.errstate(over="ignore", invalid="ignore"):
            *before, y = [before for before, _ in self._network.layers(z)]
            count(6 * len(z) * sum(w.size for w in self._network.weights))
            return np.vecdot(y, outward), pulled_back(self._network, before, outward)


def root_of(network: MLP) -> Array:
    """A root S of Σ0, (n_0, n_0), or its diagonal (n_0,) where Σ0 is diagonal."""
    root = input_root(network)
    if root is None or root.ndim < 2:
        return np.ones(network.widths[0]) * (1.0 if root is None else root)
    return root.astype(np.float64)


def times(root: Array, columns: Array) -> Array:
    """The product of a root, or of a diagonal one, and columns (n_0, k)."""
    product: Array = root @ columns if root.ndim == 2 else root[:, None] * columns
    return product


def has_slopes(activation: Activation) -> bool:
    """Whether the derivative of an activation says how it changes; that of a step is 0."""
    return all(kind.differentiable and not isinstance(kind, Step) for kind in activation.kinds)


def span_all_seen(network: MLP, root: Array, across: Array) -> bool:
    """Whether W_1 S is 0 but for rounding across the columns of S U, (n_0, k)."""
    w = on_host(network.weights[0]).astype(np.float64)
    whole, along = (np.square(a).sum() for a in (times(root.T, w.T), w @ across))
    return bool(whole - along <= SEEN * whole)


def orthonormal(columns: Array) -> Array:
    """The columns (n_0, k) made orthonormal from the first on, each on the side where it was."""
    u, sides = np.linalg.qr(columns)
    oriented: Array = u * np.where(sides.diagonal() < 0, -1.0, 1.0)
    return oriented


def leading(network: MLP, k: int) -> Array:
    """The k directions (n_0, k) in which Z_1 varies most: right singular vectors of W_1 S."""
    w = on_host(network.weights[0]).astype(np.float64)
    return _strongest(times(root_of(network).T, w.T).T, k)


def gradient(network: MLP, k: int) -> Array:
    """The k directions (n_0, k) along which gradients at random inputs are largest on average.

    More than a few outputs are looked at in sums with random signs. A last layer of steps is left
    off.
    """
    if network.depth and not has_slopes(network.activations[-1]):
        network = network.prefix(network.depth - 1)
    at, outward = Whitened(network), plain(probes(network.widths[-1])[0]).T
    n_points = max(LEAST_POINTS, GRADIENTS // len(outward))
    z = np.random.default_rng(0).standard_normal((n_points, at.n))
    gradients = at.gradients(np.repeat(z, len(outward), 0), np.tile(outward, (n_points, 1)))[1]
    return _strongest(gradients, k)


def _strongest(rows: Array, k: int) -> Array:
    """The k right singular vectors with the largest singular values, as columns."""
    if not np.isfinite(rows).all():
        raise CumpropError("gradients of the network are not finite: take monte_carlo")
    m, n = rows.shape
    count(_flops_of_vectors(m, n))
    vectors: Array = np.linalg.svd(rows, full_matrices=False)[2][:k].T
    return vectors


def event(network: MLP, k: int) -> Array:
    """The nearest inputs z (n_0, k) at which the one neuron of the last hidden layer crosses 0.

    Where fewer than k such points lie apart, the others are the directions of the gradients around
    the nearest one; where none is found, all are those of `gradient`.
    """
    below = network.prefix(network.depth - 1)
    at = Whitened(below)
    points = nearest_points(at)
    if not len(points):
        return gradient(below, k)
    rng = np.random.default_rng(1)
    around = points[0] + rng.standard_normal((AROUND, len(points[0])))
    gradients = at.gradients(around, np.ones((AROUND, 1)))[1]
    others = _strongest(gradients, k)
    return np.concatenate([points.T, others], axis=1)[:, :k]


def nearest_points(at: Whitened) -> Array:
    """Points z (m, n_0) beyond g = 0, of the other sign than g(0), the nearest of their side first.

    From many starts: uphill to g ≥ 0, and from there towards the nearest point of the tangent
    plane g = 0 (Hasofer and Lind 1974), by steps that become shorter and shorter.
    """
    rng = np.random.default_rng(0)
    z = WIDE * rng.standard_normal((STARTS, at.n))
    z[::2] = REACH * _unit(z[::2])
    at_mean, _ = at.gradients(np.zeros((1, z.shape[1])), np.ones((1, 1)))
    outward = np.full((STARTS, 1), -1.0 if at_mean[0] > 0 else 1.0)
    best, lengths = z, np.full(STARTS, np.inf)
    for step in range(STEPS):
        g, slope = at.gradients(z, outward)
        length = np.linalg.norm(z, axis=1)
        found = (g >= 0) & (length < lengths)
        best, lengths = np.where(found[:, None], z, best), np.where(found, length, lengths)
        steep = np.maximum(np.vecdot(slope, slope), np.finfo(float).tiny)[:, None]
        nearest = (np.vecdot(slope, z) - g)[:, None] / steep * slope
        move = np.where(
            (g < 0)[:, None],
            -OVERSHOOT * g[:, None] / steep * slope,
            (nearest - z) / (2 + step / 5),
        )
        z = z + move / np.maximum(np.linalg.norm(move, axis=1), 1)[:, None]
    order = np.argsort(lengths)
    kept = list[Array]()
    for point in best[order[np.isfinite(lengths[order])]]:
        if all(_unit(point) @ _unit(other) < APART for other in kept):
            kept.append(point)
    return np.reshape(kept, (len(kept), z.shape[1]))


def _unit(z: Array) -> Array:
    unit: Array = z / np.linalg.norm(z, axis=-1, keepdims=True)
    return unit


def cost(source: str, shape: Shape) -> int:
    """The FLOPs of a source of directions on networks of this shape."""
    n, passes = shape.widths[0], 6 * sum(a * b for a, b in pairwise(shape.widths))
    root = n**3 // 3 if shape.gaussian_input else 0
    if source == "leading":
        return root + _flops_of_vectors(shape.widths[1], n)
    if source == "gradient":
        outputs = min(shape.widths[-1], PROBES)
        rows = outputs * max(LEAST_POINTS, GRADIENTS // outputs)
        return root + rows * passes + _flops_of_vectors(rows, n)
    return root + (STARTS * STEPS + AROUND) * passes + _flops_of_vectors(AROUND, n)


def _flops_of_vectors(m: int, n: int) -> int:
    """The usual estimate of the FLOPs of singular vectors of a matrix (m, n)."""
    return 4 * m * n * min(m, n)
