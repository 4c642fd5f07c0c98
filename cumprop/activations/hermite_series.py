"""Covariances after a smooth activation, from its values at nodes that neurons share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import counted, plain

Array = NDArray[Any]

COARSEST, FINEST = 50, 6400
_SIZES = [
    round(COARSEST * 2 ** (k / 4)) for k in range(1 + round(4 * math.log2(FINEST / COARSEST)))
]
"""Equidistant nodes on either side of the mean."""
BLOCK = 10
"""The number of terms of the series that are computed at a time."""
_HELD, _LITTLE = 2**19, 2**12
"""Numbers held at a time: 4 MiB, and 32 KiB."""


class HermiteSeries:
    """Values of φ_i(μ_i + σ_i x) less its mean, for every neuron i, and covariances from them.

    Parameters of neurons are arrays (n,). `function` takes arguments, (m, …), and the m neurons
    that their rows belong to, as `Activation.of_neurons`. The number of nodes x of a neuron grows
    until mean and `variance` are right to `tolerance`; φ² is analytic where φ is, so that the nodes
    serve the terms a_k = E[φ He_k]/√k! too. `converged` is False where the finest nodes do not
    suffice; `coarse` is True where the coarsest do. `resolution` is the error of the terms, per
    neuron in units of its variance. Cost: about 16 FLOPs per neuron and node.

    >>> zero, one = np.zeros(1), np.ones(1)
    >>> variance = one * (1 - np.exp(-2)) / 2
    >>> series = HermiteSeries(lambda z, neurons: np.sin(z), zero, one, zero, variance, 1e-10)
    >>> series.terms(1, 4)[::2].ravel().round(4).tolist()           # a_1, a_3: e^(-1/2), -a_1/√6
    [0.6065, -0.2476]
    """

    def __init__(
        self,
        function: Callable[[Array, Array], Array],
        mean: Array,
        sigma: Array,
        centre: Array,
        variance: Array,
        tolerance: float,
    ) -> None:
        self._function = function
        self._mean, self._sigma, self._centre = mean, sigma, centre
        self._bandwidth = math.sqrt(2 * math.log(1 / tolerance))
        self.resolution = tolerance * np.maximum(plain(variance), 0) + 1e-13 * plain(centre) ** 2
        self._allowed = np.stack(
            [
                tolerance * np.sqrt(np.maximum(plain(variance), 0)) + 1e-13 * np.abs(plain(centre)),
                self.resolution,
            ]
        )
        self._expected = np.stack([np.zeros_like(plain(variance)), plain(variance)])
        self._groups: list[_Nodes] = []
        self._group_of = np.zeros(len(plain(mean)), int)
        self._group()
        self.converged = sum(len(group.neurons) for group in self._groups) == len(plain(mean))
        self.coarse = self.converged and all(len(g.x) <= 2 * COARSEST + 1 for g in self._groups)
        self._sizes = np.array([len(group.x) for group in self._groups])

    def _group(self) -> None:
        """Find the nodes of every neuron; their number grows with its standard deviation."""
        sigma = plain(self._sigma)
        widest, left = np.array([np.argmax(sigma)]), np.arange(len(sigma))
        begin = np.zeros(len(sigma))
        for per_side in _SIZES:
            if self._suffice(widest, self._nodes(per_side)).all():
                begin = 0.8 * per_side * sigma / sigma[widest]
                break
        for per_side in _SIZES:
            nodes = self._nodes(per_side)
            tried = left[begin[left] <= per_side]
            done = tried[self._suffice(tried, nodes)]
            if len(done):
                nodes.neurons = done
                self._group_of[done] = len(self._groups)
                self._groups.append(nodes)
                left = np.setdiff1d(left, done)
            if not len(left):
                break

    def _nodes(self, per_side: int) -> _Nodes:
        return _Nodes(per_side, math.sqrt(2) * self._bandwidth)

    def _suffice(self, neurons: Array, nodes: _Nodes) -> Array:
        """Whether mean and variance of these neurons are right to the tolerance."""
        off = np.abs(self._moments(neurons, nodes) - self._expected[:, neurons])
        suffice: Array = (off <= self._allowed[:, neurons]).all(axis=0)
        return suffice

    def _moments(self, neurons: Array, nodes: _Nodes) -> Array:
        """First and second moments, (2, neurons), in little memory (`predict_cost` omits it)."""
        found = np.empty((2, len(neurons)))
        size = max(1, _LITTLE // len(nodes.x))
        for start in range(0, len(neurons), size):
            part = slice(start, start + size)
            values = self._at(neurons[part], nodes.x)
            found[0, part] = plain(values @ nodes.weights)
            values *= values
            found[1, part] = plain(values @ nodes.weights)
        return found

    def _weighted(self, group: _Nodes) -> Array:
        """Values times the roots of the weights, of all neurons of a group."""
        if group.weighted is None:
            group.weighted = self._at(group.neurons, group.x)
            group.weighted *= group.root
        return group.weighted

    def _columns(self, neurons: Array) -> Iterator[Array]:
        """Mean, s.d. and centre of these neurons, (neurons, 1) each."""
        return (counted(a[neurons])[:, None] for a in (self._mean, self._sigma, self._centre))

    def _at(self, neurons: Array, x: Array) -> Array:
        mean, sigma, centre = self._columns(neurons)
        found: Array = counted(self._function(mean + sigma * x, neurons) - centre)
        return found

    def terms(self, start: int, stop: int, neurons: Array | None = None) -> Array:
        """The terms a_k for start ≤ k < stop, (m, n), m = stop - start.

        The n neurons are `neurons`, indices of shape (n,), or all.

        Cost: 2 FLOPs per term, node and neuron.
        """
        found = np.zeros((stop - start, len(self._group_of)))
        asked = np.ones(len(self._group_of), bool)
        if neurons is not None:
            asked[:] = False
            asked[neurons] = True
        for group in self._groups:
            functions = group.functions(start, stop)
            rows = asked[group.neurons]
            found[:, group.neurons[rows]] = plain(functions @ self._weighted(group)[rows].T)
        return counted(found)

    def flops_of_terms(self, neurons: Array) -> float:
        """FLOPs of the next `BLOCK` terms of `neurons`, indices of shape (n,)."""
        return float(2 * BLOCK * np.sum(self._sizes[self._group_of[neurons]]))

    def flops_of_pairs(self, i: Array, j: Array, rho: Array) -> float:
        """The approximate FLOPs of `pairs` for the same arguments, (m,) each."""
        first, second = self._ordered(i, j)
        sizes = self._sizes[self._group_of[first]]
        return float(4 * np.sum(sizes * (2 * self._half(second, _rest(rho)) + 1)))

    def _ordered(self, i: Array, j: Array) -> tuple[Array, Array]:
        """The pairs with the neuron first that has more nodes, which resolve both at ρ = 1."""
        swapped = self._sizes[self._group_of[i]] < self._sizes[self._group_of[j]]
        return np.where(swapped, j, i), np.where(swapped, i, j)

    def _half(self, neurons: Array, rest: Array) -> Array:
        """Nodes on either side for a conditional law of s.d. `rest`, in units of the neuron's."""
        steps = np.array([group.step for group in self._groups])[self._group_of[neurons]]
        c = self._bandwidth
        half: Array = np.ceil(c * (math.pi * rest / steps + c) / (2 * math.pi)).astype(int)
        return half

    def pairs(self, i: Array, j: Array, rho: Array) -> Array:
        """The covariances of φ(Z_i) and φ(Z_j), (m,), for pairs of any correlation.

        `i` and `j` are the neurons of m pairs, (m,), and `rho` their correlations, (m,).
        E[φ(Z_j) | Z_i] is a sum over nodes, fewer the nearer |ρ| is to 1; pairs with equally many
        nodes are computed together. Cost: 4 FLOPs per node and conditional node, where φ takes 1.
        """
        found, rest = np.empty(len(rho)), _rest(rho)
        first, second = self._ordered(i, j)
        halves, groups = self._half(second, rest), self._group_of[first]
        order = np.lexsort((halves, groups))[::-1]
        while len(order):  # those of a group from the widest conditional law on
            group, half = self._groups[groups[order[0]]], halves[order[0]]
            size = max(1, _HELD // (len(group.x) * (2 * half + 1)))
            alike = (groups[order[:size]] == groups[order[0]]) & (halves[order[:size]] > 0.8 * half)
            some, order = order[:size][alike], order[np.count_nonzero(alike) :]
            y = np.linspace(-self._bandwidth, self._bandwidth, 2 * half + 1)
            weights = _density(y) / _density(y).sum()
            mean, sigma, centre = self._columns(second[some])
            along = mean + sigma * (counted(rho[some])[:, None] * group.x)
            across = sigma * (counted(rest[some])[:, None] * y)
            z = along[:, :, None] + across[:, None, :]
            inner = self._function(z, second[some]) @ weights - centre
            outer = self._weighted(group)[np.searchsorted(group.neurons, first[some])]
            found[some] = plain((outer * inner) @ group.root)
        return found


class _Nodes:
    """Equidistant nodes, the square roots of their weights, and the neurons that they suffice."""

    def __init__(self, per_side: int, far: float) -> None:
        self._per_side, self._far = per_side, far
        self.x = np.linspace(-far, far, 2 * per_side + 1)
        self.step = far / per_side
        self.weights = self.step * _density(self.x)
        self.root = np.sqrt(self.weights)
        self.neurons = np.arange(0)
        self.weighted: Array | None = None

    def functions(self, start: int, stop: int) -> Array:
        """The functions He_k/√k! times the root of the weights, (stop - start, nodes)."""
        return counted(_functions(self._per_side, self._far, start, stop))


@lru_cache(maxsize=32)
def _functions(per_side: int, far: float, start: int, stop: int) -> Array:
    """The same by number of nodes; like the nodes, they are no FLOPs of an estimate."""
    nodes = _Nodes(per_side, far)
    below, psi = np.zeros_like(nodes.root), nodes.root
    rows = []
    for k in range(stop):
        if k >= start:
            rows.append(psi)
        below, psi = psi, (nodes.x * psi - math.sqrt(k) * below) / math.sqrt(k + 1)
    return np.array(rows)


def _rest(rho: Array) -> Array:
    """The standard deviation √(1 - ρ²) of one variable given the other."""
    rest: Array = np.sqrt(1 - np.minimum(rho * rho, 1))
    return rest


def _density(x: Array) -> Array:
    density: Array = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return density
