"""Truths in blocks: the same numbers whoever sampled which block when, files damaged or old."""

import random
import threading
from dataclasses import replace

import numpy as np
import pytest

from cumprop import CumpropError
from cumprop.cli import main
from cumprop.errors import ConfigError
from cumprop.sampling import (
    Gap,
    TailSpec,
    TruthSpec,
    gaps,
    load,
    sample,
    samples_stored,
    stored_specs,
    truth_store,
)
from cumprop.sampling.truth_store import load_or_extend, merge
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


def assert_same(a, b):
    assert (a.spec.key, a.spec.depth, a.chunks) == (b.spec.key, b.spec.depth, b.chunks)
    np.testing.assert_array_equal(a.sums, b.sums)
    np.testing.assert_array_equal(a.squares, b.squares)


@pytest.mark.parametrize("seed", range(8))
def test_numbers_do_not_depend_on_who_samples_what_when(tmp_path, seed):
    """Blocks in random order, by three threads, left and taken up again, merged at any time."""
    rng, s, chunks = random.Random(seed), spec(), 4 + seed * 3
    for target in (rng.randint(1, chunks), chunks):
        while todo := gaps(tmp_path, s, target * s.chunk_samples):
            rng.shuffle(todo)
            some = [replace(gap, chunks=rng.randint(1, gap.chunks)) for gap in todo[:3]]
            threads = [threading.Thread(target=sample, args=(tmp_path, gap)) for gap in some]
            for thread in threads:
                thread.start()
            if rng.random() < 0.5:
                merge(tmp_path, s)
            for thread in threads:
                thread.join()
    assert_same(load(tmp_path, s.key), expected(s, chunks))
    assert_same(merge(tmp_path, s), expected(s, chunks))
    assert samples_stored(tmp_path, s) == chunks * s.chunk_samples
    assert not (tmp_path / s.key).exists()
    assert_same(
        load_or_extend(tmp_path, s, (chunks + 3) * s.chunk_samples), expected(s, chunks + 3)
    )


def test_a_file_that_holds_no_whole_blocks_is_set_aside(tmp_path):
    s = spec()
    sample(tmp_path, gaps(tmp_path, s, 3 * s.chunk_samples)[0])
    (block,) = (tmp_path / s.key).iterdir()
    block.rename(tmp_path / f"{s.key}.npz")
    with pytest.warns(UserWarning, match="its 3 chunks are no whole blocks; set aside"):
        merge(tmp_path, s)
    assert_same(load_or_extend(tmp_path, s, 3 * s.chunk_samples), expected(s, 3))


def test_blocks_of_a_killed_run_are_used(tmp_path):
    """Also before anything is merged, and up to the first gap."""
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


def test_less_never_replaces_more(tmp_path):
    s = spec()
    (gap,) = gaps(tmp_path, s, 3 * s.chunk_samples)
    one, more = (replace(gap, chunks=chunks) for chunks in (1, 3))

    def overtake(block):
        if block.chunks == 1:
            sample(tmp_path, more)

    sample(tmp_path, one, overtake)
    assert_same(load(tmp_path, s.key), expected(s, 3))


def test_a_deeper_truth_waits_until_it_is_as_large(tmp_path):
    """Until then the shallower one serves; after that it is gone with its blocks."""
    shallow, deep = (TruthSpec(3, d, "relu", "he", 0, "float64", "iid") for d in (1, 2))
    load_or_extend(tmp_path, shallow, 6 * shallow.chunk_samples)
    first, second = gaps(tmp_path, deep, 1)
    sample(tmp_path, first)
    merge(tmp_path, deep)
    assert load(tmp_path, shallow.key).spec.depth == 1
    sample(tmp_path, second)
    assert_same(merge(tmp_path, deep), expected(deep, 6))
    assert_same(load(tmp_path, shallow.key), expected(deep, 6))
    assert gaps(tmp_path, shallow, 6 * shallow.chunk_samples) == []


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "empty"])
def test_damaged_blocks_are_set_aside_and_sampled_again(tmp_path, damage):
    s = spec()
    for gap in gaps(tmp_path, s, 8 * s.chunk_samples):
        sample(tmp_path, gap)
    block = tmp_path / s.key / "2-4.npz"
    content = block.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    sample(tmp_path / "other", replace(gaps(tmp_path / "other", s, 1)[0], spec=spec(seed=1)))
    (foreign,) = (tmp_path / "other").glob("*/*.npz")
    damaged = {"truncated": content[:middle], "flipped": flipped, "empty": b""}
    block.write_bytes(damaged.get(damage) or foreign.read_bytes() * (damage == "foreign"))
    with pytest.warns(UserWarning, match="set aside"):
        truth = load_or_extend(tmp_path, s, 8 * s.chunk_samples)
    assert_same(truth, expected(s, 8))
    assert (tmp_path / s.key / "2-4.npz.corrupt").exists()


@pytest.mark.parametrize("count", [1, 2, 4, 9])
@pytest.mark.parametrize("chunks", [1, 4, 6, 8, 23])
def test_shards_have_each_block_once(tmp_path, count, chunks):
    """Also beside what is stored: a whole block, a block begun, one that does not follow."""
    task = TruthTask(spec(), chunks * spec().chunk_samples)
    sample(tmp_path / "truth", Gap(spec(), 0, min(chunks, 4)))
    merge(tmp_path / "truth", spec())
    for start, some in ((4, 1), (12, 4)):
        sample(tmp_path / "truth", Gap(spec(), start, some))
    shards = [replace(task, shard=(i, count)) for i in range(count)]
    blocks = [[block.gap for block in shard.blocks(tmp_path)] for shard in shards]
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
