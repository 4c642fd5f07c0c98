"""Truth: the expected activations of one random network, sampled in two independent halves.

For an estimate e fixed beforehand, (e - m1)·(e - m2) of the two half means is an unbiased |e - m|²
(mathematics §7). One pass through the deepest network of a seed serves every depth.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop import store
from cumprop.designs import MIRRORED, Inputs, check_design
from cumprop.errors import CumpropError
from cumprop.networks import MLP
from cumprop.random_networks import random_mlp, stream

Array = NDArray[Any]

VERSION = 2
"""Part of every key: raise it when the numbers change."""
GROUPS = 16
"""Groups of equal size in each half, B of the jackknife."""
BATCH_ELEMENTS = 2**16
"""Of a batch of inputs in the widest layer: the numbers depend on it, and what a chunk holds."""
READOUTS = ("output", "pre", "post")

_SAVE_SECONDS = 20.0


@dataclass(frozen=True)
class TruthSpec:
    """What the numbers of a truth depend on, beside how many samples there are.

    `depth` is that of the deepest network; `design` iid, antithetic or orthogonal.

    >>> TruthSpec(width=8, depth=2, activation="relu", init="he", seed=0).key
    '64ca4a49437e4047'
    """

    width: int
    depth: int
    activation: str
    init: str | Mapping[str, Any]
    seed: int
    dtype: str = "float32"
    design: str = "orthogonal"

    def __post_init__(self) -> None:
        check_design(self.design)
        if self.design == "sobol":
            raise CumpropError(
                "truth cannot grow by Sobol points; choose iid, antithetic or orthogonal"
            )

    @property
    def canonical(self) -> str:
        """All fields as JSON with sorted keys."""
        return json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True)

    @property
    def key(self) -> str:
        """Hash of all but the depth, 16 hexadecimal digits: a deeper truth serves shallower ones.

        That the numbers of a layer do not depend on the layers above it makes this right.
        """
        return store.content_hash(replace(self, depth=0).canonical)

    @cached_property
    def network(self) -> MLP:
        return random_mlp(self.width, self.depth, self.seed, self.activation, self.init, self.dtype)

    @cached_property
    def inputs(self) -> Inputs:
        return Inputs(self.network, self.design, BATCH_ELEMENTS)

    @property
    def empty(self) -> Truth:
        """Nothing sampled yet."""
        layers = 2 * self.depth + 1
        return Truth(self, 0, np.zeros((2, GROUPS, layers, self.width)), np.zeros(layers))

    @property
    def passes(self) -> int:
        """Forward passes that a sample takes."""
        return 1

    @property
    def group_samples(self) -> int:
        """Inputs that a chunk adds to each group of a half: one batch of whole blocks."""
        return self.inputs.rows * (2 if self.design in MIRRORED else 1)

    @property
    def chunk_samples(self) -> int:
        """Inputs in a chunk, both halves together; n_samples is rounded up to whole chunks."""
        return 2 * GROUPS * self.group_samples


@dataclass(frozen=True, eq=False)
class Truth:
    """Sums of Z_1, X_1, Z_2, …, X_L, Z_{L+1} over `chunks` chunks of inputs, in float64.

    `sums` has shape (2, 16, 2L + 1, n): half, group, layer, neuron. `squares`, shape (2L + 1,),
    sums Z² or X² over all inputs and neurons.
    """

    spec: TruthSpec
    chunks: int
    sums: Array
    squares: Array

    @property
    def n_samples(self) -> int:
        """Forward passes, both halves together."""
        return self.chunks * self.spec.chunk_samples

    def groups(self, readout: str, depth: int) -> Array:
        """Means of the groups of each half, shape (2, 16, n).

        `readout` "output" is Z_{depth+1}, "pre" Z_depth and "post" X_depth.
        """
        sums: Array = self.sums[:, :, self._layer(readout, depth)]
        return sums / (self.chunks * self.spec.group_samples)

    def mean(self, readout: str, depth: int) -> Array:
        """The two half means, shape (2, n)."""
        means: Array = self.groups(readout, depth).mean(axis=1)
        return means

    def variance(self, readout: str, depth: int) -> float:
        """Variance of one forward pass under iid inputs, averaged over the n neurons.

        E[f²] - E[f]², with E[f²] rescaled where the design fixes the radius and E[f]² the product
        of the half means, so that the result is unbiased.
        """
        first, second = self.mean(readout, depth)
        square = self.squares[self._layer(readout, depth)] / (self.n_samples * self.spec.width)
        return float(square * self.spec.inputs.second_moment - first @ second / self.spec.width)

    def extended(self) -> Truth:
        """This truth and one chunk more: its numbers depend on `spec` and `chunks` only.

        Half h of chunk i draws from `stream(seed, width, 0, h, i)`. Every chunk adds as many
        inputs to each group as to any other. Cost: `spec.chunk_samples` forward passes.
        """
        sums, squares = np.zeros_like(self.sums), np.zeros_like(self.squares)
        network, inputs = self.spec.network, self.spec.inputs
        ones = np.ones(inputs.rows, network.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for half in range(2):
                rng = stream(self.spec.seed, self.spec.width, 0, half, self.chunks)
                for group in range(GROUPS):
                    for batch in inputs.batches(rng, self.spec.group_samples):
                        for layer, (z, x) in enumerate(network.layers(batch.x)):
                            for slot, values in ((2 * layer, z), (2 * layer + 1, x)):
                                if values is not None:
                                    sums[half, group, slot] += ones @ values
                                    squares[slot] += np.vdot(values, values)
        if not (np.isfinite(sums).all() and np.isfinite(squares).all()):
            raise CumpropError(
                f"truth {self.spec.key}: forward passes overflow {self.spec.dtype}; "
                "use dtype float64 or another init"
            )
        return replace(
            self, chunks=self.chunks + 1, sums=self.sums + sums, squares=self.squares + squares
        )

    def _layer(self, readout: str, depth: int) -> int:
        if readout not in READOUTS:
            raise CumpropError(f"unknown readout {readout!r}; choose {', '.join(READOUTS)}")
        if not 1 <= depth <= self.spec.depth:
            raise CumpropError(
                f"truth of depth {self.spec.depth} has no depth {depth}; run the sweep again"
            )
        return 2 * (depth - 1) + {"pre": 0, "post": 1, "output": 2}[readout]


def load(directory: str | Path, key: str) -> Truth:
    """The truth stored as `directory/<key>.npz`; CumpropError where there is no sound one."""
    path = Path(directory) / f"{key}.npz"
    try:
        with path.open("rb") as stored, np.load(stored, allow_pickle=False) as file:
            fields = json.loads(str(file["spec"]))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise CumpropError(f"no truth in {path}; run the sweep again") from error
    del fields["version"]
    truth = _read(path, _spec(fields))
    if truth.spec.key != key or not truth.chunks:
        raise CumpropError(f"the truth in {path} is of another version or damaged")
    return truth


def samples_stored(directory: str | Path, spec: TruthSpec) -> int:
    """Forward passes of the stored truth that serves `spec`; 0 where there is none."""
    try:
        with np.load(Path(directory) / f"{spec.key}.npz", allow_pickle=False) as file:
            deep_enough = json.loads(str(file["spec"]))["depth"] >= spec.depth
            return int(file["chunks"]) * spec.chunk_samples if deep_enough else 0
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
        return 0


def _spec(fields: dict[str, Any]) -> TruthSpec:
    from cumprop.tails import TailSpec  # which builds on this module

    return TailSpec(**fields) if "threshold" in fields else TruthSpec(**fields)


def load_or_extend(
    directory: str | Path,
    spec: TruthSpec,
    n_samples: float,
    progress: Callable[[int], None] | None = None,
) -> Truth:
    """The truth of `spec` or a deeper one with at least `n_samples`, from `directory` if there.

    A stored truth that is not deep enough is sampled anew, at least as large, and replaced. What is
    missing is sampled chunk by chunk and kept in `directory/<key>.npz`, written anew every 20
    seconds and when the work ends or is interrupted; the numbers are those of one uninterrupted
    run, bit by bit. `progress` is called with the samples there are after each chunk. A file that
    cannot be read is set aside as `.corrupt` with a warning. Processes at work on one truth do not
    hurt each other. Memory: 4 copies of the sums and one batch of activations.
    """
    path = Path(directory) / f"{spec.key}.npz"
    truth = stored = _read(path, spec)
    wanted = max(math.ceil(n_samples / spec.chunk_samples), stored.chunks)
    if stored.spec.depth < spec.depth:
        truth = stored = spec.empty
    last_save = time.monotonic()
    try:
        while truth.chunks < wanted:
            truth = truth.extended()
            if progress is not None:
                progress(truth.n_samples)
            if time.monotonic() - last_save > _SAVE_SECONDS:
                truth = stored = _write(path, truth)
                last_save = time.monotonic()
    finally:
        if truth is not stored:
            truth = _write(path, truth)
    if truth.chunks < wanted:  # another process has stored a deeper one with fewer samples
        return load_or_extend(directory, spec, n_samples, progress)
    return truth


def _write(path: Path, truth: Truth) -> Truth:
    """Store the truth unless a deeper or larger one is there; return what is stored now."""
    stored = _read(path, truth.spec)
    if (stored.spec.depth, stored.chunks) >= (truth.spec.depth, truth.chunks):
        return stored
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=path.stem, suffix=".tmp", delete=False
    ) as file:
        try:
            np.savez(
                file,
                spec=np.array(truth.spec.canonical),
                chunks=np.array(truth.chunks),
                sums=truth.sums,
                squares=truth.squares,
            )
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return truth


def _read(path: Path, spec: TruthSpec) -> Truth:
    """The stored truth, of any depth; an empty one where there is none that is sound."""
    try:
        # zip checks a CRC of every array
        with path.open("rb") as stored, np.load(stored, allow_pickle=False) as file:
            described, chunks = str(file["spec"]), int(file["chunks"])
            sums, squares = file["sums"], file["squares"]
        found = replace(spec, depth=json.loads(described)["depth"])
        if found.canonical != described:
            raise ValueError("it holds another truth")
        empty = found.empty
        if (sums.shape, squares.shape) != (empty.sums.shape, empty.squares.shape):
            raise ValueError("its arrays have the wrong shape")
    except FileNotFoundError:
        return spec.empty
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        aside = path.with_name(path.name + ".corrupt")
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.replace(aside)
        warnings.warn(f"{path}: {error}; set aside as {aside.name}, sampling anew", stacklevel=3)
        return spec.empty
    return replace(empty, chunks=chunks, sums=sums, squares=squares)
