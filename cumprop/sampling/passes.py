"""Forward passes near one input, as deviations from it, which lose no digits (mathematics §7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import convenient_unit
from cumprop.errors import CumpropError
from cumprop.flops import component, counted, plain
from cumprop.inputs import Empirical
from cumprop.networks import MLP
from cumprop.sampling.designs import Inputs

Array = NDArray[Any]
Passes = Callable[[Array], Iterator[tuple[Array, Array | None]]]
"""`MLP.layers`, or `Around.layers`."""
Base = list[tuple[Array, Array | None]]
"""The pairs (Z_l, X_l) of vectors of each layer at one input; then (Y, None)."""
Sums = TypeVar("Sums")


def check_finite(values: Array, dtype: Any, name: str = "") -> None:
    """Raise CumpropError where numbers of forward passes, of any shape, are not finite."""
    if not np.isfinite(values).all():
        raise CumpropError(
            f"{name}forward passes overflow {dtype}; rescale the weights or use float64"
        )


def pulled_back(network: MLP, before: Sequence[Array], slopes: Array) -> Array:
    """The gradients by the inputs, (N, n_0), of sums Σ slopes · Y of the outputs, slopes (N, n).

    `before` are Z_1..Z_L at the inputs, (N, n_l) each, of a forward pass.
    """
    for z, w, activation in zip(
        before[::-1], network.weights[:0:-1], network.activations[::-1], strict=True
    ):
        slopes = (slopes @ w) * activation.derivative(z)
    return slopes @ network.weights[0]


class Around:
    """The deviations f(μ + h) - f(μ) of a network from its mean input, layer by layer.

    Where h is small beside μ, or its effect small beside the biases, forward passes in float32 give
    only rounding; deviations keep all digits. Cost: a pass, and some 30 to 50 FLOPs more per
    neuron.

    >>> import cumprop
    >>> near = Around(cumprop.MLP([[[1.0, 1.0]], [[2.0]]], activations="tanh", input_mean=0.5))
    >>> h = 1e-12 * np.ones((1, 2))
    >>> *_, (change, _) = near.layers(h)
    >>> round(float(change[0, 0] / 1e-12), 6), round(float(4 * (1 - np.tanh(1.0) ** 2)), 6)
    (1.679897, 1.679897)
    """

    def __init__(self, network: MLP) -> None:
        self._network = network

    @cached_property
    def offsets(self) -> MLP:
        """The network whose inputs are h; its mean is an explicit 0, so that no radius is fixed."""
        law = self._network.input
        if isinstance(law, Empirical):
            return self._network.replace(input=Empirical(np.asarray(law.rows) - law.mean))
        return self._network.replace(input_mean=0.0)

    @cached_property
    def base(self) -> Base:
        """The pass at the mean input."""
        mean, dtype = self._network.input_mean, self._network.dtype
        point = np.zeros(self._network.widths[0], dtype) if mean is None else mean.astype(dtype)
        return [
            (z[0], None if x is None else x[0])
            for z, x in self._network.layers(counted(point[None]))
        ]

    def layers(self, h: Array) -> Iterator[tuple[Array, Array | None]]:
        """The changes (ΔZ_l, ΔX_l), (N, n_l), for rows h, (N, n_0), then (ΔY, None)."""
        change = h
        activations = [*self._network.activations, None]
        for weight, activation, (z, _) in zip(
            self._network.weights, activations, self.base, strict=True
        ):
            dz = change @ weight.T
            if activation is None:
                yield dz, None
            else:
                change = activation.difference(z.astype(dz.dtype), dz)
                yield dz, change


def keeping_digits(
    network: MLP,
    design: str,
    rng: np.random.Generator,
    take: Callable[[Inputs, Passes, Base | None], Sums | None],
) -> Sums:
    """The sums that `take` collects over the forward passes of a design's inputs.

    `take` is called with the inputs, the passes and None, and may return None where these passes
    lose their digits (`loses_digits`). It is then called with the same inputs as offsets, the
    deviations of their passes, and the pass that they deviate from.
    """
    before = rng.bit_generator.state
    with component("sampling"):
        inputs = Inputs(network, design)
    sums = take(inputs, network.layers, None)
    if sums is None:
        rng.bit_generator.state = before
        near = Around(network)
        with component("sampling"):
            inputs = Inputs(near.offsets, design)
        sums = take(inputs, near.layers, near.base)
        assert sums is not None
    return sums


class Centring:
    """Centres outputs on the mean of their first batch, in a unit in which they are about 1.

    Float32 then keeps the digits of their squares: y = shift + unit · (changed y). Deviations from
    a `base`, (n,), and all outputs if `centre` is False, are only scaled.
    """

    def __init__(self, base: Array | None, centre: bool = True) -> None:
        self._shift, self.unit = base, 1.0
        self._centred = base is None and centre
        self._begun = False

    @property
    def shift(self) -> Array:
        """The shift, (n,), known after the first batch."""
        assert self._shift is not None
        return self._shift

    def apply(self, y: Array) -> bool:
        """Centre and scale rows y, (m, n), in place; False if the first rows lose their digits."""
        if self._shift is None:
            self._shift = np.zeros_like(y, shape=y.shape[1])
            if self._centred:
                constant = (plain(y) == plain(y)[0]).all(axis=0)
                self._shift = (np.ones(len(y), y.dtype) @ y) / len(y)
                self._shift[constant] = y[0, constant]
        if self._centred:
            y -= self.shift
        if not self._begun:
            self._begun = True
            if self._centred and loses_digits(y, self.shift):
                return False
            self.unit = convenient_unit(float(np.abs(plain(y)).max()), y.dtype)
        if self.unit != 1:
            y *= 1 / self.unit
        return True


def loses_digits(deviations: Array, size: Array) -> bool:
    """Whether half of the digits of the deviations from `size` are rounding, by their RMS.

    The result is False for a single row.
    """
    if len(deviations) < 2:
        return False
    rms, whole = (
        float(np.sqrt(np.mean(np.square(plain(a), dtype=np.float64)))) for a in (deviations, size)
    )
    return bool(rms < float(np.finfo(deviations.dtype).eps) ** 0.5 * whole)
