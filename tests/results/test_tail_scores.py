"""Relative errors by bucket: unbiased, counted, drawn; the configuration that measures them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.pictures import drawn, words

from cumprop import CumpropError
from cumprop.errors import ConfigError
from cumprop.experiments import config
from cumprop.experiments.grid import cells
from cumprop.plots import relative_error_vs_probability
from cumprop.plots.caption import power_of_ten
from cumprop.results import scores
from cumprop.results.scores import GROUP
from cumprop.results.tail_scores import relative_errors
from cumprop.sampling import WORST, TailSpec, TailTruth
from cumprop.sweep.sweep import plan, run

CONFIG = Path(__file__).parents[2] / "configs" / "low_probability.yaml"
SMALL = (
    "network.width=16", "network.depth=2", "network.seeds=3", "network.readout=tail(1.5)",
    "estimators=[{name: cumulant, order: [1, 2]},"
    " {name: monte_carlo, n_samples: [100, 200], extrapolate: [none, gaussian, cumulant]},"
    " {name: conditional, directions: event, nodes: 4}, {name: importance, n_samples: 500}]",
)  # fmt: skip


def made_up(p, weight, rng, n_samples=1024):
    """A truth of probabilities p whose inputs weigh `weight`·p each where they count at all."""
    spec = TailSpec(len(p), 1, "relu", "he", 0, threshold=3.0)
    per_group = n_samples // 32
    counts = rng.binomial(per_group, 1 / weight, size=(2, 16, len(p)))
    squares = counts.sum(axis=1) * (weight * p) ** 2
    chunks = n_samples // spec.chunk_samples
    return TailTruth(spec, chunks, (counts * weight * p)[:, :, None], squares)


def test_sums_are_unbiased():
    """4,000 neurons at a relative error of 0.1, |z| < 4.5 three times: false alarms 2e-5.

    Relative variance of a half: v = (weight − 1)/1024, and 2v of its halves; 1/p_0² is too large by
    1 + 3v. Scored against p_0 itself, squares are 1.3 times too large, which the same data show.
    """
    rng, weight = np.random.default_rng(0), 4.0
    p = np.full(4000, 1e-6)
    truth = made_up(p, weight, rng, n_samples=2048)
    v = (weight - 1) / 1024
    e = 1.1 * p
    found = truth.buckets(e)
    assert (found["buckets"], found["bucket_neurons"]) == ([-6], [4000])
    biased = np.mean((e / truth.mean("tail(3)", 1)[0] - 1) ** 2)
    error = np.sqrt(2 * v * 2 * 0.01 + 4 * v**2) / np.sqrt(4000)
    squares, zero, relative = (
        found[f"bucket_{name}"][0] / 4000 for name in ("squares", "zero", "relative")
    )
    assert abs(squares / 1e-12 - 0.01) < 4.5 * error
    assert abs(relative - 0.01 * (1 + 3 * v)) < 4.5 * error
    assert abs(zero / 1e-12 - 1) < 4.5 * np.sqrt(4 * v + 4 * v**2) / np.sqrt(4000)
    assert biased > 0.01 * (1 + 3 * v) + 10 * error


def test_buckets_are_half_a_decade_to_either_side_and_poor_truths_are_dropped():
    p = np.array([0.4, 0.2, 3.3e-3, 3.1e-3, 2e-3, 1e-9])
    truth = made_up(p, 2.0, np.random.default_rng(0), n_samples=2048)
    exact = np.broadcast_to(p, (2, 16, 1, 6)) * 64
    truth = TailTruth(truth.spec, 1, exact.copy(), np.tile(p**2 * 1024, (2, 1)))
    truth.squares[0, 4] *= 1024  # one weight is all there is
    truth.sums[0, :, 0, 5] = 0
    found = truth.buckets(2 * p)
    assert found["buckets"] == [0, -1, -2, -3]
    assert found["bucket_neurons"] == [1, 1, 1, 1]
    assert found["bucket_dropped"] == [0, 0, 0, 1]
    np.testing.assert_allclose(found["bucket_relative"], 1)
    np.testing.assert_allclose(found["bucket_squares"], found["bucket_zero"])
    np.testing.assert_allclose(found["bucket_zero"], p[[0, 1, 2, 3]] ** 2)
    assert truth.relative_error[0, 4] > WORST


def table():
    """Two networks: bucket −3 holds 1 and 3 neurons, bucket −5 one of the second's."""
    common = dict.fromkeys(GROUP) | {"config": "made_up", "estimator": "zero"}
    return pd.DataFrame(
        [
            common
            | {"seed": 0, "buckets": [-3], "bucket_neurons": [1], "bucket_dropped": [2]}
            | {"bucket_squares": [0.05], "bucket_zero": [0.5], "bucket_relative": [0.2]},
            common
            | {"seed": 1, "buckets": [-3, -5], "bucket_neurons": [3, 1], "bucket_dropped": [0, 4]}
            | {"bucket_squares": [0.11, -0.2], "bucket_zero": [0.5, 1.0]}
            | {"bucket_relative": [0.16, -0.1]},
        ]
    )


def test_relative_errors_by_hand():
    found = relative_errors(table(), GROUP).set_index("bucket")
    assert found.loc[-3, "relative_error"] == pytest.approx(np.sqrt(0.16))
    assert found.loc[-3, "per_neuron"] == pytest.approx(np.sqrt(0.36 / 4))
    assert found.loc[-3, ["neurons", "dropped", "networks"]].tolist() == [4, 2, 2]
    low, high = found.loc[-3, ["low", "high"]]
    assert low == pytest.approx(np.sqrt(0.1)) and high == pytest.approx(np.sqrt(0.22))
    assert found.loc[-5, ["neurons", "dropped", "networks"]].tolist() == [1, 4, 1]
    assert found.loc[-5, ["relative_error", "low", "high"]].tolist() == [0, 0, 0]
    again = relative_errors(table(), GROUP).set_index("bucket")
    pd.testing.assert_frame_equal(found, again)


def test_repeats_of_a_network_count_once():
    twice = pd.concat([table(), table()], ignore_index=True)
    pd.testing.assert_frame_equal(relative_errors(twice, GROUP), relative_errors(table(), GROUP))


def test_a_single_network_has_no_interval():
    found = relative_errors(table()[:1], GROUP)
    assert found[["low", "high"]].isna().all(axis=None)


def test_scores_without_tails_have_none():
    empty = relative_errors(table().assign(buckets=None), GROUP)
    assert empty.empty
    with pytest.raises(CumpropError, match=r"readout: tail\(t\)"):
        relative_error_vs_probability.draw(table().assign(buckets=None))
    with pytest.raises(CumpropError, match=r"raise truth\.n_samples"):
        relative_error_vs_probability.draw(table()[:1])


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tails")
    small = config.load(CONFIG, "smoke", SMALL)
    assert not run(plan(small, "small"), folder).failed
    return scores.score(folder / "small")


@pytest.mark.slow
def test_a_sweep_scores_and_draws_tails(swept):
    """Every estimator has a point; sampling has vn-MSE 1/N within a factor 3 as ever.

    Importance sampling has less, and its cost does not choose the panels.
    """
    plain = (swept["estimator"] == "monte_carlo") & ~swept["parameters"].str.contains("gaussian")
    plain &= ~swept["parameters"].str.contains('"cumulant"')
    weighted = swept["estimator"] == "importance"
    assert swept["status"][weighted].str.match("ok|warning: no input reached").all()
    assert (swept["status"].eq("ok") == plain)[~weighted].all() and swept["buckets"].notna().all()
    assert (
        swept.loc[~plain & ~weighted, "status"]
        .str.startswith("unreliable: a tail probability")
        .all()
    )
    found = relative_errors(swept, GROUP)
    assert found.groupby(GROUP, dropna=False).ngroups == 10
    counts = found.groupby("bucket")[["neurons", "dropped"]].nunique()
    assert (counts == 1).all(axis=None)  # the truth alone decides
    points = scores.summary(swept).set_index("parameters")
    for parameters, point in points.iterrows():
        if '"none"' in parameters:
            assert 1 / 3 < point["vn_mse"] * point["n_samples"] < 3
        elif point["estimator"] == "importance":
            assert point["vn_mse"] * point["n_samples"] < 1 / 2
    figure = drawn(relative_error_vs_probability, swept)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [f"tail(1.5), width 16, depth 2, N = {n} samples" for n in (200, 100)]
    text = words(figure)
    kept = found.drop_duplicates("bucket")
    for n in kept.loc[kept["neurons"] > kept["dropped"], "neurons"]:
        assert f"{n}" in text
    assert f"{kept['neurons'].sum()} of 48 in all" in text
    assert {"K=1", "K=2", "1/N"} <= set(text.split())
    assert "conditional" in text and "sampling, importance" in text
    costs = swept.groupby("estimator")["flops"].median()
    assert f"conditional {power_of_ten(costs['conditional'])};" in text.replace("\n", " ")


def test_equal_cost_is_what_the_config_says():
    """The second n_samples is what order 3 costs, to 1%, on the network of the figure."""
    found = cells(config.load(CONFIG, "laptop"), "x")
    order3 = next(c for c in found if c.parameters.get("order") == 3)
    sampled = [c for c in found if c.parameters.get("extrapolate") == "none" and not c.seed]
    costs = {cell.parameters["n_samples"]: cell.cost.flops for cell in sampled}
    paper, ours = costs
    assert paper == 5695 and costs[ours] == pytest.approx(order3.cost.flops, rel=0.01)
    order4 = next(c for c in found if c.parameters.get("order") == 4)
    importance = next(c for c in found if c.estimator == "importance")
    assert importance.cost.flops == pytest.approx(order4.cost.flops, rel=0.01)
    assert json.loads(order3.columns()["parameters"])["kind"] == "basic"


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (("network.readout=output",), "do not go together"),
        (("truth.design=iid",), "takes design importance"),
        (("network.readout=tail",), r"must be one of output, pre, post, tail\(t\)"),
        (("network.readout=tail(e)",), "finite threshold"),
    ],
)
def test_what_does_not_fit_is_refused(sets, message):
    with pytest.raises(ConfigError, match=message) as error:
        config.load(CONFIG, sets=sets)
    assert "\n" not in str(error.value)


def test_every_depth_has_a_truth_of_its_own():
    found = cells(config.load(CONFIG, "smoke", ["network.depth=[2,3]"]), "x")
    assert len({(c.depth, c.seed) for c in found}) == len({c.truth_key for c in found}) == 4
