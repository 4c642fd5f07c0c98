"""Figures of costs and of scaling laws: what they draw, what they state, what they refuse."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from helpers.pictures import assert_legible, drawn, words

from cumprop.errors import CumpropError
from cumprop.plots import flop_table, flops_vs_width, mse_vs_depth, mse_vs_time, mse_vs_width, plot
from cumprop.results import scores as scores_module
from cumprop.results.power_laws import PowerLaw
from cumprop.results.scores import GROUP

pytestmark = pytest.mark.slow

PER_SAMPLE = 1e-5


def scores(widths=(256,), depths=(4,), seeds=3, **changes):
    """Made-up scores: seconds, errors and FLOPs of the right order of magnitude."""
    estimators = [
        *({"estimator": "monte_carlo", "design": "iid", "n_samples": n, "vn": 1 / n,
           "seconds": 2e-4 + PER_SAMPLE * n, "flops": 10 * n, "power": 2} for n in (100, 10_000)),
        {"estimator": "monte_carlo", "design": "orthogonal", "n_samples": 5120, "vn": 0.2 / 5120,
         "seconds": 1.1 * PER_SAMPLE * 5120, "flops": 11 * 5120, "power": 2},
        {"estimator": "gaussian", "vn": 4e-5, "seconds": 1e-2, "flops": 12, "power": 3},
        *({"estimator": "cumulant", "kind": "basic", "order": order, "algorithm": "auto",
           "vn": 4e-5 * 80.0 ** (2 - order), "seconds": [1e-3, 5e-3, 4e-2, 7][order - 1],
           "flops": 20 * order, "power": order + (order == 1)} for order in (1, 2, 3, 4)),
    ]  # fmt: skip
    rows = [
        dict.fromkeys(GROUP)
        | {"config": "made_up", "width": width, "depth": depth, "readout": "output"}
        | {"activation": "relu", "init": "he", "dtype": "float32", "seed": seed}
        | {"truth_design": "orthogonal", "truth_n_samples": 4_000_000, "n_groups": 16}
        | {"truth_gain": 0.2, "flops_convention": "executed-1", "conditions": "here"}
        | {"outcome": "done", "note": None, "status": "ok", "variance": 0.3, "mse_se": 1e-12}
        | dict.fromkeys(("expected_error", "noise_low", "noise_high", "resolved"), np.nan)
        | {"mse": 0.3 * e["vn"] * (1 + 0.1 * (seed - 1)), "parameters": json.dumps(e)}
        | {name: value for name, value in e.items() if name not in ("vn", "power")}
        | {"flops": float(e["flops"] * width ** e["power"])}
        for width in widths
        for depth in depths
        for seed in range(seeds)
        for e in estimators
    ]
    return pd.DataFrame(rows).assign(**changes).astype({"order": float, "n_samples": float})


@pytest.mark.parametrize(
    ("module", "table"),
    [
        (mse_vs_time, scores()),
        (mse_vs_time, scores(depths=(1, 2, 4, 8))),
        (flops_vs_width, scores(widths=(64, 128, 256))),
        (flops_vs_width, scores(widths=(64, 91, 128, 181, 256), depths=(2, 4, 8))),
        (mse_vs_width, scores(widths=(64, 128, 256))),
        (mse_vs_width, scores(widths=(64, 91, 128, 181, 256), depths=(2, 4))),
        (mse_vs_depth, scores(depths=(2, 3, 4, 8))),
    ],
)
def test_text_is_legible_and_overlaps_nothing(module, table):
    figure = drawn(module, table)
    assert_legible(figure)
    for axes in figure.axes:
        assert len([text for text in axes.texts if text.get_text()]) >= 4


class TestTime:
    def test_points_are_at_their_seconds(self):
        (axes,) = drawn(mse_vs_time, scores()).axes
        points = {round(float(x), 6) for line in axes.lines for x in line.get_xdata()}
        assert {0.001, 0.005, 0.04, 7.0, 0.01} <= points
        assert axes.get_xlabel() == "seconds"

    def test_lines_of_sampling_go_at_its_fastest_run(self):
        (axes,) = drawn(mse_vs_time, scores()).axes
        fastest = (2e-4 + PER_SAMPLE * 10_000) / 10_000
        for line, product in zip(axes.lines, (fastest, 0.2 * 1.1 * PER_SAMPLE), strict=False):
            assert np.prod(line.get_xydata(), axis=1) == pytest.approx(product, rel=1e-9)

    def test_saving_is_seconds_of_sampling_over_seconds_at_equal_error(self):
        times = (2e-4 + PER_SAMPLE * 10_000) / 10_000 / (4e-5 / 80) / 4e-2
        assert f"K=3: {float(f'{times:.2g}'):,.10g}× faster than iid" in words(
            drawn(mse_vs_time, scores())
        )

    def test_losing_is_said_too(self):
        table = scores()
        table.loc[table["estimator"] == "cumulant", "seconds"] *= 1e5
        assert "× slower than iid" in words(drawn(mse_vs_time, table))

    def test_without_sampling_nothing_is_compared(self):
        table = scores()
        text = words(drawn(mse_vs_time, table[table["estimator"] != "monte_carlo"]))
        assert "No line of sampling" in text and "than iid" not in text

    def test_different_conditions_are_refused(self):
        table = scores()
        table.loc[table["order"] == 4, "conditions"] = "there"
        with pytest.raises(CumpropError, match="different conditions \\(here; there\\)"):
            mse_vs_time.draw(table)

    def test_where_a_failed_run_was_does_not_matter(self):
        table = scores()
        fourth = table["order"] == 4
        table.loc[fourth, "conditions"] = "there"
        table.loc[fourth, ["mse", "mse_se", "variance"]] = np.nan
        table.loc[fourth, ["outcome", "note"]] = ["failed", "needs 12 GB"]
        assert "K=4: 3 of 3 runs without a score" in words(drawn(mse_vs_time, table))


class TestPowerLaw:
    def test_its_exponent_is_that_of_ordinary_least_squares(self):
        x, y = np.array([16, 32, 64, 91, 128]), np.array([5.0, 30, 260, 700, 2100])
        (slope, constant), covariance = np.polyfit(np.log(x), np.log(y), 1, cov=True)
        law = PowerLaw.fit(x, y)
        assert law.exponent == pytest.approx(slope)
        assert law.factor == pytest.approx(np.exp(constant))
        # 3.182: 97.5% quantile of Student's t with three degrees of freedom
        assert law.half_width == pytest.approx(3.182446 * np.sqrt(covariance[0, 0]), rel=1e-6)

    def test_its_interval_covers_19_times_out_of_20(self):
        """2000 trials; |coverage − 0.95| > 0.016 by accident with probability 1e-3."""
        rng, x = np.random.default_rng(0), np.array([16, 32, 64, 128])
        laws = [PowerLaw.fit(x, x**3 * np.exp(0.1 * rng.normal(size=4))) for _ in range(2000)]
        covered = np.mean([abs(law.exponent - 3) <= law.half_width for law in laws])
        assert covered == pytest.approx(0.95, abs=0.016)


class TestWidth:
    def test_exponents_stand_beside_the_curves(self):
        text = words(drawn(flops_vs_width, scores(widths=(64, 128, 256))))
        for note in ["K=1  2.00 ± 0.00", "K=2  2.00 ± 0.00", "K=3  3.00 ± 0.00", "K=4  4.00"]:
            assert note in text
        assert "one pass  2.00 ± 0.00" in text
        assert "executed-1" in text and "ReLU MLPs, He init, float32" in text

    def test_sampling_is_one_pass_whatever_their_number(self):
        (axes,) = drawn(flops_vs_width, scores(widths=(64, 128, 256))).axes
        marks = [line for line in axes.lines if line.get_marker() == "o"]
        (iid,) = marks
        assert list(iid.get_ydata()) == [10 * n**2 for n in (64, 128, 256)]

    def test_names_of_widths_have_room(self):
        widths = (16, 23, 32, 45, 64, 91, 128, 181, 256)
        figure = drawn(flops_vs_width, scores(widths=widths, depths=(2, 4, 8)))
        for axes in figure.axes:
            shown = [label for label in axes.get_xticklabels() if label.get_text()]
            boxes = [label.get_window_extent() for label in shown]
            assert len(axes.get_xticks()) == len(widths) and shown[-1].get_text() == "256"
            assert all(a.x1 + 2 < b.x0 for a, b in itertools.pairwise(boxes))

    def test_two_points_are_shown_but_not_fitted(self):
        table = scores(widths=(64, 128, 256))
        table = table[(table["order"] != 4) | (table["width"] < 256)]
        figure = drawn(flops_vs_width, table)
        notes = [text.get_text() for text in figure.axes[0].texts]
        assert "K=4" in notes

    def test_two_widths_are_refused(self):
        with pytest.raises(CumpropError, match=r"3 widths, here are \[64, 128\]"):
            flops_vs_width.draw(scores(widths=(64, 128)))

    def test_other_algorithms_have_curves_of_their_own(self):
        auto = scores(widths=(64, 128, 256))
        dense = auto[auto["order"] == 3].assign(algorithm="dense", flops=lambda t: 3 * t["flops"])
        figure = drawn(flops_vs_width, pd.concat([auto, dense]))
        assert "K=3 dense  3.00" in words(figure) and "K=3  3.00" in words(figure)


class TestPlot:
    @pytest.fixture
    def scored(self, monkeypatch):
        monkeypatch.setattr(scores_module, "score", lambda results: scores())

    def test_what_cannot_be_drawn_is_left_out_with_a_note(self, tmp_path, scored, capsys):
        names = {path.stem for path in plot(tmp_path, tmp_path)}
        assert names == {"made_up_best_vs_flops", "made_up_mse_vs_flops", "made_up_mse_vs_time"}
        assert "made_up: no flops_vs_width: a power law needs 3 widths" in capsys.readouterr().err

    def test_what_was_asked_for_by_name_is_an_error(self, tmp_path, scored):
        with pytest.raises(CumpropError, match="3 widths"):
            plot(tmp_path, tmp_path, ["flops_vs_width"])


def test_scaling_figures_show_the_fitted_exponents():
    table = scores(widths=(64, 128, 256))
    falling = table.assign(mse=table["mse"] * (table["width"] / 64.0) ** -table["order"].fillna(0))
    text = words(drawn(mse_vs_width, falling))
    assert all(f"K={order}  −{order}.00 ±" in text for order in (1, 2, 3, 4))
    assert "over networks" in text and "1/3 of it" in text
    with pytest.raises(CumpropError, match="one depth shows no law"):
        mse_vs_depth.draw(table)


def test_scaling_figures_draw_what_is_not_resolved_as_a_bound():
    table = scores(widths=(64, 128, 256))
    blurred = table.assign(mse_se=table["mse"].where(table["width"] == 256, 1e-12))
    (axes,) = drawn(mse_vs_width, blurred).axes
    open_markers = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata()[0] for line in open_markers] == [256] * 4
    assert "upper bound" in words(drawn(mse_vs_width, blurred))


def test_the_flop_table_sets_counts_beside_the_paper():
    made = scores(widths=(8, 12, 16, 20, 24, 28, 32), depths=(3, 4, 5, 6, 7), seeds=1)
    table = made[made["estimator"] == "cumulant"].assign(metric="exact", truncation="corrected")
    table["flops"] = 8 * table["width"] ** table["order"] * table["depth"] ** 2 - table["width"]
    (axes,) = drawn(flop_table, table).axes
    text = " ".join(cell.get_text().get_text() for cell in axes.tables[0].get_celld().values())
    assert "8 n³L²" in text and "12 n³L² + 27 n³L" in text
    with pytest.raises(CumpropError, match=r"sweep configs/flops\.yaml"):
        flop_table.draw(table[table["width"] < 20])
