"""True errors over expected ones: every point where it belongs, and counted."""

import numpy as np
import pytest
from helpers.made_up_scores import table
from helpers.pictures import assert_legible, drawn, words

from cumprop.errors import CumpropError
from cumprop.plots import error_vs_expected
from cumprop.results.scores import summary

pytestmark = pytest.mark.slow


def scores(times=1.0):
    """Cumulants whose error is `times` what they expect; noise of 2%, one error not resolved."""
    made = table(seeds=3)
    made["vn_mse"] = made["mse"] / made["variance"]
    ours = made["estimator"] == "cumulant"
    made["expected_error"] = np.where(ours, np.sqrt(made["vn_mse"]) / times, np.nan)
    made["noise_low"], made["noise_high"] = 0.98 * made["vn_mse"], 1.02 * made["vn_mse"]
    made["resolved"] = True
    first = made.index[ours][0]
    made.loc[first, ["resolved", "noise_low", "noise_high"]] = False, -1e-3, 1e-2
    made.loc[made["order"] == 3, "status"] = "unreliable: a; take b"
    return made


def test_points_lie_where_their_errors_are():
    figure = drawn(error_vs_expected, scores(times=3.0))
    (ax,) = figure.axes
    points = [line.get_xydata()[0] for line in ax.lines if len(line.get_xydata()) == 1]
    ratios = sorted(y / x for x, y in points)
    assert len(points) == 3 * 4  # orders 1 to 3 and the augmented one, of three seeds
    np.testing.assert_allclose(ratios[:-1], 3.0)
    assert ratios[-1] > 3.0  # the upper bound
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert len(crosses) == 3
    said = words(figure)
    assert "12 estimates" in said and "“unreliable”" in said
    assert "Of 8 resolved errors not called unreliable, 8 are over 2 and 0 over 5 times" in said
    assert_legible(figure)
    (lowest,) = figure.texts
    assert lowest.get_window_extent().y0 >= 0


def test_no_expected_error_is_no_picture():
    made = scores().assign(expected_error=np.nan)
    with pytest.raises(CumpropError, match="no row has both a score and an expected error; sweep"):
        error_vs_expected.draw(made)


def test_summaries_say_what_estimates_expect_and_doubt():
    made = scores(times=2.0)
    for point in summary(made).to_dict("records"):
        ours = point["estimator"] == "cumulant"
        assert point["n_unreliable"] == (3 if point["order"] == 3 else 0)
        if ours:
            alike = made[(made["order"] == point["order"]) & (made["kind"] == point["kind"])]
            expected = np.sqrt(np.mean(alike["expected_error"] ** 2))
            assert point["expected_error"] == pytest.approx(expected)
        else:
            assert np.isnan(point["expected_error"])
