"""Truths in blocks: the same numbers whoever sampled which block when, killed or damaged or old."""

import os
import random
import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from helpers.truths import load_or_extend

from cumprop import CumpropError
from cumprop.cli import main
from cumprop.errors import ConfigError
from cumprop.sampling import (
    MeanSpec,
    TailSpec,
    TailTruth,
    TruthBlock,
    gaps,
    load,
    sample,
    samples_stored,
    stored_specs,
    truth_files,
    truth_store,
)
from cumprop.sampling.truth_store import put_together
from cumprop.sweep.tasks import TruthTask


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(truth_store, "BLOCK", 4)


def spec(**changes):
    """A tail, whose chunks are quickly sampled: 2048 inputs a neuron."""
    return replace(TailSpec(3, 2, "relu", "he", 0, threshold=0.5), **changes)


def expected(s, chunks, start=0):
    """The sum of blocks of 4 chunks in their order, from `start` on."""
    total = replace(s.empty, start=start)
    while total.end < chunks:
        block = replace(s.empty, start=total.end)
        while block.end < min(total.end // 4 * 4 + 4, chunks):
            block = block.extended()
        total = total.joined(block)
    return total


def names(directory, s):
    return sorted(path.name for path in (directory / s.key).glob("*.npz"))


def parts_of(chunks):
    """The names of the files of a truth whose whole blocks are put together."""
    ends = [0, *([whole] if (whole := chunks // 4 * 4) else []), *([chunks] if chunks % 4 else [])]
    return sorted(f"2-{start}-{end}.npz" for start, end in pairwise(ends))


def assert_same(a, b):
    assert (a.spec.key, a.spec.depth, a.chunks) == (b.spec.key, b.spec.depth, b.chunks)
    np.testing.assert_array_equal(a.sums, b.sums)
    np.testing.assert_array_equal(a.squares, b.squares)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_numbers_do_not_depend_on_who_samples_what_when(tmp_path, seed):
    """Blocks in random order, by three threads, left and taken up again."""
    rng, s, chunks = random.Random(seed), spec(), 4 + seed * 3
    for target in (rng.randint(1, chunks), chunks):
        while todo := gaps(tmp_path, s, target * s.chunk_samples):
            rng.shuffle(todo)
            some = [replace(gap, chunks=rng.randint(1, gap.chunks)) for gap in todo[:3]]
            threads = [threading.Thread(target=sample, args=(tmp_path, gap)) for gap in some]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert_same(load(tmp_path, s.key), expected(s, chunks))
    assert samples_stored(tmp_path, s) == chunks * s.chunk_samples
    put_together(tmp_path, s)
    assert_same(load(tmp_path, s.key), expected(s, chunks))
    assert names(tmp_path, s) == parts_of(chunks)
    assert_same(
        load_or_extend(tmp_path, s, (chunks + 3) * s.chunk_samples), expected(s, chunks + 3)
    )


@pytest.mark.slow
@pytest.mark.parametrize("step", ["fsync", "replace", "unlink"])
@pytest.mark.parametrize("chunks", [3, 4, 10])
def test_killed_at_every_step_on_disk(tmp_path, step, chunks):
    """A kill before each fsync, rename and unlink loses no block that was stored before."""
    s, kill_at, stored, do = spec(), 0, 0, getattr(os, step)

    class Kill(BaseException):
        pass

    def step_or_kill(*words, **options):
        nonlocal left
        left -= 1
        if left < 0:
            raise Kill
        return do(*words, **options)

    killed = True
    while killed:
        folder, left, killed = tmp_path / str(kill_at), kill_at, False
        sample(folder, TruthBlock(s, 0, 2))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, step, step_or_kill)
            try:
                for gap in gaps(folder, s, chunks * s.chunk_samples):
                    sample(folder, gap)
            except Kill:
                killed = True
        kept = load(folder, s.key)
        assert kept.chunks >= max(stored, 2)
        assert_same(kept, expected(s, kept.chunks))
        assert_same(load_or_extend(folder, s, chunks * s.chunk_samples), expected(s, chunks))
        kill_at, stored = kill_at + 1, kept.chunks
    assert kill_at > (1 if chunks < 10 else 3)


def test_a_reader_sees_no_gap_while_files_are_put_together(tmp_path, monkeypatch):
    """Another process takes a file away between the reader's look and its read."""
    s = spec()
    for gap in (TruthBlock(s, 4, 4), TruthBlock(s, 0, 3)):
        sample(tmp_path, gap)
    read = truth_files.read

    def overtaken(directory, *words):
        monkeypatch.setattr(truth_files, "read", read)
        sample(tmp_path, TruthBlock(s, 0, 4))
        assert names(tmp_path, s) == ["2-0-8.npz"]
        return read(directory, *words)

    monkeypatch.setattr(truth_files, "read", overtaken)
    assert_same(load(tmp_path, s.key), expected(s, 8))


def test_a_file_taken_away_by_hand_is_sampled_again(tmp_path):
    s = spec()
    before = load_or_extend(tmp_path, s, 10 * s.chunk_samples)
    (tmp_path / s.key / "2-0-8.npz").unlink()
    with pytest.raises(CumpropError, match=r"no truth in .*; run the sweep again"):
        load(tmp_path, s.key)
    assert [(gap.start, gap.stored) for gap in gaps(tmp_path, s, 10 * s.chunk_samples)] == [
        (0, 0),
        (4, 0),
    ]
    assert_same(load_or_extend(tmp_path, s, 10 * s.chunk_samples), before)


def test_files_of_older_layouts_are_ignored(tmp_path):
    """A sum beside the folder, and a block in it whose name says where it starts alone."""
    s = spec()
    other = load_or_extend(tmp_path, spec(seed=1), 3 * s.chunk_samples)
    old = {"spec": s.canonical, "chunks": 3, "sums": other.sums, "squares": other.squares}
    (tmp_path / s.key).mkdir()
    for path in (tmp_path / f"{s.key}.npz", tmp_path / s.key / "2-0.npz"):
        np.savez(path, **old)
    assert [found.key for found in stored_specs(tmp_path)] == [other.spec.key]
    assert samples_stored(tmp_path, s) == 0
    with pytest.raises(CumpropError, match="no truth in"):
        load(tmp_path, s.key)
    assert_same(load_or_extend(tmp_path, s, 3 * s.chunk_samples), expected(s, 3))


@pytest.mark.parametrize("s", [spec(), MeanSpec(3, 2, "relu", "he", 0)])
def test_the_file_says_which_kind_of_truth_it_is(tmp_path, s):
    load_or_extend(tmp_path, s, 1)
    assert stored_specs(tmp_path) == [s]
    assert type(load(tmp_path, s.key)) is type(s.empty)


def test_blocks_of_a_killed_run_are_used(tmp_path):
    """Also those after a gap, as soon as it is filled."""
    s = spec()
    todo = gaps(tmp_path, s, 12 * s.chunk_samples)
    for gap in (todo[0], todo[2]):
        sample(tmp_path, gap)
    assert_same(load(tmp_path, s.key), expected(s, 4))
    assert samples_stored(tmp_path, s) == 8 * s.chunk_samples
    assert [found.key for found in stored_specs(tmp_path)] == [s.key]
    assert [(gap.start, gap.stored) for gap in gaps(tmp_path, s, 12 * s.chunk_samples)] == [(4, 0)]
    sample(tmp_path, todo[1])
    assert_same(load(tmp_path, s.key), expected(s, 12))


def test_less_never_replaces_more(tmp_path, monkeypatch):
    s, extended = spec(), TailTruth.extended

    def overtaken(truth):
        monkeypatch.setattr(TailTruth, "extended", extended)
        sample(tmp_path, TruthBlock(s, 0, 3))
        return extended(truth)

    monkeypatch.setattr(TailTruth, "extended", overtaken)
    sample(tmp_path, TruthBlock(s, 0, 1))
    assert_same(load(tmp_path, s.key), expected(s, 3))


def test_a_deeper_truth_waits_until_it_is_as_large(tmp_path):
    """Until then the shallower one serves; after that it is gone with its blocks."""
    shallow, deep = (MeanSpec(3, d, "relu", "he", 0, "float64", "iid") for d in (1, 2))
    load_or_extend(tmp_path, shallow, 6 * shallow.chunk_samples)
    first, second = gaps(tmp_path, deep, 1)
    sample(tmp_path, first)
    assert load(tmp_path, shallow.key).spec.depth == 1
    sample(tmp_path, second)
    put_together(tmp_path, deep)
    assert names(tmp_path, deep) == ["2-0-4.npz", "2-4-6.npz"]
    assert_same(load(tmp_path, shallow.key), expected(deep, 6))
    assert gaps(tmp_path, shallow, 6 * shallow.chunk_samples) == []


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "empty"])
def test_damaged_blocks_are_set_aside_and_sampled_again(tmp_path, damage):
    s = spec()
    for start in (4, 0):
        sample(tmp_path, TruthBlock(s, start, 3))
    block = tmp_path / s.key / "2-4-7.npz"
    content = block.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    sample(tmp_path / "other", TruthBlock(spec(seed=1), 0, 1))
    (foreign,) = (tmp_path / "other").glob("*/*.npz")
    damaged = {"truncated": content[:middle], "flipped": flipped, "empty": b""}
    block.write_bytes(damaged.get(damage) or foreign.read_bytes() * (damage == "foreign"))
    with pytest.warns(UserWarning, match="set aside"):
        truth = load_or_extend(tmp_path, s, 8 * s.chunk_samples)
    assert_same(truth, expected(s, 8))
    assert (tmp_path / s.key / "2-4-7.npz.corrupt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 4, 9])
@pytest.mark.parametrize("chunks", [1, 4, 6, 8, 23])
def test_shards_have_each_block_once(tmp_path, count, chunks):
    """Also beside what is stored: a whole block, a block begun, one that does not follow."""
    task = TruthTask(spec(), chunks * spec().chunk_samples)
    sample(tmp_path / "truth", TruthBlock(spec(), 0, min(chunks, 4)))
    for start, some in ((4, 1), (12, 4)):
        sample(tmp_path / "truth", TruthBlock(spec(), start, some))
    shards = [replace(task, shard=(i, count)) for i in range(count)]
    blocks = [shard.blocks(tmp_path) for shard in shards]
    starts = [gap.start for gaps in blocks for gap in gaps]
    assert sorted(starts) == [start for start in (4, 8, 16, 20) if start + (start == 4) < chunks]
    for shard, some in zip(shards, blocks, strict=True):
        left = sum(gap.chunks - gap.stored for gap in some)
        assert shard.remaining(tmp_path).n_samples == left * spec().chunk_samples


def test_samples_without_number(tmp_path):
    """A forecast is a matter of arithmetic; a list of blocks has an end."""
    task = TruthTask(spec(), 9 * 10**18)
    assert task.remaining(tmp_path).n_samples >= 9 * 10**18
    with pytest.raises(ConfigError, match="more than 1,000,000 blocks"):
        task.blocks(tmp_path)


def test_blocks_that_do_not_follow_are_not_joined():
    with pytest.raises(CumpropError, match="a truth to chunk 0 and a block from 4 on"):
        spec().empty.joined(replace(spec().empty, start=4))


class TestCommands:
    CONFIG = "{network: {width: 3, depth: 2, readout: tail(0.5), seeds: 2}, " \
        "truth: {n_samples: 2, design: importance}, estimators: [{name: cumulant}]}"  # fmt: skip

    @pytest.fixture
    def config(self, tmp_path):
        path = tmp_path / "test.yaml"
        path.write_text(self.CONFIG)
        return path

    def test_extend(self, tmp_path, config, capsys):
        results, n = tmp_path / "results", 2048
        words = ["truth", "extend", "--workers", "1", "--n-samples"]
        assert main([*words, "5000", str(config), "--results", str(results)]) == 0
        assert main([*words, "2e4", str(results)]) == 0
        for seed in range(2):
            s = spec(seed=seed)
            assert_same(load(results / "truth", s.key), expected(s, 10))
        capsys.readouterr()
        assert main(["truth", "list", str(results)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[-1] for line in lines] == ["n_samples", *[f"{10 * n:,}"] * 2]
        assert {line.split()[0] for line in lines[1:]} == {spec(seed=i).key for i in range(2)}

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["list", "."], 1, "holds no truths; run `cumprop sweep CONFIG` first"),
            (["extend", ".", "--n-samples", "9"], 1, "holds no truths"),
            (["extend", ".", "--n-samples", "1"], 2, "give at least 2"),
            (["extend", ".", "--n-samples", "nan"], 2, "give at least 2"),
            (["extend", ".", "--n-samples", "9", "--set", "a=1"], 2, "--set goes with a CONFIG"),
            (["extend", "no.yaml", "--n-samples", "9"], 2, "no.yaml"),
        ],
    )
    def test_mistakes(self, tmp_path, monkeypatch, capsys, words, code, said):
        monkeypatch.chdir(tmp_path)
        assert main(["truth", *words]) == code
        assert said in capsys.readouterr().err
