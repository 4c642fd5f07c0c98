"""Truth on disk: sampled in blocks by any number of processes, which may be killed at any time.

A block holds `BLOCK` chunks, or fewer if it is not whole, added up in their order. A truth is the
sum of its blocks in their order: its numbers, to the last bit, depend on the number of chunks, not
on the processes that sampled them. A file holds one block, or the sum of the first whole blocks, so
that a truth of many blocks has few files.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

from cumprop import files
from cumprop.errors import ConfigError, CumpropError
from cumprop.sampling import truth_files
from cumprop.sampling.truth import Truth, TruthSpec
from cumprop.sampling.truth_files import Part

BLOCK = 64
"""The number of chunks of a whole block; the last bits of a truth depend on it."""

_SAVE_SECONDS = 20.0
_MOST_BLOCKS = 1_000_000


@dataclass(frozen=True)
class TruthBlock:
    """A task of sampling: the block of a truth from chunk `start` on, up to `chunks` chunks.

    `stored` of these chunks are on disk.
    """

    spec: TruthSpec
    start: int
    chunks: int
    stored: int = 0

    @property
    def label(self) -> str:
        """The truth in words."""
        return f"truth width {self.spec.width} depth {self.spec.depth} seed {self.spec.seed}"

    @property
    def flops(self) -> int:
        """The FLOPs of the chunks that are not stored."""
        return self.flops_of(self.chunks)

    def flops_of(self, chunks: int) -> int:
        """The FLOPs of the first `chunks` chunks of the block that were not stored before."""
        new = max(min(chunks, self.chunks) - self.stored, 0)
        return new * self.spec.chunk_samples * self.spec.flops

    @property
    def bytes(self) -> int:
        """The predicted memory of the sampling."""
        return self.spec.bytes


def load(directory: Path, key: str) -> Truth:
    """The truth stored under `key`, up to the first gap between its blocks.

    Raises CumpropError where no sound truth is stored.
    """
    spec = stored_spec(directory, key)
    if spec is not None and (truth := _read(directory, spec, repair=False)[1]).chunks:
        return truth
    raise CumpropError(f"no truth in {directory / key}; run the sweep again")


def stored_spec(directory: Path, key: str) -> TruthSpec | None:
    """The spec of the truth stored under `key`, with its depth; None where none is stored."""
    depth, _ = _largest(directory, key)
    parts = (part for part in truth_files.parts(directory, key) if part.depth == depth)
    specs = (truth_files.read_spec(part.path(directory, key)) for part in parts)
    return next((spec for spec in specs if spec is not None and spec.key == key), None)


def stored_specs(directory: Path) -> list[TruthSpec]:
    """The specs of all truths in a folder, sorted by key."""
    keys = sorted(path.name for path in directory.glob("*/"))
    return [spec for key in keys if (spec := stored_spec(directory, key))]


def samples_stored(directory: Path, spec: TruthSpec) -> int:
    """The number of samples stored for `spec`, at its depth or deeper, also after a gap."""
    return sum(chunks_stored(directory, spec).values()) * spec.chunk_samples


def chunks_stored(directory: Path, spec: TruthSpec) -> dict[int, int]:
    """The number of chunks of each stored block, by its start, at the depth of `spec` or deeper."""
    return _blocks(directory, spec.key, _deep(directory, spec).depth)


def gaps(
    directory: Path, spec: TruthSpec, n_samples: float, shard: tuple[int, int] = (0, 1)
) -> list[TruthBlock]:
    """The blocks to sample for `n_samples`, at least as deep as the stored truth.

    A stored truth that is not deep enough is sampled anew, with at least as many samples. A shard
    (i, n) has the blocks whose number is i modulo n. Raises ConfigError for too many blocks.
    """
    if missing_chunks(directory, spec, n_samples, shard) > BLOCK * _MOST_BLOCKS:
        raise ConfigError(
            f"truth of {n_samples:.1e} samples at width {spec.width}: more than {_MOST_BLOCKS:,} "
            "blocks; extend it by fewer n_samples at a time"
        )
    stored, wanted, numbers = _asked(directory, spec, n_samples, shard)
    spec, missing = _deep(directory, spec), []
    for start in (number * BLOCK for number in numbers):
        chunks, done = min(BLOCK, wanted - start), stored.get(start, 0)
        if done < chunks:
            missing.append(TruthBlock(spec, start, chunks, done))
    return missing


def missing_chunks(
    directory: Path, spec: TruthSpec, n_samples: float, shard: tuple[int, int] = (0, 1)
) -> int:
    """The number of chunks of all `gaps`, however many there are."""
    stored, wanted, numbers = _asked(directory, spec, n_samples, shard)
    chunks = BLOCK * len(numbers)
    if (wanted - 1) // BLOCK in numbers:
        chunks -= -wanted % BLOCK
    there = ((start, n) for start, n in stored.items() if start // BLOCK in numbers)
    return chunks - sum(min(n, wanted - start) for start, n in there)


def _asked(
    directory: Path, spec: TruthSpec, n_samples: float, shard: tuple[int, int]
) -> tuple[dict[int, int], int, range]:
    """The stored blocks, the number of wanted chunks, and the numbers of their blocks."""
    _, chunks = _largest(directory, spec.key)
    wanted = max(math.ceil(n_samples / spec.chunk_samples), chunks)
    number, count = shard
    return chunks_stored(directory, spec), wanted, range(number, -(-wanted // BLOCK), count)


def sample(directory: Path, work: TruthBlock) -> None:
    """Sample a block chunk by chunk, after the stored chunks.

    The block is stored every 20 seconds and when the work ends or is interrupted; a whole block is
    merged with the blocks before it. Memory: 4 copies of the sums and one batch of activations.
    """
    spec, start = work.spec, work.start
    stored = _blocks(directory, spec.key, spec.depth).get(start, 0)
    if stored >= work.chunks:  # by another process
        return
    part = Part(spec.depth, start, start + stored)
    block = truth_files.read(directory, spec, part, repair=True) or replace(spec.empty, start=start)
    stored, last_save = block.chunks, time.monotonic()
    try:
        while block.chunks < work.chunks:
            block = block.extended()
            if time.monotonic() - last_save > _SAVE_SECONDS:
                truth_files.write(directory, block)
                stored, last_save = block.chunks, time.monotonic()
    finally:
        if block.chunks > stored:
            truth_files.write(directory, block)
    if block.chunks == BLOCK:
        put_together(directory, spec)


def put_together(directory: Path, spec: TruthSpec) -> None:
    """Merge consecutive whole blocks into one file, and delete the files that it replaces.

    A deeper truth replaces a shallower one as soon as it is as large. Unreadable files are set
    aside.
    """
    spec = _deep(directory, spec)
    files.remove_leftovers(directory / spec.key)
    whole, _ = _read(directory, spec, repair=True)
    parts = truth_files.parts(directory, spec.key)
    if sum(part.depth == spec.depth and part.end <= whole.end for part in parts) > 1:
        truth_files.write(directory, whole)
    if _largest(directory, spec.key)[0] == spec.depth:
        for part in parts:
            if part.depth < spec.depth:
                part.path(directory, spec.key).unlink(missing_ok=True)


def _read(directory: Path, spec: TruthSpec, repair: bool) -> tuple[Truth, Truth]:
    """The sum of the whole blocks from chunk 0 on, and this sum with the block that is not whole.

    Another process may have merged files that are gone; the next look finds the merged file.
    """
    lost = set[Part]()
    while True:
        whole = total = spec.empty
        longest = {
            part.start: part
            for part in truth_files.parts(directory, spec.key)
            if part.depth == spec.depth and part not in lost
        }
        while (part := longest.get(total.end)) is not None:
            found = truth_files.read(directory, spec, part, repair)
            if found is None:
                lost.add(part)
                break
            total = total.joined(found)
            whole = total if part.end % BLOCK == 0 else whole
        else:
            return whole, total


def _blocks(directory: Path, key: str, depth: int) -> dict[int, int]:
    """The number of chunks of each block stored at a depth, by its start; only names are read."""
    stored = dict[int, int]()
    for part in truth_files.parts(directory, key):
        if part.depth == depth:
            for start in range(part.start, part.end, BLOCK):
                stored[start] = max(stored.get(start, 0), min(part.end - start, BLOCK))
    return stored


def _largest(directory: Path, key: str) -> tuple[int, int]:
    """Depth and chunks of the stored truth with the most chunks before a gap, then the deepest.

    Both are 0 where nothing is stored.
    """
    found = [(0, 0)]
    for depth in {part.depth for part in truth_files.parts(directory, key)}:
        stored, end = _blocks(directory, key, depth), 0
        while stored.get(end) == BLOCK:
            end += BLOCK
        found.append((end + stored.get(end, 0), depth))
    chunks, depth = max(found)
    return depth, chunks


def _deep(directory: Path, spec: TruthSpec) -> TruthSpec:
    """`spec` with the depth of the stored truth if that is deeper."""
    depth, _ = _largest(directory, spec.key)
    return replace(spec, depth=depth) if depth > spec.depth else spec
