"""Truth: expected activations of a random network, sampled in two independent halves.

For an estimate e fixed beforehand, (e - m1)·(e - m2) of the two half means is an unbiased |e - m|²
(mathematics §7). `MeanTruth` holds expected activations, `tails.TailTruth` tail probabilities. One
pass through the deepest network of a seed serves the means of every depth.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop import files, streams
from cumprop.errors import CumpropError
from cumprop.networks import MLP, Shape, random_mlp
from cumprop.sampling.designs import MIRRORED, Inputs, batch_rows, check_design

Array = NDArray[Any]

VERSION = 2
"""A part of every key, raised when the numbers change."""
GROUPS = 16
"""The number of groups of equal size in each half, B of the jackknife."""
BATCH_ELEMENTS = 2**16
"""Numbers of a batch in the widest layer; the truth and the size of a chunk depend on it."""
READOUTS = ("output", "pre", "post")


@dataclass(frozen=True)
class TruthSpec(ABC):
    """The determinants of the numbers of a truth, except the number of samples."""

    kind: ClassVar[str]
    """The name of this sort of truth in stored files."""

    width: int
    depth: int
    activation: str
    init: str | Mapping[str, Any]
    seed: int
    dtype: str = "float32"
    design: str = ""

    @property
    def canonical(self) -> str:
        """All fields as JSON with sorted keys."""
        return json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True)

    @property
    def key(self) -> str:
        """The name of the truth: a hash of all fields, 16 hexadecimal digits."""
        return files.content_hash(self.canonical)

    @cached_property
    def network(self) -> MLP:
        """The network, with its weights."""
        return random_mlp(self.width, self.depth, self.seed, self.activation, self.init, self.dtype)

    @property
    @abstractmethod
    def empty(self) -> Truth:
        """A truth without samples."""

    @property
    def flops(self) -> int:
        """The FLOPs of a sample: one forward pass through all linear maps and activations."""
        return (self.depth + 1) * 2 * self.width**2 + self.depth * self.width

    @property
    def bytes(self) -> int:
        """The bytes of sampling: the weights, three copies of the sums, a batch of activations."""
        layers = 2 * self.depth + 1
        return 8 * (
            (self.depth + 1) * self.width**2
            + 3 * 2 * GROUPS * layers * self.width
            + 4 * max(BATCH_ELEMENTS, self.width**2)
        )

    @property
    @abstractmethod
    def group_samples(self) -> int:
        """The number of inputs that a chunk adds to each group of a half."""

    @property
    def chunk_samples(self) -> int:
        """The number of inputs in a chunk, both halves together.

        n_samples is rounded up to whole chunks.
        """
        return 2 * GROUPS * self.group_samples


@dataclass(frozen=True)
class MeanSpec(TruthSpec):
    """The determinants of a `MeanTruth`: `depth` of the deepest network, `design` of its inputs.

    Raises CumpropError for a design other than iid, antithetic or orthogonal.

    >>> MeanSpec(width=8, depth=2, activation="relu", init="he", seed=0).key
    '64ca4a49437e4047'
    """

    kind: ClassVar[str] = "mean"

    design: str = "orthogonal"

    def __post_init__(self) -> None:
        check_design(self.design)
        if self.design == "sobol":
            raise CumpropError(
                "truth cannot grow by Sobol points; choose iid, antithetic or orthogonal"
            )

    @property
    def key(self) -> str:
        """A hash of all fields but the depth, because a deeper truth serves shallower networks.

        The numbers of a layer do not depend on later layers.
        """
        return files.content_hash(replace(self, depth=0).canonical)

    @cached_property
    def inputs(self) -> Inputs:
        """The inputs of a batch, by the design."""
        return Inputs(self.network, self.design, BATCH_ELEMENTS)

    @property
    def empty(self) -> MeanTruth:
        layers = 2 * self.depth + 1
        return MeanTruth(self, 0, np.zeros((2, GROUPS, layers, self.width)), np.zeros(layers))

    @property
    def group_samples(self) -> int:
        """The inputs of one batch of whole blocks of the design."""
        n = self.width
        shape = Shape((n,) * (self.depth + 2), (self.activation,) * self.depth)
        rows = batch_rows(shape, self.design, BATCH_ELEMENTS)
        return rows * (2 if self.design in MIRRORED else 1)


@dataclass(frozen=True, eq=False)
class Truth(ABC):
    """Sums over `chunks` chunks of inputs in float64, from chunk `start` on.

    `sums` has shape (2, 16, m, n): half, group, layer, neuron. `squares` are the sums of squares
    that variances need. `start` is 0 except in a part of a truth.
    """

    spec: TruthSpec
    chunks: int
    sums: Array
    squares: Array
    start: int = 0

    @property
    def end(self) -> int:
        """The number of the next chunk."""
        return self.start + self.chunks

    @property
    def n_samples(self) -> int:
        """The number of inputs, both halves together."""
        return self.chunks * self.spec.chunk_samples

    def groups(self, readout: str, depth: int) -> Array:
        """The means of the groups of each half, shape (2, 16, n).

        Raises CumpropError where the truth does not hold this readout at this depth.
        """
        sums: Array = self.sums[:, :, self._layer(readout, depth)]
        return sums / (self.chunks * self.spec.group_samples)

    def mean(self, readout: str, depth: int) -> Array:
        """The two half means, shape (2, n)."""
        means: Array = self.groups(readout, depth).mean(axis=1)
        return means

    @abstractmethod
    def variance(self, readout: str, depth: int) -> float:
        """The variance of one forward pass under iid inputs, averaged over the n neurons."""

    def buckets(self, estimate: ArrayLike) -> dict[str, list[Any]]:
        """Columns of a score with errors of an estimate (n,) by size of a probability.

        Only truths of tails have such columns.
        """
        return {}

    def joined(self, part: Truth) -> Self:
        """This truth and the part that follows it.

        Raises CumpropError where the part begins at another chunk.

        >>> spec = MeanSpec(width=8, depth=1, activation="relu", init="he", seed=0)
        >>> first = spec.empty.extended()
        >>> second = replace(spec.empty, start=1).extended()
        >>> first.joined(second).n_samples == 2 * spec.chunk_samples
        True
        """
        if part.start != self.end:
            raise CumpropError(f"a truth to chunk {self.end} and a block from {part.start} on")
        return replace(
            self,
            chunks=self.chunks + part.chunks,
            sums=self.sums + part.sums,
            squares=self.squares + part.squares,
        )

    def extended(self) -> Self:
        """This truth and one chunk more, whose numbers depend on `spec` and its place alone.

        Every chunk adds equally many inputs to each group. Raises CumpropError where
        forward passes overflow. Cost: `spec.chunk_samples * spec.flops` FLOPs.
        """
        chunk = replace(self.spec.empty, start=self.end, chunks=1)
        with np.errstate(over="ignore", invalid="ignore"):
            chunk._sample(chunk.sums, chunk.squares)
        if not (np.isfinite(chunk.sums).all() and np.isfinite(chunk.squares).all()):
            raise CumpropError(
                f"truth {self.spec.key}: forward passes overflow {self.spec.dtype}; "
                "use dtype float64 or another init"
            )
        return self.joined(chunk)

    @abstractmethod
    def _sample(self, sums: Array, squares: Array) -> None:
        """Add the inputs of chunk `start` to sums and squares."""

    @abstractmethod
    def _layer(self, readout: str, depth: int) -> int:
        """The index of the readout of a depth among the layers of `sums`."""


class MeanTruth(Truth):
    """The sums of Z_1, X_1, Z_2, …, X_L, Z_{L+1}: 2L + 1 layers.

    `squares`, shape (2L + 1,), sums Z² or X² over all inputs and neurons. At depth d, the readout
    "output" is Z_{d+1}, "pre" Z_d and "post" X_d. Half h of chunk i draws from
    `streams.truth(seed, width, h, i)`.
    """

    spec: MeanSpec

    def variance(self, readout: str, depth: int) -> float:
        """The variance E[f²] - E[f]² of a pass under iid inputs, averaged over the n neurons.

        E[f²] is rescaled where the design fixes the radius, and E[f]² is the product of the half
        means, so that the result is unbiased.
        """
        first, second = self.mean(readout, depth)
        square = self.squares[self._layer(readout, depth)] / (self.n_samples * self.spec.width)
        return float(square * self.spec.inputs.second_moment - first @ second / self.spec.width)

    def _sample(self, sums: Array, squares: Array) -> None:
        network, inputs = self.spec.network, self.spec.inputs
        ones = np.ones(inputs.rows, network.dtype)
        for half in range(2):
            rng = streams.truth(self.spec.seed, self.spec.width, half, self.start)
            for group in range(GROUPS):
                for batch in inputs.batches(rng, self.spec.group_samples):
                    for layer, (z, x) in enumerate(network.layers(batch.x)):
                        for slot, values in ((2 * layer, z), (2 * layer + 1, x)):
                            if values is not None:
                                sums[half, group, slot] += ones @ values
                                squares[slot] += np.vdot(values, values)

    def _layer(self, readout: str, depth: int) -> int:
        if readout not in READOUTS:
            raise CumpropError(f"unknown readout {readout!r}; choose {', '.join(READOUTS)}")
        if not 1 <= depth <= self.spec.depth:
            raise CumpropError(
                f"truth of depth {self.spec.depth} has no depth {depth}; run the sweep again"
            )
        return 2 * (depth - 1) + {"pre": 0, "post": 1, "output": 2}[readout]
