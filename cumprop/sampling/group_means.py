"""Group means: sample means of independent groups of forward passes, and their scatter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, fdtri, stdtrit

from cumprop.errors import CumpropError
from cumprop.flops import Flops, added, component, counted, counting, plain
from cumprop.networks import MLP
from cumprop.sampling.designs import SCRAMBLINGS, Inputs, block_size, rounded
from cumprop.sampling.passes import Base, Centring, Passes, check_finite, keeping_digits

Array = NDArray[Any]

MOST_GROUPS = 32
"""The most groups of one draw; of fewer blocks, each is a group."""
FEWEST = 4
"""The fewest blocks whose scatter is used as an error."""
UNSEEN = 3
"""The expected number of hits of an event that 95% of sets of samples hit at least once."""
_ROUNDING = 1e-5
"""The largest distance, in sizes of the outputs, of an estimate from samples without scatter."""


@dataclass(frozen=True, eq=False)
class Replicates:
    """The means of the outputs in R groups, (R, n), of `sizes` (R,) forward passes each.

    `spread` is Cov[Y], (n, n), or its diagonal, (n,); `group_variances` (R, n) are mean squared
    deviations from the mean of the draw, if a covariance was wanted. The groups are independent,
    and the variance of a group mean is inverse to its size, so that their scatter gives the error
    of their mean under every design and for every correlation of the outputs (mathematics §10).

    >>> from cumprop import random_mlp
    >>> rng = np.random.default_rng(0)
    >>> found = replicates(random_mlp(width=16, depth=2, seed=0), 640, "antithetic", rng)
    >>> found.groups.shape, found.n_samples, 1 < found.freedom < 16
    ((32, 16), 640, True)
    """

    design: str
    sizes: Array
    groups: Array
    spread: Array
    layer_means: tuple[Array, ...]
    flops: Flops
    watched: tuple[Any, ...] = ()
    group_variances: Array | None = None

    def joined(self, other: Replicates) -> Replicates:
        """The groups of both draws together.

        Raises CumpropError for different designs, and for Sobol sequences of different sizes.
        """
        sizes = np.concatenate([self.sizes, other.sizes])
        if self.design != other.design or (self.design == "sobol" and np.ptp(sizes)):
            raise CumpropError("replicates of different designs, or sizes of sobol, do not join")
        new = other.n_samples / sizes.sum()
        pairs = zip(self.layer_means, other.layer_means, strict=True)
        apart = self.mean - other.mean
        between = np.outer(apart, apart) if self.spread.ndim == 2 else apart**2
        return Replicates(
            self.design,
            sizes,
            np.concatenate([self.groups, other.groups]),
            (1 - new) * self.spread + new * other.spread + (1 - new) * new * between,
            tuple((1 - new) * a + new * b for a, b in pairs),
            added(self.flops, other.flops),
            self.watched + other.watched,
            None
            if self.group_variances is None or other.group_variances is None
            else np.concatenate([self.group_variances, other.group_variances]),
        )

    @cached_property
    def n_samples(self) -> int:
        """The number of forward passes of all groups."""
        return int(self.sizes.sum())

    @cached_property
    def mean(self) -> Array:
        """The mean of all forward passes, (n,)."""
        mean: Array = self.sizes @ self.groups / self.n_samples
        return mean

    @cached_property
    def _residuals(self) -> Array:
        return _residuals(self.groups, self.sizes)

    @cached_property
    def noise(self) -> Array:
        """The variance of `mean`, (n,)."""
        return _noise_of_mean(self._residuals)

    @cached_property
    def half_width(self) -> Array:
        """The half width of each output's 95% interval, (n,), by Student's t.

        The degrees of freedom are 2 R / (k - 1), at most R - 1, k the kurtosis of the groups: where
        a few groups dominate, the scatter is badly known. Events in less than 3/N of the inputs may
        have been missed; they move a mean by at most 3 s.d. / N.
        """
        squares = np.square(self._residuals)
        fourth, second = np.square(squares).mean(axis=0), squares.mean(axis=0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            kurtosis = np.where(second > 0, fourth / np.square(second), 0)
            left = 2 * len(squares) / (kurtosis - 1)
        most = len(squares) - 1
        freedom = np.where(kurtosis > 1, np.minimum(left, most), most)
        unseen = UNSEEN * np.sqrt(self.variance) / self.n_samples
        half: Array = np.hypot(stdtrit(freedom, 0.975) * np.sqrt(self.noise), unseen)
        return half

    @property
    def variance(self) -> Array:
        """The variances Var[Y], (n,)."""
        return np.diagonal(self.spread) if self.spread.ndim == 2 else self.spread

    @property
    def std_error(self) -> float | None:
        """The relative RMS error of the output standard deviations; None where it is not known."""
        if self.group_variances is None:
            return None
        noise = _noise_of_mean(_residuals(self.group_variances, self.sizes))
        total = float(self.variance.sum())
        shares = self.variance / (total if total > 0 else 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            squares = np.square(np.sqrt(noise) / self.variance) * shares / 4
        return math.sqrt(float(squares[shares > 0].sum()))

    @cached_property
    def freedom(self) -> float:
        """Effective number of independent outputs ν = (tr S)² / tr S², S the noise's covariance.

        |mean - E[Y]|² has the mean and the variance of tr S/ν · χ²_ν. tr S² is estimated without
        bias from the R - 1 degrees of freedom; ν is at least 1.
        """
        gram = self._residuals @ self._residuals.T
        gram /= float(gram.max()) or 1.0  # the squares of its entries stay in range
        m, trace = len(gram) - 1, float(np.trace(gram))
        squared = (float(np.sum(gram * gram)) - trace**2 / m) / ((m - 1) * (m + 2))
        most = self.groups.shape[1]
        if squared * most * m**2 <= trace**2:
            return float(most)
        return max(1.0, (trace / m) ** 2 / squared)

    def quantile(self, level: float) -> float:
        """The quantile of |mean - E[Y]|² over the sum of `noise`, by Fisher's F."""
        freedom = self.freedom
        return float(fdtri(freedom, freedom * (len(self.groups) - 1), level))

    def upper(self, level: float) -> float:
        """The bound that |mean - E[Y]|² stays below with probability `level`."""
        return float(self.noise.sum()) * self.quantile(level)

    def chance(self, estimate: Array) -> float:
        """The probability of a `mean` further from `estimate`, (n,), if that is E[Y]."""
        distance, noise = float(np.sum((self.mean - estimate) ** 2)), float(self.noise.sum())
        if not noise > 0:
            size = float(np.sum(self.mean**2 + self.variance))
            return float(distance <= _ROUNDING**2 * size)
        freedom = self.freedom
        return float(fdtrc(freedom, freedom * (len(self.groups) - 1), distance / noise))


def _residuals(groups: Array, sizes: Array) -> Array:
    """Deviations of the groups from their mean, (R, n), each in units of its own accuracy."""
    mean = sizes @ groups / sizes.sum()
    residuals: Array = np.sqrt(sizes / sizes.sum())[:, None] * (groups - mean)
    return residuals


def _noise_of_mean(residuals: Array) -> Array:
    """Variance of the mean of the groups, per column."""
    variance: Array = np.square(residuals).sum(axis=0) / (len(residuals) - 1)
    return variance


def replicates(
    network: MLP,
    n_samples: int,
    design: str,
    rng: np.random.Generator,
    *,
    fewest: int = FEWEST,
    cov: bool = False,
    watch: Callable[[Array, Array], Any] | None = None,
) -> Replicates:
    """Group means of at least `n_samples` forward passes, in at least `fewest` blocks.

    Blocks are distributed over 32 groups; a Sobol sequence has its 8 scramblings as groups.
    `watch` is called with pre-activations and activations of each layer, (m, n_l) each, and its
    results are kept. Where the outputs vary little beside their size, passes are deviations from
    the pass at the mean input (`sampling.passes`). Raises CumpropError where numbers are not
    finite. Cost: the passes, and with `cov` 2 n² FLOPs more for each.
    """
    block = block_size(design, network.widths[0])
    n_samples = rounded(design, network.widths[0], max(n_samples, fewest * block))
    blocks = SCRAMBLINGS if design == "sobol" else n_samples // block
    group_of = np.arange(blocks) % MOST_GROUPS

    def take(inputs: Inputs, layers: Passes, base: Base | None) -> _Sums | None:
        sums = _Sums(network, n_samples, group_of, cov, watch, base)
        return sums if sums.add(inputs, layers, rng) else None

    with counting() as flops, component("sampling"), np.errstate(over="ignore", invalid="ignore"):
        sums = keeping_digits(network, design, rng, take)
    return sums.replicates(design, flops)


class _Sums:
    """Sums over forward passes: of outputs by group, of their squares or products, of layers.

    With a `base`, passes are deviations from it.
    """

    def __init__(
        self,
        network: MLP,
        n_samples: int,
        group_of: Array,
        cov: bool,
        watch: Callable[[Array, Array], Any] | None,
        base: Base | None,
    ) -> None:
        n = network.widths[-1]
        self.n_samples, self.group_of, self.cov, self.watch = n_samples, group_of, cov, watch
        self.sizes = n_samples // len(group_of) * np.bincount(group_of)
        self.sums = np.zeros((len(self.sizes), n))
        self.second = counted(np.zeros((n, n) if cov else n))
        self.squares = np.zeros((len(self.sizes), n)) if cov else None
        self.layers = [counted(np.zeros(width)) for width in network.widths[1:-1]]
        self.watched = list[Any]()
        self.base, self.dtype = base, network.dtype

    def add(self, inputs: Inputs, layers: Passes, rng: np.random.Generator) -> bool:
        """Run all passes; return False if the first batch shows that they lose their digits."""
        self.second_moment = inputs.second_moment
        output = None if self.base is None else self.base[-1][0]
        self.centring = Centring(output, centre=self.second_moment == 1)  # else it is rescaled
        first = 0  # the first block of a batch
        numbers, n = np.arange(len(self.sizes))[:, None], len(self.second)
        for batch in inputs.batches(rng, self.n_samples):
            for layer, (z, x) in enumerate(layers(counted(batch.x))):
                if x is not None:
                    self.layers[layer] += np.ones(len(x), x.dtype) @ x
                    if self.watch:
                        self.watched.append(self.watch(z, x))
                    continue
                if not self.centring.apply(z):
                    return False
                self.second += z.T @ z if self.cov else np.add.reduce(z * z, axis=0)
                dealt = (self.group_of[first : first + batch.blocks] == numbers).astype(np.float64)
                blocks = plain(z).reshape(-1, batch.blocks, n)
                self.sums += dealt @ blocks.sum(axis=0, dtype=np.float64)
                if self.squares is not None:
                    self.squares += dealt @ np.square(blocks, dtype=np.float64).sum(axis=0)
            first += batch.blocks if batch.complete else 0
        return True

    def replicates(self, design: str, flops: Flops) -> Replicates:
        """The group means, without the shift that kept their digits."""
        unit, shift = self.centring.unit, plain(self.centring.shift)
        mean = self.sums.sum(axis=0) / self.n_samples
        moment = plain(self.second) * (self.second_moment / self.n_samples)
        spread = moment - np.outer(mean, mean) if self.cov else np.maximum(moment - mean**2, 0)
        layer_means = [plain(s) / self.n_samples for s in self.layers]
        if self.base is not None:
            hidden = [plain(x) for _, x in self.base if x is not None]
            layer_means = [x + mean for x, mean in zip(hidden, layer_means, strict=True)]
        groups = self.sums / self.sizes[:, None] * unit + shift
        spread = spread * unit * unit
        check_finite(spread, self.dtype)
        variances = None
        if self.squares is not None:
            means = self.sums / self.sizes[:, None]
            moments = self.squares / self.sizes[:, None] * self.second_moment
            variances = (moments - 2 * mean * means + mean**2) * unit * unit
        watched = tuple(self.watched)
        return Replicates(
            design, self.sizes, groups, spread, tuple(layer_means), flops, watched, variances
        )
