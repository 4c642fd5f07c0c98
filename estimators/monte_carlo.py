"""Backend `monte_carlo`: sample means of forward passes, with standard errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cumprop import activations, designs
from cumprop.activations import Activation
from cumprop.designs import SCRAMBLINGS, Inputs
from cumprop.errors import CumpropError
from cumprop.estimator import Cost, Estimate, Estimator, Shape, register
from cumprop.flops import component, counted, counting, plain
from cumprop.networks import MLP
from cumprop.random_networks import stream

Array = NDArray[Any]

EXTRAPOLATIONS = ("none", "gaussian", "cumulant")
_MOST = 10**18
"""Samples: a column of results takes no more."""
_SMALLEST_VARIANCE = 1e-10


@register("monte_carlo")
@dataclass(frozen=True)
class MonteCarlo(Estimator):
    """Averages `n_samples` forward passes, rounded up to whole blocks of the `design`.

    The standard error is the scatter between independent blocks (mathematics §7). Without an `rng`
    the inputs come from `stream(0, width, 1, 0)`. Memory does not grow with n_samples.

    `extrapolate` takes E[X_L] from sample moments of Z_L in place of averages of φ(Z_L), so that
    rare events count before one is seen: `gaussian` from mean and variance, `cumulant` from the
    third cumulant too (mathematics §9). Such estimates have no standard error.

    >>> network = MLP([[[3.0, 4.0]], [[1.0]]])                        # E relu(3 x_1 + 4 x_2) = 1.99
    >>> estimate = MonteCarlo(n_samples=4000, design="orthogonal").estimate(network)
    >>> bool(abs(estimate.mean[0] - 1.9947) < 4 * estimate.stderr[0])
    True
    """

    version: ClassVar[int] = 2
    n_samples: int = 10_000
    design: str = "iid"
    extrapolate: str = "none"

    def __post_init__(self) -> None:
        designs.check_design(self.design)
        if self.extrapolate not in EXTRAPOLATIONS:
            raise CumpropError(
                f"extrapolate {self.extrapolate!r}: choose one of {', '.join(EXTRAPOLATIONS)}"
            )
        if self.extrapolate != "none" and self.design != "iid":
            raise CumpropError("monte_carlo: extrapolate takes its moments from design iid only")
        n = self.n_samples
        if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= _MOST:
            raise CumpropError(f"monte_carlo: n_samples is {n!r}; give a whole number ≥ 1, ≤ 1e18")

    @classmethod
    def from_tolerance(cls, tolerance: float, shape: Shape, **parameters: Any) -> Self:
        """N = ⌈1/ε²⌉, which iid samples need (mathematics §5); other designs do better."""
        if not tolerance > 0:
            raise CumpropError(f"monte_carlo: tolerance is {tolerance!r}; give a number > 0")
        needed = (1 - 1e-12) / tolerance / tolerance
        if needed > _MOST:
            raise CumpropError(f"monte_carlo: tolerance {tolerance} takes {needed:.1g} samples")
        return cls(n_samples=math.ceil(needed), **parameters)

    def supports(self, network: MLP) -> str | None:
        if self.extrapolate != "none" and not network.depth:
            return "extrapolate needs an activation to extrapolate: give a network with one"
        return super().supports(network)

    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        rng = rng or stream(0, network.shape.width, 1, 0)
        if self.extrapolate != "none":
            if cov:
                raise CumpropError("extrapolate gives no covariance: take extrapolate none")
            return self._extrapolated(network, rng)
        layer_sums = [counted(np.zeros(n)) for n in network.widths[1:-1]]
        outputs = _Outputs(network.widths[-1], cov)
        with counting() as flops, np.errstate(over="ignore", invalid="ignore"):
            with component("sampling"):
                inputs = Inputs(network, self.design)
            for batch in inputs.batches(rng, self.n_samples):
                with component("forward"):
                    for layer, (z, x) in enumerate(network.layers(counted(batch.x))):
                        if x is None:
                            with component("statistics"):
                                outputs.add(z, batch.blocks, batch.complete)
                        else:
                            with component("statistics"):
                                layer_sums[layer] += _ones(x) @ x
            with component("statistics"):
                n = outputs.n_samples
                estimate = Estimate(
                    mean=plain(outputs.mean),
                    layer_means=tuple(plain(s / n) for s in layer_sums),
                    cov=plain(outputs.cov(inputs.second_moment)) if cov else None,
                    stderr=plain(outputs.stderr),
                    flops=flops,
                    n_samples=n,
                )
        return _finite(estimate, network)

    def _extrapolated(self, network: MLP, rng: np.random.Generator) -> Estimate:
        """E[X_L] = w(0,1) and, of a third cumulant, κ_3/6 w(3,1); the means before it as ever."""
        body = network.prefix(network.depth - 1)
        layer_sums = [counted(np.zeros(n)) for n in body.widths[1:-1]]
        moments = _Moments(body.widths[-1])
        with counting() as flops, np.errstate(over="ignore", invalid="ignore"):
            with component("sampling"):
                inputs = Inputs(network, self.design)
            for batch in inputs.batches(rng, self.n_samples):
                with component("forward"):
                    for layer, (z, x) in enumerate(body.layers(counted(batch.x))):
                        with component("statistics"):
                            if x is None:
                                moments.add(z)
                            else:
                                layer_sums[layer] += _ones(x) @ x
            with component("statistics"):
                last = moments.expected(network.activations[-1], self.extrapolate == "cumulant")
                means = [s / moments.n_samples for s in layer_sums]
            with component("forward"):
                mean = network.weights[-1] @ last
                if network.biases[-1] is not None:
                    mean += network.biases[-1]
        estimate = Estimate(
            mean=plain(mean),
            layer_means=tuple(map(plain, [*means, last])),
            flops=flops,
            n_samples=moments.n_samples,
        )
        return _finite(estimate, network)

    def independent_samples(self, outputs: Estimate) -> int | None:
        """Its `n_samples`, whatever the design, unless it extrapolates."""
        return self.n_samples if self.extrapolate == "none" else None

    def predict_cost(self, shape: Shape) -> Cost:
        """FLOPs are exact where biases, a mean and a Sigma of full rank are all there or not.

        With extrapolate, the Wick coefficients are left out.
        """
        if self.extrapolate != "none":
            return self._predict_extrapolated(shape)
        n_0, *hidden, n_out = shape.widths
        n = designs.rounded(self.design, n_0, self.n_samples)
        sides = 2 if self.design in designs.MIRRORED else 1
        rows = min(designs.batch_rows(shape, self.design), n // sides)
        batches = sides * -(-n // (sides * rows))
        sobol = self.design == "sobol"
        blocks = SCRAMBLINGS if sobol else n // designs.block_size(self.design, n_0)
        sampling = n * n_0 // 2 if sides == 2 else 0
        if self.design == "orthogonal":
            sampling += blocks * designs.frame_flops(n_0)
        if shape.gaussian_input:
            sampling += n_0**3 // 3 + n // sides * n_0 * (2 * n_0 + 1)
        forward = n * sum(b * (2 * a + shape.biased) for a, b in pairwise(shape.widths))
        for width, name in zip(hidden, shape.activations, strict=True):
            forward += int(n * width * _activation_flops(name))
        statistics = sum(hidden) * (2 * n + batches + 1)
        completed = 1 if sobol else batches // sides
        statistics += n_out * (
            2 * n + 2 * rows + 3 * blocks + completed + (10 if blocks > 1 else 3)
        )

        size = np.dtype(shape.dtype).itemsize
        arrays = 9 if sobol else 5.5  # inputs, activations of two layers, scratch
        peak = int(arrays * size * rows * max(shape.widths))
        if self.design == "antithetic":  # float64 sums of the blocks that go on
            peak += 8 * rows * n_out
        if sobol:
            peak = max(peak, 8500 * n_0)  # SciPy's scrambling
        return Cost(sampling + forward + statistics, peak)

    def _predict_extrapolated(self, shape: Shape) -> Cost:
        """As without, but for the moments of Z_L in place of X_L and the outputs."""
        body = replace(shape, widths=shape.widths[:-1], activations=shape.activations[:-1])
        plain_cost = replace(self, extrapolate="none").predict_cost(body)
        n_last = body.widths[-1]
        return Cost(plain_cost.flops + 4 * self.n_samples * n_last, plain_cost.bytes)


class _Outputs:
    """Moments of the outputs, summed over blocks in float64.

    Outputs are centred on the mean of the first batch, so that float32 keeps their digits.
    """

    def __init__(self, width: int, cov: bool) -> None:
        self.n_samples = self.blocks = 0
        self._shift: Array | None = None
        self._open: Array | None = None  # sums of the blocks that go on
        self._sum, self._squares = counted(np.zeros(width)), counted(np.zeros(width))
        self._products = counted(np.zeros((width, width))) if cov else None

    def add(self, y: Array, blocks: int, complete: bool) -> None:
        """Add outputs (members * blocks, n) as `cumprop.designs.Batch` has them; y is changed."""
        if self._shift is None:
            self._shift = (_ones(y) @ y) / len(y)
        y -= self._shift
        self.n_samples += len(y)
        if self._products is not None:
            self._products += y.T @ y
        alone = blocks == len(y) and self._open is None and complete  # blocks of one input
        members = y.reshape(-1, blocks, y.shape[1])
        sums = y if alone else np.add.reduce(members, axis=0, dtype=np.float64)
        if self._open is not None:
            sums += self._open
        self._open = None if complete else sums
        if complete:
            self.blocks += blocks
            self._sum += _ones(sums) @ sums
            np.square(sums, out=sums)
            self._squares += np.add.reduce(sums, axis=0, dtype=np.float64)

    @property
    def _offset(self) -> Array:
        return np.divide(self._sum, self.n_samples)

    @property
    def mean(self) -> Array:
        assert self._shift is not None
        return np.add(self._offset, self._shift)

    @property
    def stderr(self) -> Array | None:
        """From the variance of block means; None for a single block."""
        if self.blocks < 2:
            return None
        scatter = self._squares - self._sum * self._sum / self.blocks
        size = self.n_samples / self.blocks
        error: Array = np.sqrt(np.maximum(scatter, 0) / (self.blocks * (self.blocks - 1))) / size
        return error

    def cov(self, second_moment: float) -> Array:
        """Cov[Y] over N (not N - 1) samples; `second_moment` as in `cumprop.designs.Inputs`."""
        offset, mean = self._offset[:, None], self.mean[:, None]
        assert self._products is not None
        centred: Array = self._products / self.n_samples - offset @ offset.T
        if second_moment != 1:
            centred += (second_moment - 1) * (centred + mean @ mean.T)
        return centred


class _Moments:
    """Sums of the first three powers, about the mean of the first batch, in float64."""

    def __init__(self, width: int) -> None:
        self.n_samples = 0
        self._shift: Array | None = None
        self._sums = [counted(np.zeros(width)) for _ in range(3)]

    def add(self, z: Array) -> None:
        """Add rows of z, shape (N, n); z is changed."""
        if self._shift is None:
            self._shift = (_ones(z) @ z) / len(z)
        z -= self._shift
        self.n_samples += len(z)
        powers = z
        for i, total in enumerate(self._sums):
            if i:
                powers = powers * z
            total += _ones(z) @ powers

    def expected(self, activation: Activation, third: bool) -> Array:
        """E[φ(Z)] of a Gaussian Z of the sampled mean and variance, or beside it κ_3."""
        assert self._shift is not None
        m1, m2, m3 = (total / self.n_samples for total in self._sums)
        variance = m2 - m1 * m1
        w = activation.wick_table(m1 + self._shift, np.maximum(variance, _SMALLEST_VARIANCE))
        if not third:
            return w(0, 1)
        kappa3 = m3 - 3 * m1 * m2 + 2 * m1 * m1 * m1
        return w(0, 1) + kappa3 / 6 * w(3, 1)


def _finite(estimate: Estimate, network: MLP) -> Estimate:
    if not np.isfinite(estimate.mean).all():
        raise CumpropError(
            f"monte_carlo: forward passes overflow {network.dtype}; "
            "rescale the weights or use float64"
        )
    return estimate


def _ones(rows: Array) -> Array:
    return np.ones(len(rows), rows.dtype)


def _activation_flops(name: str) -> float:
    """FLOPs per neuron, counted on a few; 1 for a function unknown by name."""
    try:
        activation = activations.get(name)
    except CumpropError:
        return 1.0
    z = counted(np.linspace(-1, 1, 64))
    with counting() as flops:
        activation.forward(z)
    return flops.total / len(z)
