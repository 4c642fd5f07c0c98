"""Replicates: sample means of equal, independent groups of forward passes, and their scatter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from cumprop.designs import Inputs, block_size, covariance_root
from cumprop.errors import CumpropError
from cumprop.flops import Flops, component, counted, counting, plain
from cumprop.networks import MLP

Array = NDArray[Any]

GROUPS = 16
"""Of replicates, where the design has as many blocks; the fewest are 4."""
FEWEST = 4
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Replicates:
    """Means of the outputs (R, n) of R groups, `n_samples` forward passes in all.

    `spread` is Cov[Y], or its diagonal. The groups are independent and equal, so that their
    scatter tells all of the error of their mean, under every design and whatever the correlation of
    the outputs (mathematics §10).

    >>> from cumprop import random_mlp
    >>> rng = np.random.default_rng(0)
    >>> found = replicates(random_mlp(width=16, depth=2, seed=0), 640, "antithetic", rng)
    >>> found.groups.shape, found.n_samples, 1 < found.freedom < 16
    ((16, 16), 640, True)
    """

    design: str
    n_samples: int
    groups: Array
    spread: Array
    layer_means: tuple[Array, ...]
    flops: Flops

    def joined(self, other: Replicates) -> Replicates:
        """Both together: groups pair off, so that they stay independent and equal."""
        if (self.design, len(self.groups)) != (other.design, len(other.groups)):
            raise CumpropError("replicates of different designs or numbers of groups do not join")
        total = self.n_samples + other.n_samples
        old, new = self.n_samples / total, other.n_samples / total
        pairs = zip(self.layer_means, other.layer_means, strict=True)
        apart = self.mean - other.mean
        between = np.outer(apart, apart) if self.spread.ndim == 2 else apart**2
        return Replicates(
            self.design,
            total,
            old * self.groups + new * other.groups,
            old * self.spread + new * other.spread + old * new * between,
            tuple(old * a + new * b for a, b in pairs),
            added(self.flops, other.flops),
        )

    @cached_property
    def mean(self) -> Array:
        mean: Array = self.groups.mean(axis=0)
        return mean

    @cached_property
    def noise(self) -> Array:
        """Variance of `mean`, per output."""
        variance: Array = self.groups.var(axis=0, ddof=1) / len(self.groups)
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
        centred = self.groups - self.mean
        gram = centred @ centred.T
        m, trace = len(gram) - 1, float(np.trace(gram))
        squared = (float(np.sum(gram * gram)) - trace**2 / m) / ((m - 1) * (m + 2))
        most = self.groups.shape[1]
        if squared * most * m**2 <= trace**2:
            return float(most)
        return max(1.0, (trace / m) ** 2 / squared)

    def upper(self, level: float) -> float:
        """What |mean - E[Y]|² stays below with probability `level`, by Fisher's F."""
        from scipy.stats import f

        freedom = self.freedom
        quantile = f.ppf(level, freedom, freedom * (len(self.groups) - 1))
        return float(self.noise.sum() * quantile)

    def chance(self, estimate: Array) -> float:
        """Probability of a `mean` further from `estimate` than this one, were it E[Y]."""
        from scipy.stats import f

        distance, noise = float(np.sum((self.mean - estimate) ** 2)), float(self.noise.sum())
        if not noise > 0:
            return float(distance <= _ROUNDING**2 * float(np.sum(self.mean**2)))
        freedom = self.freedom
        return float(f.sf(distance / noise, freedom, freedom * (len(self.groups) - 1)))


def replicates(
    network: MLP,
    n_samples: int,
    design: str,
    rng: np.random.Generator,
    *,
    groups: int | None = None,
    cov: bool = False,
) -> Replicates:
    """At least `n_samples` forward passes in equal groups of whole blocks of the design.

    Cost: those passes, and 2n² FLOPs more for each with `cov`.
    """
    block = block_size(design, network.widths[0])
    groups = groups or min(GROUPS, max(FEWEST, n_samples // block))
    n_samples = groups * block * math.ceil(n_samples / (groups * block))
    n = network.widths[-1]
    sums = np.zeros((groups, n))
    second = counted(np.zeros((n, n) if cov else n))
    layer_sums = [counted(np.zeros(width)) for width in network.widths[1:-1]]
    shift: Array | None = None
    first = 0  # the group of the first block of a batch
    with counting() as flops, component("sampling"), np.errstate(over="ignore", invalid="ignore"):
        inputs = Inputs(network, design)
        for batch in inputs.batches(rng, n_samples):
            for layer, (z, x) in enumerate(network.layers(counted(batch.x))):
                if x is not None:
                    layer_sums[layer] += np.ones(len(x), x.dtype) @ x
                    continue
                if shift is None:  # keeps the digits of a variance that is not to be rescaled
                    shift = plain(z.mean(axis=0)) * (inputs.second_moment == 1)
                z -= shift
                second += z.T @ z if cov else np.add.reduce(z * z, axis=0)
                blocks = z.reshape(-1, batch.blocks, n)
                for group in range(min(groups, batch.blocks)):
                    share = blocks[:, group::groups]
                    total = np.add.reduce(share, axis=(0, 1), dtype=np.float64)
                    sums[(first + group) % groups] += plain(total)
            first += batch.blocks if batch.complete else 0
    assert shift is not None
    means = sums / (n_samples / groups)
    offset, moment = means.mean(axis=0), plain(second) * (inputs.second_moment / n_samples)
    spread = moment - np.outer(offset, offset) if cov else np.maximum(moment - offset**2, 0)
    if not np.isfinite(spread).all():
        raise CumpropError(
            f"forward passes overflow {network.dtype}; rescale the weights or use float64"
        )
    layer_means = tuple(plain(s) / n_samples for s in layer_sums)
    return Replicates(design, n_samples, means + shift, spread, layer_means, flops)


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
