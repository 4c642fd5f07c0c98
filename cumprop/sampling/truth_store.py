"""Truth on disk: sampled in blocks by any number of processes, merged into one file.

truth/<truth_key>.npz                      the truth, chunk after chunk from 0 on
truth/<truth_key>/<depth>-<start>.npz      a block that is not merged yet

A block holds the chunks from its start to the next multiple of `BLOCK`, added up in their order. A
truth is the sum of its blocks in their order: its numbers, to the last bit, depend on the number of
chunks, not on who sampled which of them when. The file keeps a last block that is not whole by
itself.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cumprop.errors import ConfigError, CumpropError
from cumprop.sampling import truth_files
from cumprop.sampling.truth import Truth, TruthSpec

BLOCK = 64
"""Chunks of a whole block; the last bits of a truth depend on it."""

_SAVE_SECONDS = 20.0
_MOST_BLOCKS = 1_000_000


@dataclass(frozen=True)
class Gap:
    """Work on a truth: its block from chunk `start` on, until that holds `chunks` chunks.

    `stored` of them are there.
    """

    spec: TruthSpec
    start: int
    chunks: int
    stored: int = 0


def load(directory: str | Path, key: str) -> Truth:
    """The truth stored under `key`, with the blocks that continue it.

    Raises CumpropError where there is no sound one.
    """
    directory = Path(directory)
    spec = stored_spec(directory, key)
    if spec is not None and spec.key == key:
        truth = _total(*_parts(directory, spec))
        if truth.chunks:
            return truth
    raise CumpropError(f"no truth in {directory / key}.npz; run the sweep again")


def stored_spec(directory: Path, key: str) -> TruthSpec | None:
    """What the truth stored under `key` is of, as deep as it is; None where there is none."""
    from cumprop.sampling.tails import TailSpec

    paths = [directory / f"{key}.npz", *sorted((directory / key).glob("*-*.npz"))]
    for header in filter(None, map(truth_files.header, paths)):
        fields = json.loads(header["spec"])
        del fields["version"]
        return TailSpec(**fields) if "threshold" in fields else TruthSpec(**fields)
    return None


def stored_specs(directory: Path) -> list[TruthSpec]:
    """What all truths in a folder are of, those with blocks alone too."""
    paths = [*directory.glob("*.npz"), *(path.parent for path in directory.glob("*/*-*.npz"))]
    keys = sorted({path.name.removesuffix(".npz") for path in paths})
    return [spec for key in keys if (spec := stored_spec(directory, key)) and spec.key == key]


def samples_stored(directory: str | Path, spec: TruthSpec) -> int:
    """Forward passes stored for `spec`, at its depth or deeper, unmerged blocks included."""
    directory = Path(directory)
    end, stored = _stored(directory, _deepest(directory, spec))
    return (end + sum(stored.values())) * spec.chunk_samples


def chunks_stored(directory: Path, spec: TruthSpec) -> dict[int, int]:
    """Chunks of each block that is stored and not whole in the truth's file, by where it starts."""
    return _stored(directory, spec)[1]


def gaps(
    directory: str | Path, spec: TruthSpec, n_samples: float, shard: tuple[int, int] = (0, 1)
) -> list[Gap]:
    """What is to be sampled for `n_samples`, block by block, as deep as what is stored.

    A stored truth that is not deep enough is sampled anew, at least as large. Of a shard (i, n) it
    is the blocks whose number is i modulo n. Raises ConfigError where there are too many.
    """
    spec, start, stored, wanted = _asked(Path(directory), spec, n_samples)
    if wanted - start > BLOCK * _MOST_BLOCKS:
        raise ConfigError(
            f"truth of {n_samples:.1e} samples at width {spec.width}: more than {_MOST_BLOCKS:,} "
            "blocks; extend it by fewer n_samples at a time"
        )
    missing = []
    while start < wanted:
        chunks = min(block_end(start), wanted) - start
        if stored.get(start, 0) < chunks and start // BLOCK % shard[1] == shard[0]:
            missing.append(Gap(spec, start, chunks, stored.get(start, 0)))
        start = block_end(start)
    return missing


def missing_chunks(
    directory: str | Path, spec: TruthSpec, n_samples: float, shard: tuple[int, int] = (0, 1)
) -> int:
    """Chunks of all `gaps`, however many there are."""
    _, end, stored, wanted = _asked(Path(directory), spec, n_samples)
    number, count = shard
    first, last = end // BLOCK, (wanted - 1) // BLOCK
    chunks = BLOCK * max((last - 1 - number) // count - (first - number) // count, 0)
    for block in {first, last}:  # which need not be whole
        if block % count == number:
            chunks += max(min((block + 1) * BLOCK, wanted) - max(block * BLOCK, end), 0)
    for start, done in stored.items():
        if start < wanted and start // BLOCK % count == number:
            chunks -= min(done, min(block_end(start), wanted) - start)
    return chunks


def _asked(
    directory: Path, spec: TruthSpec, n_samples: float
) -> tuple[TruthSpec, int, dict[int, int], int]:
    """What is sampled on, the end of its whole blocks, what is stored beyond, and its chunks."""
    wanted = math.ceil(n_samples / spec.chunk_samples)
    found = stored_spec(directory, spec.key)
    if found is not None and found.depth < spec.depth:
        wanted = max(wanted, samples_stored(directory, found) // spec.chunk_samples)
    spec = _deepest(directory, spec)
    return spec, *_stored(directory, spec), wanted


def block_end(start: int) -> int:
    """Where the block that begins at chunk `start` ends.

    >>> block_end(0), block_end(100)
    (64, 128)
    """
    return (start // BLOCK + 1) * BLOCK


def load_or_extend(
    directory: str | Path,
    spec: TruthSpec,
    n_samples: float,
    progress: Callable[[int], None] = lambda n_samples: None,
) -> Truth:
    """The truth of `spec` or a deeper one with at least `n_samples`, from `directory` if there.

    What is missing is sampled here, block by block; `progress` is called with the samples there are
    after each chunk. Processes at work on one truth do not hurt each other. Memory: 4 copies of the
    sums and one batch of activations.
    """
    while True:
        for gap in gaps(directory, spec, n_samples):
            sample(directory, gap, lambda block: progress(block.end * spec.chunk_samples))
            merge(directory, gap.spec)
        truth = merge(directory, _deepest(Path(directory), spec))
        if truth.n_samples >= n_samples:  # else a file was damaged
            return truth


def sample(
    directory: str | Path, gap: Gap, progress: Callable[[Truth], None] = lambda block: None
) -> None:
    """Sample a block chunk by chunk, from where it was left.

    It is stored every 20 seconds and when the work ends or is interrupted. A file that cannot be
    read is set aside as `.corrupt` with a warning.
    """
    directory, spec = Path(directory), _remembered(gap.spec)
    block, last_save = _begun(directory, spec, gap.start), time.monotonic()
    stored = block.chunks
    try:
        while block.chunks < gap.chunks:
            block = block.extended()
            progress(block)
            if time.monotonic() - last_save > _SAVE_SECONDS:
                _write_block(directory, block)
                stored, last_save = block.chunks, time.monotonic()
    finally:
        if block.chunks > stored:
            _write_block(directory, block)


def merge(directory: str | Path, spec: TruthSpec) -> Truth:
    """Put the blocks that follow each other into the truth's file; returns what is there then.

    A deeper truth takes the place of a shallower one as soon as it is as large.
    """
    directory = Path(directory)
    path = directory / f"{spec.key}.npz"
    with truth_files.lock(directory):
        whole, rest = _parts(directory, spec)
        total, before = (
            _total(whole, rest),
            truth_files.header(path) or {"depth": 0, "chunks": 0, "rest": 0},
        )
        had = before["chunks"] + before["rest"]
        if total.chunks < max(had, 1):
            return total  # a shallower truth has more so far
        if total.chunks > had or spec.depth > before["depth"]:
            truth_files.write(path, whole, rest)
        for block in (directory / spec.key).glob("*-*.npz"):
            depth, start = truth_files.place(block)
            if depth < spec.depth or start < whole.end or (start == whole.end and rest is not None):
                block.unlink()
        with suppress(OSError):  # it is not empty, or was not there
            (directory / spec.key).rmdir()
    return total


_last: list[TruthSpec] = []


def _remembered(spec: TruthSpec) -> TruthSpec:
    """The equal spec of the block before, which has made its network, if that was one."""
    if _last != [spec]:
        _last[:] = [spec]
    return _last[0]


def _deepest(directory: Path, spec: TruthSpec) -> TruthSpec:
    """`spec`, as deep as what is stored if that is deeper."""
    found = stored_spec(directory, spec.key)
    return found if found is not None and found.depth > spec.depth else spec


def _parts(directory: Path, spec: TruthSpec) -> tuple[Truth, Truth | None]:
    """The sum of the whole blocks that follow each other, and the one after them if begun."""
    path = directory / f"{spec.key}.npz"
    while True:
        version = truth_files.version(path)
        whole = truth_files.read(path, spec, multiple_of=BLOCK)
        while (block := _begun(directory, spec, whole.end)).end == block_end(whole.end):
            whole = whole.joined(block)
        if truth_files.version(path) == version:  # else blocks were merged and deleted
            return whole, block if block.chunks else None


def _begun(directory: Path, spec: TruthSpec, start: int) -> Truth:
    """What there is of a block, in a file of its own or at the end of the truth's."""
    block = truth_files.read(truth_files.block_path(directory, spec, start), spec, start)
    path = directory / f"{spec.key}.npz"
    header = truth_files.header(path)
    if header and (header["depth"], header["chunks"]) == (spec.depth, start):
        rest = truth_files.read(path, spec, start, "rest_")
        return rest if rest.chunks > block.chunks else block
    return block


def _total(whole: Truth, rest: Truth | None) -> Truth:
    return whole if rest is None else whole.joined(rest)


def _stored(directory: Path, spec: TruthSpec) -> tuple[int, dict[int, int]]:
    """Where the whole blocks of the truth's file end, and the chunks of each block after that."""
    header, end, stored = truth_files.header(directory / f"{spec.key}.npz"), 0, dict[int, int]()
    if header and header["depth"] == spec.depth:
        end = header["chunks"]
        stored[end] = header["rest"]
    for path in (directory / spec.key).glob(f"{spec.depth}-*.npz"):
        _, start = truth_files.place(path)
        block = truth_files.header(path)
        if block and start >= end and start % BLOCK == 0:
            stored[start] = max(stored.get(start, 0), block["chunks"])
    return end, stored


def _write_block(directory: Path, block: Truth) -> None:
    """Store a block, unless more of it is there."""
    path = truth_files.block_path(directory, block.spec, block.start)
    with truth_files.lock(directory):
        stored = truth_files.header(path)
        if stored is None or stored["chunks"] < block.chunks:
            truth_files.write(path, block)
