"""Replicates: sample means of independent groups of forward passes, and their scatter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from cumprop.designs import SCRAMBLINGS, Inputs, block_size, covariance_root, rounded
from cumprop.errors import CumpropError
from cumprop.flops import Flops, component, counted, counting, plain
from cumprop.networks import MLP

Array = NDArray[Any]

GROUPS = 32
"""Of one draw at most; where its blocks are fewer, each is a group."""
FEWEST = 4
"""Blocks whose scatter says something."""
_ROUNDING = 1e-5
"""Of the size of the outputs: what an estimate may be off samples that do not scatter."""


@dataclass(frozen=True, eq=False)
class Replicates:
    """Means of the outputs (R, n) of R groups, of `sizes` (R,) forward passes each.

    `spread` is Cov[Y], or its diagonal. The groups are independent, and as accurate as they are
    large, so that their scatter tells all of the error of their mean, under every design and
    whatever the correlation of the outputs (mathematics §10).

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

    def joined(self, other: Replicates) -> Replicates:
        """The groups of both; those of Sobol sequences must be of one size to be compared."""
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
        )

    @cached_property
    def n_samples(self) -> int:
        return int(self.sizes.sum())

    @cached_property
    def mean(self) -> Array:
        mean: Array = self.sizes @ self.groups / self.n_samples
        return mean

    @cached_property
    def _residuals(self) -> Array:
        """(R, n): deviations of the groups from `mean`, each in units of its own accuracy."""
        residuals: Array = np.sqrt(self.sizes / self.n_samples)[:, None] * (self.groups - self.mean)
        return residuals

    @cached_property
    def noise(self) -> Array:
        """Variance of `mean`, per output."""
        variance: Array = np.square(self._residuals).sum(axis=0) / (len(self.groups) - 1)
        return variance

    @property
    def half_width(self) -> Array:
        """Half of each output's 95% interval, by Student's t."""
        half: Array = stdtrit(len(self.groups) - 1, 0.975) * np.sqrt(self.noise)
        return half

    @property
    def variance(self) -> Array:
        """Var[Y], per output."""
        return np.diagonal(self.spread) if self.spread.ndim == 2 else self.spread

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
        """Of |mean - E[Y]|² over the sum of `noise`, by Fisher's F."""
        from scipy.stats import f

        freedom = self.freedom
        return float(f.ppf(level, freedom, freedom * (len(self.groups) - 1)))

    def upper(self, level: float) -> float:
        """What |mean - E[Y]|² stays below with probability `level`."""
        return float(self.noise.sum()) * self.quantile(level)

    def chance(self, estimate: Array) -> float:
        """Probability of a `mean` further from `estimate` than this one, were it E[Y]."""
        from scipy.stats import f

        distance, noise = float(np.sum((self.mean - estimate) ** 2)), float(self.noise.sum())
        if not noise > 0:
            size = float(np.sum(self.mean**2 + self.variance))
            return float(distance <= _ROUNDING**2 * size)
        freedom = self.freedom
        return float(f.sf(distance / noise, freedom, freedom * (len(self.groups) - 1)))


def replicates(
    network: MLP,
    n_samples: int,
    design: str,
    rng: np.random.Generator,
    *,
    fewest: int = FEWEST,
    cov: bool = False,
    watch: Callable[[Array, Array], object] | None = None,
) -> Replicates:
    """At least `n_samples` forward passes, in whole blocks of the design, at least `fewest`.

    Blocks are dealt out to 32 groups; those of a Sobol sequence are its 8 scramblings. `watch` sees
    what comes before and behind each nonlinearity, (samples, neurons) each. Cost: those passes, and
    2n² FLOPs more for each with `cov`.
    """
    block = block_size(design, network.widths[0])
    n_samples = rounded(design, network.widths[0], max(n_samples, fewest * block))
    blocks = SCRAMBLINGS if design == "sobol" else n_samples // block
    group_of = np.arange(blocks) % GROUPS
    sizes = n_samples // blocks * np.bincount(group_of)
    numbers, n = np.arange(len(sizes))[:, None], network.widths[-1]
    sums = np.zeros((len(sizes), n))
    second = counted(np.zeros((n, n) if cov else n))
    layer_sums = [counted(np.zeros(width)) for width in network.widths[1:-1]]
    shift: Array | None = None
    first = 0  # the first block of a batch
    with counting() as flops, component("sampling"), np.errstate(over="ignore", invalid="ignore"):
        inputs = Inputs(network, design)
        for batch in inputs.batches(rng, n_samples):
            for layer, (z, x) in enumerate(network.layers(counted(batch.x))):
                if x is not None:
                    layer_sums[layer] += np.ones(len(x), x.dtype) @ x
                    if watch:
                        watch(z, x)
                    continue
                if shift is None:  # keeps the digits of a variance that is not to be rescaled
                    first_row, centre = plain(z)[0], plain(z.mean(axis=0))
                    centre = np.where((plain(z) == first_row).all(axis=0), first_row, centre)
                    shift = centre * (inputs.second_moment == 1)
                z -= shift
                z = z.astype(np.float64)  # squares of float32 leave its range
                second += z.T @ z if cov else np.add.reduce(z * z, axis=0)
                of_blocks = plain(z).reshape(-1, batch.blocks, n).sum(axis=0, dtype=np.float64)
                dealt = group_of[first : first + batch.blocks] == numbers
                sums += dealt.astype(np.float64) @ of_blocks
            first += batch.blocks if batch.complete else 0
    assert shift is not None
    mean, moment = sums.sum(axis=0) / n_samples, plain(second) * (inputs.second_moment / n_samples)
    spread = moment - np.outer(mean, mean) if cov else np.maximum(moment - mean**2, 0)
    if not np.isfinite(spread).all():
        raise CumpropError(
            f"forward passes overflow {network.dtype}; rescale the weights or use float64"
        )
    layer_means = tuple(plain(s) / n_samples for s in layer_sums)
    return Replicates(design, sizes, sums / sizes[:, None] + shift, spread, layer_means, flops)


def standardised(network: MLP) -> tuple[MLP, Flops]:
    """The network of standard normal inputs with the same outputs, and what making it took.

    x = μ + R u turns W_1 into W_1 R and b_1 into W_1 μ + b_1; u has as many entries as Σ0 has rank.
    """
    mean, cov = network.input_mean, network.input_cov
    if mean is None and cov is None:
        return network, Flops()
    first, bias = network.weights[0], network.biases[0]
    with counting() as flops, component("input"):
        if mean is not None:
            shift = counted(first) @ mean
            bias = plain(shift if bias is None else shift + bias)
        if cov is not None:
            root = covariance_root(cov)
            lengths = np.linalg.norm(root, axis=0)
            rounding = math.sqrt(len(root) * float(np.finfo(root.dtype).eps))
            kept = lengths > rounding * lengths.max()
            kept[-1] = True
            first = plain(counted(first) @ root[:, kept])
    weights, biases = [first, *network.weights[1:]], [bias, *network.biases[1:]]
    return MLP(weights, biases, network.activations), flops


def added(*counts: Flops) -> Flops:
    """FLOPs of several estimates together, by component."""
    components: dict[str, int] = {}
    for flops in counts:
        for name, n in flops.items():
            components[name] = components.get(name, 0) + n
    return Flops(components)
