"""Backend `importance`: tail probabilities by inputs that are drawn where each tail is likely."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from cumprop import streams
from cumprop.contract import Cost, Estimate, Estimator, register
from cumprop.errors import CumpropError
from cumprop.flops import component, count, counting
from cumprop.networks import Shape
from cumprop.sampling import standardised
from cumprop.sampling.designs import BATCH_ELEMENTS
from cumprop.sampling.tails import PILOT, Surrogates

if TYPE_CHECKING:
    from cumprop.networks import MLP

Array = NDArray[Any]

_OF_EIGENVECTORS = 9
"""FLOPs of all eigenvectors of a symmetric matrix, over n³."""


@register("importance")
@dataclass(frozen=True)
class Importance(Estimator):
    """The weighted average of `n_samples` inputs for every step of the last hidden layer.

    The inputs of a neuron come from its own exponential tilt towards the step (mathematics §9), so
    that 4,000 of them give its probability to 5% to 30%, down to 1e-8. A neuron whose step no input
    reached has the probability 0 and a warning. This is how `readout: tail(t)` has its truth
    sampled. Tilts are chosen by 16,384 plain samples, whose averages are the means of the other
    hidden layers. Supports networks whose last activations are steps, as `MLP.above` makes them,
    and gives no covariance: neurons do not share inputs. Raises CumpropError for fewer than two
    samples.
    Cost: 16,384 forward passes, and of every neuron n_samples, 2 L n³ FLOPs, L without the layer of
    steps, and the eigenvectors of an n × n matrix.

    >>> import cumprop
    >>> tail = cumprop.MLP([[[3.0, 4.0]]]).above(25.0)                 # 5 s.d.: 2.87e-7
    >>> found = cumprop.estimate(tail, "importance", n_samples=4000)
    >>> bool(abs(found.mean[0] - 2.87e-7) < 4 * found.stderr[0] < 1e-7)
    True
    """

    version: ClassVar[int] = 1
    n_samples: int = 1000

    def __post_init__(self) -> None:
        if self.n_samples < 2:
            raise CumpropError(f"n_samples is {self.n_samples}; give a number ≥ 2")

    def supports(self, network: MLP) -> str | None:
        if not network.depth or network.activations[-1].name != "heaviside":
            return "importance samples steps: give MLP.above(t) or readout tail(t), or monte_carlo"
        return super().supports(network)

    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        if reason := self.supports(network):
            raise CumpropError(reason)
        if cov:
            raise CumpropError("importance draws other inputs for each neuron: take monte_carlo")
        rng = rng or streams.sampling(0, network.shape.width)
        with counting() as flops:
            below, _ = standardised(network.prefix(network.depth - 1))
            surrogates = Surrogates(below, rng)
            drawn = [self._weighted(below, surrogates, i, rng) for i in range(below.widths[-1])]
            for name, number in self._flops(replace(below.shape, entries=None)).items():
                with component(name):
                    count(number)
        (p, deviation), last = np.array(drawn).T, network.weights[-1].astype(np.float64)
        error, bare = deviation / sqrt(self.n_samples), np.flatnonzero(p == 0)
        bias = network.biases[-1]
        stderr = np.sqrt(last**2 @ error**2)
        return Estimate(
            mean=last @ p + (0.0 if bias is None else bias),
            layer_means=(*surrogates.layer_means, p),
            stderr=stderr,
            half_width=float(stdtrit(self.n_samples - 1, 0.975)) * stderr,
            flops=flops,
            n_samples=self.n_samples,
            status=f"warning: no input reached the step of neuron {bare[0]}; raise n_samples"
            if len(bare)
            else "ok",
        )

    def _weighted(
        self, below: MLP, surrogates: Surrogates, i: int, rng: np.random.Generator
    ) -> tuple[float, float]:
        """Mean and standard deviation of the weights of inputs with Y_i > 0, 0 of others."""
        tilt, rows = surrogates.tilt(i, 0.0), max(BATCH_ELEMENTS // max(below.widths), 1)
        rotated = tilt.rotated(below, i)
        parts = []
        for start in range(0, self.n_samples, rows):
            y = tilt.sample(rng, min(rows, self.n_samples - start), below.dtype)
            parts.append(tilt.weights(y, rotated, 0.0))
        weights = np.concatenate(parts)
        return float(weights.mean()), float(weights.std(ddof=1))

    def independent_samples(self, outputs: Estimate) -> int | None:
        """The `n_samples` of each neuron."""
        return self.n_samples

    def predict_cost(self, shape: Shape) -> Cost:
        """The FLOPs that are counted, and the bytes of pilot, Jacobians and one batch."""
        widths, activations = shape.widths[:-1], shape.activations[:-1]
        below = replace(shape, widths=widths, activations=activations, entries=None)
        root = shape.widths[0] ** 3 // 3 if shape.gaussian_input else 0
        widest, size = max(below.widths), np.dtype(shape.dtype).itemsize
        numbers = 4 * PILOT * widest + 2 * len(below.widths) * widest**2 + 8 * BATCH_ELEMENTS
        return Cost(root + sum(self._flops(below).values()), size * numbers + 24 * self.n_samples)

    def _flops(self, below: Shape) -> dict[str, int]:
        """The FLOPs of the pilot, of all tilts, and of all weighted samples."""
        n_0, *_, n = below.widths
        layers = sum(below.products)
        hidden = sum(below.widths[1:-1])
        of_one = layers - below.widths[-2] * (n - 1)
        tilt = 2 * n_0**2 * (hidden + 1) + _OF_EIGENVECTORS * n_0**3
        first = below.widths[1] if below.depth else 1
        back = sum(a * b for a, b in pairwise(below.widths[1:]))
        return {
            "pilot": 2 * PILOT * layers + 2 * n_0 * layers + 2 * n * back,
            "tilts": n * tilt,
            "forward": n * (2 * n_0 * n_0 * first + self.n_samples * 2 * (of_one + n_0)),
        }
