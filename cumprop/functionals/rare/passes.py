"""Forward and backward passes of the excess g of an event as a function of z ~ N(0, I)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import component, counted, not_counting, on_host, plain
from cumprop.functionals.rare.event import Event
from cumprop.networks import MLP, gaussian_parts
from cumprop.sampling import check_finite, pulled_back, standardised
from cumprop.sampling.designs import BATCH_ELEMENTS, normals

Array = NDArray[Any]

COST_OF_SLOPES = 3
"""The passes that an excess with its gradient counts as."""


class Excess:
    """The excess g(z) of an event of a network, and its gradient; `passes` counts the inputs.

    `network` has the output row · y and the input z, `to_input` is the map from z to the input x.
    `n` is the length of z. Values are float64, the passes those of the network's type.
    """

    def __init__(self, network: MLP, event: Event, to_input: MLP) -> None:
        self.event = event
        self.passes = 0
        self._network = network
        self._to_input = to_input
        self.n, self.dtype = network.widths[0], network.dtype
        self.differentiable = all(a.differentiable for a in network.activations)
        self._rows = max(BATCH_ELEMENTS // max(network.widths), 1)

    def draw(self, number: int, rng: np.random.Generator) -> Array:
        """Samples of N(0, I), (number, n)."""
        z = np.empty((number, self.n), self.dtype)
        normals(rng, z)
        return z

    def __call__(self, z: Array) -> Array:
        """The excess, (N,), of points z, (N, n). Raises CumpropError where passes overflow."""
        self.passes += len(z)
        found = [self.event.excess(self._forward(part)[-1]) for part in self._batches(z)]
        return np.concatenate(found)

    def slopes(self, z: Array) -> tuple[Array, Array]:
        """The excess, (N,), and its gradient, (N, n), of points z, (N, n); raises likewise."""
        self.passes += COST_OF_SLOPES * len(z)
        values, gradients = [], []
        for part in self._batches(z):
            *hidden, u = self._forward(part)
            values.append(self.event.excess(u))
            with component("backward"):
                slope = counted(self.event.slope(u).astype(self.dtype))[:, None]
                before = [counted(z) for z in hidden]
                gradients.append(plain(pulled_back(self._network, before, slope)))
        return np.concatenate(values), np.concatenate(gradients).astype(np.float64)

    def inputs(self, z: Array) -> Array:
        """The inputs x of the network, (N, n_0), for points z, (N, n)."""
        with not_counting():
            return self._to_input.forward(z)

    def _batches(self, z: Array) -> list[Array]:
        z = z.astype(self.dtype, copy=False)
        return [z[start : start + self._rows] for start in range(0, max(len(z), 1), self._rows)]

    def _forward(self, z: Array) -> list[Array]:
        """The arrays Z_l of every layer, then row · y in float64, (N,)."""
        with component("forward"), np.errstate(over="ignore", invalid="ignore"):
            *hidden, y = [plain(before) for before, _ in self._network.layers(counted(z))]
        check_finite(y, self.dtype)
        return [*hidden, y[:, 0].astype(np.float64)]


def parts(network: MLP, event: Event) -> list[tuple[float, Excess]]:
    """The weights and excesses of the components of the input's law, in NumPy.

    The map from z to the input is the network of no hidden layers whose output is its input.
    """
    *weights, last = map(on_host, network.weights)
    *biases, bias = (None if b is None else on_host(b) for b in network.biases)
    dtype = network.dtype
    row = MLP(
        [*weights, (event.row[None] @ last).astype(dtype)],
        [*biases, None if bias is None else (event.row[None] @ bias).astype(dtype)],
        network.activations,
        input=network.input,
    )
    unit = np.eye(network.widths[0], dtype=dtype)
    with not_counting():
        to_input = gaussian_parts(row.replace(weights=[unit], biases=None, activations=[]))
        return [
            (weight, Excess(standardised(part)[0], event, standardised(same)[0]))
            for (weight, part), (_, same) in zip(gaussian_parts(row), to_input, strict=True)
        ]
