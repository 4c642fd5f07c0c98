"""Sums over forward passes: of outputs, or of the moments of the last hidden layer."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import Activation, unit_power
from cumprop.flops import component, counted
from cumprop.networks import MLP
from cumprop.sampling import Base, Batch, Centring, Inputs, Passes

Array = NDArray[Any]


class OfOutputs(Protocol):
    """Sums of outputs, over `n_samples` so far."""

    n_samples: int

    def add(self, y: Array, batch: Batch, /) -> bool:
        """Add the outputs of a batch; return False where they lose their digits."""


Of = TypeVar("Of", bound=OfOutputs)


class Sums(Generic[Of]):
    """Sums over forward passes, of layers and by `outputs`; deviations from a `base`, if any."""

    def __init__(self, network: MLP, base: Base | None, outputs: Of) -> None:
        self.outputs, self._base = outputs, base
        self._layers = [counted(np.zeros(n)) for n in network.widths[1:-1]]
        self.second_moment = 1.0

    def add(self, inputs: Inputs, rng: np.random.Generator, n_samples: int, passes: Passes) -> bool:
        """Run all passes; return False if the first batch shows that they lose their digits."""
        self.second_moment = inputs.second_moment
        for batch in inputs.batches(rng, n_samples):
            with component("forward"):
                for layer, (z, x) in enumerate(passes(counted(batch.x))):
                    with component("statistics"):
                        if x is not None:
                            self._layers[layer] += _ones(x) @ x
                        elif not self.outputs.add(z, batch):
                            return False
        return True

    @property
    def layer_means(self) -> list[Array]:
        means = [total / self.outputs.n_samples for total in self._layers]
        if self._base is None:
            return means
        hidden = [x for _, x in self._base if x is not None]
        return [x + mean for x, mean in zip(hidden, means, strict=True)]


class Outputs:
    """Moments of the outputs, summed over blocks in float64.

    Outputs are centred on the mean of the first batch, so that float32 keeps their digits, or are
    deviations from `base` already.
    """

    def __init__(self, width: int, cov: bool, base: Array | None) -> None:
        self.n_samples = self.blocks = 0
        self._centring = Centring(base)
        self._open: Array | None = None  # sums of the blocks that go on
        self._sum, self._squares = counted(np.zeros(width)), counted(np.zeros(width))
        self._products = counted(np.zeros((width, width))) if cov else None

    def add(self, y: Array, batch: Batch) -> bool:
        """Add the outputs y of a batch, (members * blocks, n); y is changed.

        The result is False where the first outputs lose their digits.
        """
        if not self._centring.apply(y):
            return False
        self.n_samples += len(y)
        if self._products is not None:
            self._products += y.T @ y
        alone = batch.blocks == len(y) and self._open is None and batch.complete
        members = y.reshape(-1, batch.blocks, y.shape[1])
        sums = y if alone else np.add.reduce(members, axis=0, dtype=np.float64)
        if self._open is not None:
            sums += self._open
        self._open = None if batch.complete else sums
        if batch.complete:
            self.blocks += batch.blocks
            self._sum += _ones(sums) @ sums
            np.square(sums, out=sums)
            self._squares += np.add.reduce(sums, axis=0, dtype=np.float64)
        return True

    @property
    def _offset(self) -> Array:
        return np.divide(self._sum, self.n_samples / self._centring.unit)

    @property
    def mean(self) -> Array:
        return np.add(self._offset, self._centring.shift)

    @property
    def stderr(self) -> Array | None:
        """The standard error from the variance of block means; None for a single block."""
        if self.blocks < 2:
            return None
        scatter = self._squares - self._sum * self._sum / self.blocks
        size = self.n_samples / self.blocks / self._centring.unit
        error: Array = np.sqrt(np.maximum(scatter, 0) / (self.blocks * (self.blocks - 1))) / size
        return error

    def cov(self, second_moment: float) -> Array:
        """The covariance Cov[Y] over N (not N - 1) samples.

        `second_moment` is the factor of `cumprop.sampling.Inputs`.
        """
        offset, mean = self._offset[:, None], self.mean[:, None]
        assert self._products is not None
        unit = self._centring.unit
        products = self._products / self.n_samples * unit * unit
        centred: Array = products - offset @ offset.T
        if second_moment != 1:
            centred += (second_moment - 1) * (centred + mean @ mean.T)
        return centred


class Moments:
    """Sums of the first three powers, centred as `Outputs`, in float64."""

    def __init__(self, width: int, base: Array | None) -> None:
        self.n_samples = 0
        self._centring = Centring(base)
        self._sums = [counted(np.zeros(width)) for _ in range(3)]

    def add(self, z: Array, batch: Batch) -> bool:
        """Add rows of z, (N, n); z is changed; return False where the first lose their digits."""
        if not self._centring.apply(z):
            return False
        self.n_samples += len(z)
        powers = z
        for i, total in enumerate(self._sums):
            if i:
                powers = powers * z
            total += _ones(z) @ powers
        return True

    def expected(self, activation: Activation, third: bool) -> Array:
        """The expectation E[φ(Z)] for sampled mean and variance of Z, and with `third` for κ_3."""
        unit, shift = self._centring.unit, self._centring.shift
        m1, m2, m3 = (
            total * (unit_power(unit, p) / self.n_samples)
            for p, total in enumerate(self._sums, start=1)
        )
        mean, variance = m1 + shift, m2 - m1 * m1
        constant = variance <= 0
        w = activation.wick_table(mean, np.where(constant, 1.0, variance))
        expected = w(0, 1)
        if third:
            kappa3 = m3 - 3 * m1 * m2 + 2 * m1 * m1 * m1
            expected = expected + kappa3 / 6 * w(3, 1)
        return np.where(constant, activation.forward(mean), expected)


def _ones(rows: Array) -> Array:
    return np.ones(len(rows), rows.dtype)
