"""Backend `monte_carlo`: sample means of forward passes, with standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from cumprop import streams
from cumprop.activations import stand_in
from cumprop.contract import Cost, Estimate, Estimator, register
from cumprop.errors import CumpropError
from cumprop.flops import component, counted, counting, plain
from cumprop.networks import MLP, Shape
from cumprop.sampling import (
    SCRAMBLINGS,
    Base,
    Inputs,
    Passes,
    check_finite,
    designs,
    keeping_digits,
)

from .sums import Moments, Of, Outputs, Sums

Array = NDArray[Any]

EXTRAPOLATIONS = ("none", "gaussian", "cumulant")
_MOST = 10**18
"""The largest number of samples that a column of results can hold."""
FEWEST_OF_SHARE = 64
"""The fewest samples of a component of a mixture."""


@register("monte_carlo")
@dataclass(frozen=True)
class MonteCarlo(Estimator):
    """The average of `n_samples` forward passes, rounded up to whole blocks of the `design`.

    The standard error is the scatter between independent blocks (mathematics §7). Without an `rng`
    the inputs are those of seed 0. Memory does not grow with n_samples.

    `extrapolate` computes E[X_L] from sample moments of Z_L instead of averages of φ(Z_L), so that
    rare events count before one is seen: `gaussian` uses mean and variance, `cumulant` the third
    cumulant too (mathematics §9). Such estimates have no standard error. Raises CumpropError for
    unknown designs, n_samples out of range, and `extrapolate` with a covariance or another design
    than iid.
    Cost: 2 n_samples Σ_l n_l n_{l-1} FLOPs and the activations; a covariance 2 n_samples n_{L+1}².

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
        """The instance with N = ⌈1/ε²⌉ samples, as iid inputs need (mathematics §5).

        Other designs need fewer. Raises CumpropError for a tolerance that is not > 0 or too small.
        """
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
        rng = rng or streams.sampling(0, network.shape.width)
        if self.extrapolate != "none":
            if cov:
                raise CumpropError("extrapolate gives no covariance: take extrapolate none")
            return self._extrapolated(network, rng)
        with counting() as flops, np.errstate(over="ignore", invalid="ignore"):
            sums = self._sums(network, rng, lambda base: Outputs(network.widths[-1], cov, base))
            with component("statistics"):
                outputs = sums.outputs
                estimate = Estimate(
                    mean=plain(outputs.mean),
                    layer_means=tuple(map(plain, sums.layer_means)),
                    cov=plain(outputs.cov(sums.second_moment)) if cov else None,
                    stderr=plain(outputs.stderr),
                    flops=flops,
                    n_samples=outputs.n_samples,
                )
        return _with_interval(_finite(estimate, network), outputs.blocks)

    def _extrapolated(self, network: MLP, rng: np.random.Generator) -> Estimate:
        """The estimate with E[X_L] = w(0,1) and, with a third cumulant, + κ_3/6 w(3,1)."""
        body = network.prefix(network.depth - 1)
        with counting() as flops, np.errstate(over="ignore", invalid="ignore"):
            sums = self._sums(body, rng, lambda base: Moments(body.widths[-1], base))
            moments = sums.outputs
            with component("statistics"):
                last = moments.expected(network.activations[-1], self.extrapolate == "cumulant")
                means = sums.layer_means
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

    def _sums(
        self, network: MLP, rng: np.random.Generator, start: Callable[[Array | None], Of]
    ) -> Sums[Of]:
        """Take all forward passes; `start` makes the sums of outputs, given their base or None."""

        def take(inputs: Inputs, passes: Passes, base: Base | None) -> Sums[Of] | None:
            sums = Sums(network, base, start(None if base is None else base[-1][0]))
            return sums if sums.add(inputs, rng, self.n_samples, passes) else None

        return keeping_digits(network, self.design, rng, take)

    def with_share(self, share: float) -> Estimator:
        """As many samples as the share asks for, at least 64, which show their own error."""
        return replace(self, n_samples=max(FEWEST_OF_SHARE, round(share * self.n_samples)))

    def over_rows(self, n_rows: int) -> Estimator:
        """The same estimator, which averages over all rows, or `n_samples` if there are more."""
        return self

    def independent_samples(self, outputs: Estimate) -> int | None:
        """The `n_samples` of the estimate, for every design, unless it extrapolates."""
        return self.n_samples if self.extrapolate == "none" else None

    def predict_cost(self, shape: Shape) -> Cost:
        """FLOPs and bytes; FLOPs are exact if biases, mean and a Σ0 of full rank are all given.

        They are exact also if none is given, and an upper bound for a diagonal Σ0, which the shape
        does not show. With `extrapolate`, the Wick coefficients are left out.
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
        forward = n * (2 * sum(shape.products) + shape.biased * sum(shape.widths[1:]))
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
        """The cost with `extrapolate`: moments of Z_L in place of X_L and the outputs."""
        body = replace(shape, widths=shape.widths[:-1], activations=shape.activations[:-1])
        plain_cost = replace(self, extrapolate="none").predict_cost(body)
        n_last = body.widths[-1]
        return Cost(plain_cost.flops + 4 * self.n_samples * n_last, plain_cost.bytes)


def _with_interval(estimate: Estimate, blocks: int) -> Estimate:
    """The estimate with half widths by Student's t of the block means, and its expected error."""
    if estimate.stderr is None:
        return estimate
    half_width, error = stdtrit(blocks - 1, 0.975) * estimate.stderr, None
    if estimate.cov is not None:
        unit = float(np.maximum(np.diagonal(estimate.cov), 0).sum(dtype=np.float64))
        noise = float(np.square(estimate.stderr, dtype=np.float64).sum())
        error = math.sqrt(noise / unit) if unit > 0 else 0.0
    return replace(estimate, half_width=half_width, expected_error=error)


def _finite(estimate: Estimate, network: MLP) -> Estimate:
    check_finite(estimate.mean, network.dtype, "monte_carlo: ")
    return estimate


def _activation_flops(name: str) -> float:
    """FLOPs per neuron, counted on a few neurons."""
    activation = stand_in(name)
    z = counted(np.linspace(-1, 1, activation.neurons or 64))
    with counting() as flops:
        activation.forward(z)
    return flops.total / len(z)
