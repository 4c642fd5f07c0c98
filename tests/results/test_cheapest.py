"""The cheapest way to an error: against costs and errors that are known by hand."""

import math

import pytest
from helpers.made_up_scores import table

from cumprop.results.cheapest import choices
from cumprop.results.scores import noise_interval

IID, ORTHOGONAL = 660_000, 860_000
"""FLOPs of a sample in the made-up scores."""


def scores(errors, flops=(2e8, 1e9), blur=0.0, gain=0.2):
    """Orders 2 and 3 of given errors and FLOPs beside two designs; `blur` is the truth's noise."""
    made = table(seeds=2, orders=(2, 3))
    made = made[made["estimator"].isin(["monte_carlo", "cumulant"]) & (made["kind"] != "augmented")]
    made = made.assign(variance=1.0, truth_gain=gain, mse_se=1e-15)
    for order, error, cost in zip((2, 3), errors, flops, strict=True):
        made.loc[made["order"] == order, ["mse", "mse_se", "flops"]] = error, blur, cost
    return made


def cheapest(scores, target, unit="flops"):
    (found,) = (one for one in choices(scores, [target]) if one.unit == unit)
    return found


def choice(errors, target, **changes):
    return cheapest(scores(errors, **changes), target)


def blocks(n_samples):
    """Samples of the orthogonal design at width 256, in whole blocks."""
    return 512 * math.ceil(n_samples / 512)


def test_the_cheapest_order_that_reaches_the_target_wins():
    found = choice((4e-5, 5e-7), target=1e-4)
    assert (found.name, found.undecided) == ("K=2", ())  # whatever dearer orders could do
    assert found.saving == pytest.approx(blocks(0.2e4) * ORTHOGONAL / 2e8)
    found = choice((4e-5, 5e-7), target=1e-6)
    assert found.name == "K=3"
    assert found.saving == pytest.approx(blocks(0.2e6) * ORTHOGONAL / 1e9)


def test_sampling_wins_where_orders_are_dearer_or_miss():
    assert choice((4e-5, 5e-7), target=1e-2).name == "iid"  # 100 passes against a block of 512
    assert choice((1e-1, 1e-1), target=1e-4).name == "orthogonal"
    assert choice((1e-1, 1e-1), target=1e-4).saving == 1


def test_a_blend_saves_the_share_of_samples_that_the_best_weight_does():
    error, target = 2e-6, 1e-6
    found = choice((1e-2, error), target)
    with_order = 1e9 + blocks(0.2 * (1 / target - 1 / error)) * ORTHOGONAL
    assert found.name == "orthogonal"
    assert found.blended == pytest.approx(blocks(0.2 / target) * ORTHOGONAL / with_order)
    assert choice((1e-2, error), target, flops=(2e8, 1e15)).blended < 1


def test_the_best_weight_is_the_least_error_of_an_average():
    """w² B + (1 − w)² V is least at V/(V + B), where it is 1/(1/B + 1/V): the rule above."""
    bias, noise = 2e-6, 3e-6
    least = min((w / 1000) ** 2 * bias + (1 - w / 1000) ** 2 * noise for w in range(1001))
    assert least == pytest.approx(1 / (1 / bias + 1 / noise), rel=1e-5)


def test_an_order_whose_interval_holds_the_target_is_undecided():
    low, high = noise_interval([1e-6, 1e-6], [1e-7, 1e-7], 16)
    found = choice((1e-2, 1e-6), target=high * 0.99, blur=1e-7)
    assert found.name == "orthogonal" and "K=3" in found.undecided
    assert choice((1e-2, 1e-6), target=high * 1.01, blur=1e-7).name == "K=3"
    assert "K=3" not in choice((1e-2, 1e-6), target=low * 0.99, blur=1e-7).undecided
    dear = choice((1e-2, 1e-6), target=high * 0.99, blur=1e-7, flops=(2e8, 1e15))
    assert "K=3" not in dear.undecided  # whether it gets there does not matter


def test_an_order_that_was_not_run_is_undecided_where_it_would_be_cheaper():
    """At width 256 and depth 4 a tree takes 2.0e9 FLOPs and order 4 takes 3.2e11."""
    assert choice((1.0, 1.0), target=1e-4).undecided == ()  # sampling takes 1.8e9
    assert choice((1.0, 1.0), target=1e-6).undecided == ("K=3 tree",)  # 1.7e11
    assert choice((1.0, 1.0), target=1e-7).undecided == ("K=3 tree", "K=4")


def test_a_failed_run_does_not_reach_a_target():
    made = scores((4e-5, 5e-7))
    failed = (made["order"] == 2) & (made["seed"] == 1)
    made.loc[failed, ["mse", "mse_se", "variance"]] = math.nan
    found = cheapest(made, 1e-4, "flops")
    assert found.name == "K=3"


def test_seconds_are_those_of_the_quickest_run():
    made = scores((4e-5, 5e-7))
    made.loc[made["estimator"] == "cumulant", "seconds"] = 0.5
    made.loc[(made["order"] == 2) & (made["seed"] == 1), "seconds"] = 0.25
    found = cheapest(made, 1e-4, "seconds")
    # the quickest sample takes 1/11111 s of iid and 1/5120 s of orthogonal sampling
    sampled = min(1e4 / 11111, blocks(0.2e4) / 5120)
    assert found.name == "K=2" and found.saving == pytest.approx(sampled / 0.25)


def test_another_design_has_the_variance_of_its_standard_errors():
    made = scores((1e-1, 1e-1))
    other = made["design"] == "iid"
    made.loc[other, "expected_error"] = (0.7 / made.loc[other, "n_samples"]) ** 0.5
    made.loc[other, "design"] = "antithetic"
    made.loc[made["design"] == "orthogonal", "flops"] *= 100
    found = cheapest(made, 1e-4, "flops")
    assert found.name == "antithetic"


def test_problems_without_samples_have_no_choice():
    made = scores((4e-5, 5e-7))
    assert choices(made[made["estimator"] != "monte_carlo"]) == []
