"""Scores: the mean squared error is unbiased and its two intervals cover."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.truths import load_or_extend

from cumprop.errors import CumpropError
from cumprop.results import scores, store
from cumprop.results.scores import (
    mse_between,
    noise_interval,
    score,
    score_and_store,
    summary,
    total_interval,
)
from cumprop.sampling import MeanSpec

N, B = 12, 8


def correlated(rng, repeats, n_groups=B, n=N):
    """Group means (repeats, 2, B, n) around zero whose outputs share most of their variance."""
    mixing = rng.normal(size=(n, n)) * 0.6 ** np.arange(n)
    return rng.normal(size=(repeats, 2, n_groups, n)) @ mixing.T


def test_without_noise_the_error_is_exact():
    rng = np.random.default_rng(0)
    truth, estimate = rng.normal(size=(2, N))
    groups = np.broadcast_to(truth, (2, B, N))
    mse, mse_se = mse_between(estimate, groups)
    assert mse == pytest.approx(np.mean((estimate - truth) ** 2), rel=1e-12)
    assert mse_se == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("error", [0.0, 0.3, 3.0])
def test_unbiased_whatever_the_noise_and_never_too_certain(error):
    """4 standard errors: one false alarm in 16 000 runs of other seeds."""
    rng = np.random.default_rng(1)
    estimate = error * rng.normal(size=N)
    scored = np.array([mse_between(estimate, groups) for groups in correlated(rng, 4000)])
    mse, mse_se = scored.T
    assert abs(mse.mean() - np.mean(estimate**2)) < 4 * mse.std() / np.sqrt(len(mse))
    ratio = np.mean(mse_se**2) / mse.var()
    assert 0.85 < ratio < (1.15 if error == 3.0 else 2.3)  # s.e. of the ratio: 0.03 to 0.07


def test_jackknife_is_leaving_one_group_out():
    rng = np.random.default_rng(2)
    groups, estimate = correlated(rng, 1)[0], rng.normal(size=N)

    def left_out(half, group):
        means = list(groups.mean(axis=1))
        means[half] = np.delete(groups[half], group, axis=0).mean(axis=0)
        return (estimate - means[0]) @ (estimate - means[1]) / N

    replicates = np.array([[left_out(half, group) for group in range(B)] for half in range(2)])
    expected = np.sqrt((B - 1) * replicates.var(axis=1).sum())
    assert mse_between(estimate, groups)[1] == pytest.approx(expected, rel=1e-12)


def test_order_of_groups_halves_and_outputs_does_not_matter():
    rng = np.random.default_rng(3)
    groups, estimate = correlated(rng, 1)[0], rng.normal(size=N)
    expected = mse_between(estimate, groups)
    outputs = rng.permutation(N)
    for same in (groups[::-1], rng.permutation(groups, axis=1)):
        assert mse_between(estimate, same) == pytest.approx(expected, rel=1e-12)
    assert mse_between(estimate[outputs], groups[:, :, outputs]) == pytest.approx(expected)


@pytest.mark.thorough
@pytest.mark.parametrize("error", [0.0, 0.5, 3.0])
def test_noise_interval_covers(error):
    """5 networks, errors fixed, truths drawn again: 95% or more, where noise dominates much more.

    1500 runs: coverage of 0.95 falls below 0.93 in one of 5000 repetitions with other seeds.
    """
    rng = np.random.default_rng(4)
    estimates = error * rng.normal(size=(5, N))
    expected = np.mean(estimates**2)
    covered = []
    for groups in correlated(rng, 1500 * 5).reshape(1500, 5, 2, B, N):
        mse, se = np.array([mse_between(*pair) for pair in zip(estimates, groups, strict=True)]).T
        low, high = noise_interval(mse, se, B)
        covered.append(low < expected < high)
    assert np.mean(covered) > 0.93


@pytest.mark.parametrize("seeds", [2, 5, 20])
def test_total_interval_covers(seeds):
    """Networks drawn again, errors and variances correlated, truths noisy: 95% of 4000 runs.

    Skewed errors of few networks cost a point: 0.935 to 0.97, where the s.e. is 0.0035.
    """
    rng = np.random.default_rng(5)
    size = rng.normal(size=(4000, seeds))
    variance = np.exp(0.2 * size)
    mse = np.exp(0.3 * size + 0.2 * rng.normal(size=size.shape)) + 0.1 * rng.normal(size=size.shape)
    expected = np.exp(0.3**2 / 2 + 0.2**2 / 2) / np.exp(0.2**2 / 2)
    intervals = np.array([total_interval(*pair) for pair in zip(mse, variance, strict=True)])
    covered = np.mean((intervals[:, 0] < expected) & (expected < intervals[:, 1]))
    assert 0.935 < covered < 0.97


def test_total_interval_needs_two_networks():
    assert np.isnan(total_interval([1.0], [1.0])).all()


class FakeTruth:
    """Truth of zero means whose groups scatter with `noise`."""

    def __init__(self, seed, noise=0.01, n_samples=1600):
        self.n_samples = n_samples
        self.means = noise * np.random.default_rng(seed).normal(size=(2, B, N))

    def groups(self, readout, depth):
        return self.means

    def variance(self, readout, depth):
        return 2.0

    def buckets(self, estimate):
        return {}


@pytest.fixture
def truths(monkeypatch):
    """Truths by key, in place of the files of `results/truth`."""
    known = {f"truth{seed}": FakeTruth(seed) for seed in range(3)}

    def load(directory, key):
        if key not in known:
            raise CumpropError(f"no truth {key}")
        return known[key]

    monkeypatch.setattr(scores, "load", load)
    return known


FAILED = {"outcome": "failed", "note": "x", "status": None}


def write(folder: Path, mean=1.0, seed=0, **columns):
    """One part; `mean` is that of every output, or a list."""
    mean = [mean] * N if isinstance(mean, float) else mean
    row = {
        "config": folder.name, "width": N, "depth": 2, "readout": "output", "activation": "relu",
        "init": "he", "dtype": "float32", "seed": seed, "repeat": 0, "estimator": "cumulant",
        "order": 2, "kind": "basic", "parameters": "{}", "estimator_version": 1,
        "truth_design": "orthogonal", "truth_key": f"truth{seed}", "truth_n_samples": 1600,
        "mean": mean, "flops": 1000, "flops_convention": "executed-1", "seconds": 0.5,
        "outcome": "done", "status": "ok", "cpu": "cpu", "blas": "blas", "threads": 1, "workers": 2,
    } | columns  # fmt: skip
    key = "-".join(str(row[name]) for name in ("estimator", "parameters", "seed", "repeat"))
    store.write_part(folder / "parts", {"cell_key": f"{key}-{row['estimator_version']}"} | row)


def test_rows_and_truths_become_scores(tmp_path, truths):
    for seed in range(3):
        write(tmp_path / "small", mean=1.0 + seed, seed=seed)
    table = score_and_store(tmp_path)
    assert table["vn_mse"].to_numpy() == pytest.approx([0.5, 2.0, 4.5], rel=0.02)
    assert table["truth_gain"].to_numpy() == pytest.approx(0.01**2 * 100 / 2, rel=0.3)
    assert table["resolved"].all()
    assert table["total_low"].nunique() == 1
    (point,) = summary(table).to_dict("records")
    assert point["n_seeds"] == 3
    assert point["vn_mse"] == pytest.approx(table["mse"].mean() / 2)
    assert point["total_low"] < point["noise_low"] < point["vn_mse"] < point["noise_high"]
    assert point["total_high"] == table["total_high"][0]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "small" / "scores.parquet"), table)
    pd.testing.assert_frame_equal(score(tmp_path / "small"), table)


def test_standard_errors_are_expected_errors_where_a_row_has_no_other(tmp_path, truths):
    stderr = np.linspace(0.1, 0.2, N)
    write(tmp_path / "small", stderr=stderr.tolist())
    write(tmp_path / "small", stderr=stderr.tolist(), expected_error=0.3, repeat=1)
    write(tmp_path / "small", repeat=2)
    said, own, none = score(tmp_path).sort_values("repeat")["expected_error"]
    assert said == pytest.approx(np.sqrt(np.mean(stderr**2) / 2.0)) and own == 0.3
    assert np.isnan(none)


def test_scores_follow_a_truth_that_grew(tmp_path, truths):
    write(tmp_path / "small", mean=0.002)
    before = score(tmp_path)
    truths["truth0"] = FakeTruth(0, noise=0.0001, n_samples=16_000_000)
    after = score(tmp_path)
    assert not before["resolved"][0]
    assert after["resolved"][0]
    assert after["truth_n_samples"][0] == 16_000_000


def test_repeats_of_a_seed_are_averaged_first(tmp_path, truths):
    for repeat, mean in enumerate([1.0, 2.0, 3.0]):
        write(tmp_path / "small", mean=mean, repeat=repeat)
    write(tmp_path / "small", mean=4.0, seed=1)
    table = score(tmp_path)
    (point,) = summary(table).to_dict("records")
    assert point["n_seeds"] == 2
    assert point["vn_mse"] == pytest.approx(((1 + 4 + 9) / 3 + 16) / 2 / 2, rel=0.02)


def test_failed_rows_and_lost_truths_are_counted_not_scored(tmp_path, truths):
    for seed in range(3):
        write(tmp_path / "small", seed=seed)
    write(tmp_path / "small", seed=3)
    write(tmp_path / "small", seed=4, truth_key="truth0", mean=None, flops=None, **FAILED)
    table = score(tmp_path)
    (point,) = summary(table).to_dict("records")
    assert (point["n_seeds"], point["n_failed"]) == (3, 2)
    assert point["vn_mse"] == pytest.approx(0.5, rel=0.02)
    unscored = table[table["mse"].isna()]
    assert set(unscored["outcome"]) == {"failed"}
    assert sorted(unscored["note"]) == ["no truth truth3", "x"]


def test_versions_of_an_estimator_are_not_mixed(tmp_path, truths):
    for seed in range(3):
        write(tmp_path / "small", seed=seed)
    write(tmp_path / "small", mean=2.0, seed=0, estimator_version=2)
    assert score(tmp_path)["vn_mse"].to_numpy() == pytest.approx([2.0], rel=0.02)


def test_reference_is_read_only_by_name(tmp_path, truths):
    write(tmp_path / "small")
    write(tmp_path / "other")
    expected = score_and_store(tmp_path / "other")
    (tmp_path / "reference").mkdir()
    (tmp_path / "other").rename(tmp_path / "reference" / "other")
    for part in (tmp_path / "reference" / "other" / "parts").iterdir():
        part.unlink()
    assert set(score(tmp_path)["config"]) == {"small"}
    pd.testing.assert_frame_equal(score(tmp_path / "reference"), expected)


def test_nothing_to_score_says_what_to_run(tmp_path, truths):
    for empty in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CumpropError, match="run `cumprop sweep"):
            score(empty)
    write(tmp_path / "small", seed=7)
    with pytest.raises(CumpropError, match=r"no truth truth7.*run its sweep again"):
        score(tmp_path)


def test_truths_are_found_by_key(tmp_path):
    spec = MeanSpec(width=4, depth=2, activation="relu", init="he", seed=0)
    stored = load_or_extend(tmp_path / "truth", spec, n_samples=1)
    write(tmp_path / "small", mean=[0.0] * 4, depth=1, truth_key=spec.key)
    table = score(tmp_path)
    expected, _ = mse_between(np.zeros(4), stored.groups("output", 1))
    assert table["mse"][0] == pytest.approx(expected)
    (file,) = (tmp_path / "truth" / spec.key).iterdir()
    file.write_bytes(b"damaged")
    with pytest.raises(CumpropError, match="no truth in"):
        score(tmp_path)
