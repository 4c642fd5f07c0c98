"""Truth: exact sums, unbiased scores, and files that survive what happens to files."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from helpers.truths import load_or_extend

from cumprop import CumpropError, streams
from cumprop.sampling import MeanSpec, MeanTruth, load
from cumprop.sampling.truth import GROUPS, READOUTS


def spec(**changes):
    return replace(MeanSpec(width=8, depth=2, activation="relu", init="he", seed=0), **changes)


def relu_mean(network):
    """E[Y] of a network with one hidden layer of ReLUs."""
    w1, w2 = (w.astype(np.float64) for w in network.weights)
    return w2 @ (np.linalg.norm(w1, axis=1) / math.sqrt(2 * math.pi))


def assert_same(a, b):
    assert a.chunks == b.chunks
    np.testing.assert_array_equal(a.sums, b.sums)
    np.testing.assert_array_equal(a.squares, b.squares)


@pytest.mark.thorough
@pytest.mark.parametrize("design", ["iid", "antithetic", "orthogonal"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_sums_are_those_of_plain_forward_passes(activation, design):
    s = spec(activation=activation, design=design, depth=3, dtype="float64")
    truth = s.empty.extended().extended()
    for half in range(2):
        rows = []
        for chunk in range(2):
            rng = streams.truth(0, 8, half, chunk)
            for _ in range(GROUPS):
                rows.append([b.x.copy() for b in s.inputs.batches(rng, s.group_samples)])
        for group in range(GROUPS):
            x = np.concatenate(rows[group] + rows[GROUPS + group])
            for depth in (1, 2, 3):
                part = s.network.prefix(depth)
                *hidden, (y, _) = part.layers(x)
                z, post = hidden[-1]
                for readout, values in (("pre", z), ("post", post), ("output", y)):
                    np.testing.assert_allclose(
                        truth.groups(readout, depth)[half, group], values.mean(axis=0), atol=1e-12
                    )
    assert truth.n_samples == 2 * s.chunk_samples == 4 * GROUPS * s.group_samples
    np.testing.assert_allclose(truth.mean("post", 2), truth.groups("post", 2).mean(axis=1))


def test_mean_of_one_hidden_layer_is_exact():
    """5 standard errors of the orthogonal design's groups, 8 outputs: false alarms 1e-5."""
    truth = spec(depth=1).empty.extended()
    groups = truth.groups("output", 1).reshape(-1, 8)
    error = groups.std(axis=0, ddof=1) / math.sqrt(len(groups))
    assert (abs(groups.mean(axis=0) - relu_mean(truth.spec.network)) < 5 * error).all()


def test_two_half_score_is_unbiased():
    """(e - m1)·(e - m2) has mean |e - m|², for an e as far off as the halves are noisy.

    640 independent pairs of small halves over 40 networks; |z| < 4.5: false alarms 7e-6. The
    naive |e - mean|² is biased by half the variance, which the same data show.
    """
    scores, naive = [], []
    for seed in range(40):
        truth = spec(seed=seed, depth=1, design="iid").empty.extended()
        m1, m2 = truth.groups("output", 1)
        noise = math.sqrt(truth.variance("output", 1) / truth.spec.group_samples)
        delta = noise * np.resize([1.0, -1.0], 8)
        e = relu_mean(truth.spec.network) + delta
        scores.append((((e - m1) * (e - m2)).sum(axis=1) - delta @ delta) / noise**2)
        naive.append((((e - (m1 + m2) / 2) ** 2).sum(axis=1) - delta @ delta) / noise**2)
    scores, naive = np.ravel(scores), np.ravel(naive)
    error = scores.std() / math.sqrt(scores.size)
    assert abs(scores.mean()) < 4.5 * error
    assert naive.mean() > 10 * error


@pytest.mark.thorough
@pytest.mark.parametrize("readout", ["pre", "post", "output"])
def test_variance_is_the_iid_one_under_every_design(readout):
    """Within 1.5% (5 standard errors of a chunk of 1e5 inputs): false alarms below 1e-5."""
    variances = {
        design: spec(width=16, depth=3, design=design).empty.extended()
        for design in ("iid", "antithetic", "orthogonal")
    }
    iid = variances["iid"]
    for truth in variances.values():
        assert truth.variance(readout, 3) == pytest.approx(iid.variance(readout, 3), rel=0.015)
    x = np.random.default_rng(0).standard_normal((50_000, 16))
    *hidden, (y, _) = iid.spec.network.layers(x)
    values = {"pre": hidden[-1][0], "post": hidden[-1][1], "output": y}[readout]
    assert iid.variance(readout, 3) == pytest.approx(values.var(axis=0).mean(), rel=0.025)


def test_first_preactivations_have_no_variance_left():
    """Frames integrate linear functions exactly: Z_1 has mean 0 to rounding."""
    truth = spec(dtype="float64").empty.extended()
    np.testing.assert_allclose(truth.mean("pre", 1), 0, atol=1e-14)


def test_extending_gives_the_numbers_of_one_run(tmp_path):
    s = spec()
    load_or_extend(tmp_path, s, 1)
    grown = load_or_extend(tmp_path, s, 2.5 * s.chunk_samples)
    assert_same(grown, load_or_extend(tmp_path / "other", s, 3 * s.chunk_samples))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MeanTruth, "extended", pytest.fail)
        assert_same(grown, load_or_extend(tmp_path, s, 10))
    assert [p.name for p in (tmp_path / s.key).iterdir()] == ["2-0-3.npz"]


def test_interruption_keeps_finished_chunks(tmp_path, monkeypatch):
    s, extended = spec(), MeanTruth.extended

    def interrupted(truth):
        if truth.chunks == 2:
            raise KeyboardInterrupt
        return extended(truth)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(MeanTruth, "extended", interrupted)
        load_or_extend(tmp_path, s, 4 * s.chunk_samples)
    assert load(tmp_path, s.key).chunks == 2
    resumed = load_or_extend(tmp_path, s, 3 * s.chunk_samples)
    assert_same(resumed, load_or_extend(tmp_path / "other", s, 3 * s.chunk_samples))


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [flip, lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"no zip file"]
)
def test_damaged_files_are_set_aside(tmp_path, damage):
    s = spec()
    truth = load_or_extend(tmp_path, s, 1)
    path = tmp_path / s.key / "2-0-1.npz"
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.warns(UserWarning, match="set aside"):
        again = load_or_extend(tmp_path, s, 1)
    assert_same(truth, again)
    assert path.with_name("2-0-1.npz.corrupt").read_bytes() == damaged


def test_a_file_of_another_truth_is_set_aside(tmp_path):
    other = load_or_extend(tmp_path, spec(seed=1), 1)
    (tmp_path / other.spec.key).rename(tmp_path / spec().key)
    with pytest.warns(UserWarning, match="another truth"):
        load_or_extend(tmp_path, spec(), 1)


def test_workers_on_one_truth_do_not_hurt_each_other(tmp_path):
    s = spec()
    sizes = [1, 3, 2, 4]
    with ThreadPoolExecutor(4) as pool:
        truths = list(
            pool.map(lambda size: load_or_extend(tmp_path, s, size * s.chunk_samples), sizes)
        )
    assert all(t.chunks >= size for t, size in zip(truths, sizes, strict=True))
    final = load_or_extend(tmp_path, s, 4 * s.chunk_samples)
    assert_same(final, load_or_extend(tmp_path / "other", s, 4 * s.chunk_samples))


def test_a_deeper_truth_serves_a_shallower_network(tmp_path):
    """Bit by bit, so that no experiment samples what another has sampled."""
    shallow, deep = spec(depth=2), spec(depth=5)
    alone = load_or_extend(tmp_path / "alone", shallow, 2 * shallow.chunk_samples)
    load_or_extend(tmp_path, shallow, 2 * shallow.chunk_samples)
    deepened = load_or_extend(tmp_path, deep, 1)
    assert (deepened.spec.depth, deepened.chunks) == (5, 2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MeanTruth, "extended", pytest.fail)
        found = load_or_extend(tmp_path, shallow, 1)
    assert_same(found, deepened)
    for readout in READOUTS:
        for depth in (1, 2):
            np.testing.assert_array_equal(
                found.groups(readout, depth), alone.groups(readout, depth)
            )
            assert found.variance(readout, depth) == alone.variance(readout, depth)
    grown = load_or_extend(tmp_path, shallow, 3 * shallow.chunk_samples)
    assert (grown.spec.depth, grown.chunks) == (5, 3)


def test_every_field_but_the_depth_is_in_the_key():
    changes = [
        {"width": 9},
        {"activation": "tanh"},
        {"init": "critical"},
        {"init": {"w_var": 2.0, "b_var": 0.1}},
        {"seed": 1},
        {"dtype": "float64"},
        {"design": "iid"},
    ]
    keys = {spec(**change).key for change in changes} | {spec().key}
    assert len(keys) == len(changes) + 1
    assert spec(depth=3).key == spec().key
    swapped = spec(init={"b_var": 0.1, "w_var": 2.0})
    assert swapped.key == spec(init={"w_var": 2.0, "b_var": 0.1}).key


def test_mistakes_give_one_clear_line():
    truth = spec().empty
    for mistake in (
        lambda: truth.groups("mean", 1),
        lambda: truth.groups("output", 3),
        lambda: spec(design="sobol"),
        lambda: spec(activation="cube", depth=5, init={"w_var": 1e9}).empty.extended(),
    ):
        with pytest.raises(CumpropError) as error:
            mistake()
        assert "\n" not in str(error.value)
