"""Samples of one network, and estimates of its output variances from them."""

from __future__ import annotations

from functools import cached_property
from math import ceil, log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import Estimate, Signs
from cumprop.errors import CumpropError
from cumprop.flops import counting
from cumprop.networks import MLP
from cumprop.sampling import (
    FEWEST,
    MOST_GROUPS,
    SCRAMBLINGS,
    Replicates,
    block_size,
    replicates,
    standardised,
)

from ..cumulant import rough
from .first_look import cancels, scatter

Array = NDArray[Any]

SOBOL_INPUTS = 8
"""The largest number of inputs for which a Sobol sequence is better than orthogonal inputs."""


class Sampler:
    """Draws forward passes of a network; all FLOPs, orders included, are added to `spent`.

    `samples` are the samples of the best design so far; `first` are antithetic ones, half a
    `screen` until `look_closer`, whose scatter in the layers is kept.
    """

    def __init__(self, network: MLP, cov: bool, rng: np.random.Generator, screen: int) -> None:
        self.network, flops = standardised(network)
        self.cov, self.rng, self.spent, self.passes = cov, rng, [flops], 0
        self.samples = self.first = self.draw(screen / 2, "antithetic", watch=scatter)
        self.pass_flops = self.spent[-1].total / self.passes

    def draw(self, n_samples: float, design: str, **options: Any) -> Replicates:
        drawn = replicates(self.network, ceil(n_samples), design, self.rng, cov=self.cov, **options)
        self.spent.append(drawn.flops)
        self.passes += drawn.n_samples
        return drawn

    def draw_sobol(self, n_samples: int) -> Replicates:
        """Draw twice, because an outlier among 8 scramblings hides in their scatter."""
        return self.draw(n_samples / 2, "sobol").joined(self.draw(n_samples / 2, "sobol"))

    def draw_more(self, n_samples: float) -> None:
        """Draw `n_samples` more, or of a Sobol sequence as many as its scramblings had before."""
        samples = self.samples
        if samples.design == "sobol":
            n_samples = SCRAMBLINGS * int(samples.sizes[0])
        self.samples = samples.joined(self.draw(n_samples, samples.design, fewest=1))

    def look_closer(self, screen: int) -> None:
        """Draw antithetic samples up to the `screen`, and keep their scatter in the layers."""
        if self.passes < screen:
            more = self.draw(screen - self.passes, "antithetic", watch=scatter, fewest=1)
            self.samples = self.first = self.samples.joined(more)

    def choose_design(self, flops: float) -> None:
        """Take a Sobol sequence, or try orthogonal inputs, for up to `flops` FLOPs."""
        n_0, most = self.network.widths[0], int(flops / self.pass_flops)
        frame = block_size("orthogonal", n_0)
        if self.samples.design != "antithetic":
            return
        if n_0 <= SOBOL_INPUTS and most >= 64:
            self.samples = self.draw_sobol(2 ** int(log2(min(most, 1024))))
        elif n_0 > SOBOL_INPUTS and most >= FEWEST * frame:
            rival = self.draw(frame * min(MOST_GROUPS, most // frame), "orthogonal")
            self.samples = min(self.samples, rival, key=noise_per_sample)

    @property
    def unit(self) -> float:
        """The variance of a forward pass, summed over outputs."""
        return float((self.samples.variance + self.samples.noise).sum())

    def in_units(self, difference: Array) -> float:
        """The RMS over outputs, in output standard deviations; 0 where no output varies."""
        squares = float(np.sum(difference.astype(np.float64) ** 2))
        return sqrt(squares / self.unit) if self.unit else 0.0

    def rounding(self, found: Estimate | Replicates) -> Array:
        """The rounding of each output mean: an ulp of the numbers that are added up to it."""
        inputs = found.layer_means[-1] if found.layer_means else np.zeros(self.terms.shape[1])
        sizes: Array = np.abs(found.mean) + self.terms @ np.abs(inputs)
        return float(np.finfo(self.network.dtype).eps) * sizes

    @cached_property
    def terms(self) -> Array:
        """Absolute weights of the output map."""
        terms: Array = np.abs(self.network.weights[-1]).astype(np.float64)
        return terms

    def is_rounding(self, unit: float) -> bool:
        """Whether output variances with this sum are within rounding."""
        return unit <= float(np.sum(self.rounding(self.samples) ** 2))

    @property
    def still(self) -> bool:
        """Whether no output varied by more than rounding in the samples."""
        return self.is_rounding(self.unit)

    @property
    def constant(self) -> bool:
        """Whether no output varies by more than rounding, by samples and by weights."""
        return self.still and self.is_rounding(0.0 if self.rough is None else self.rough.unit)

    @cached_property
    def rough(self) -> Signs | None:
        """The signs of a second, rough estimate, for n² FLOPs; None where they overflow."""
        with counting() as flops:
            try:
                _, signs = rough.run(self.network)
            except CumpropError:
                return None
        self.spent.append(flops)
        return signs

    @cached_property
    def cancels(self) -> bool:
        """Whether the first samples show cancellations that random weights do not have."""
        first = self.first
        with counting() as flops:
            found = cancels(self.network, first.watched, float(first.variance.sum()))
        self.spent.append(flops)
        return found


def noise_per_sample(samples: Replicates) -> float:
    """Variance per sample, summed over outputs."""
    return float(samples.noise.sum()) * samples.n_samples
