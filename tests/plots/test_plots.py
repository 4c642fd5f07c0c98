"""Figures: everything stated, nothing hidden, nothing overlapping, the same bytes every time."""

import subprocess
import sys
from importlib import import_module
from inspect import signature
from pkgutil import iter_modules

import numpy as np
import pandas as pd
import pytest
from helpers.made_up_scores import table
from helpers.pictures import assert_legible, drawn, words
from matplotlib.figure import Figure

from cumprop import estimators
from cumprop.errors import CumpropError
from cumprop.plots import available, best_vs_flops, mse_vs_flops, plot, style, tradeoff
from cumprop.results import scores as scores_module
from cumprop.results.points import points

pytestmark = pytest.mark.slow


def test_every_estimator_has_its_own_look():
    looks = list(style._LOOKS.values())
    assert len({look.label for look in looks}) == len(looks)
    assert len({look.marker for look in looks}) == len(looks)
    assert {name for name, _ in style._LOOKS} == {m.name for m in iter_modules(estimators.__path__)}
    single = [look.colour for (_, variant), look in style._LOOKS.items() if variant is None]
    assert len(set(single)) == len(single)
    new = style.look({"estimator": "somebody_elses"})
    assert new == style.look({"estimator": "somebody_elses", "kind": "basic"})
    assert new.label == "somebody_elses"


@pytest.mark.parametrize("depths", [(4,), (1, 2, 4, 8, 16)])
@pytest.mark.parametrize("module", [mse_vs_flops, best_vs_flops])
def test_text_is_legible_and_inside_and_overlaps_nothing(module, depths):
    figure = drawn(module, table(depths=depths))
    assert figure.get_figwidth() == (style.COLUMN if len(depths) == 1 else style.PAGE)
    assert_legible(figure)
    (legend,) = figure.legends
    (caption,) = figure.texts
    for text in (legend, caption):
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 + 1
    assert len(figure.axes) == len(depths)
    for axes in figure.axes:
        around = axes.get_tightbbox()
        assert caption.get_window_extent().y1 <= around.y0
        assert around.y1 <= legend.get_window_extent().y0


def test_caption_says_what_the_figure_rests_on():
    text = words(drawn(mse_vs_flops, table()))
    for fact in [
        "ReLU MLPs of width 256 and depth 4, He init, float32", "5 networks (seeds 0–4)",
        "4·10⁶ passes (orthogonal)", "95% intervals, networks and truth noise", "executed-1",
        "Run on here", "0.2/N", "Not run: K=4",
    ]:  # fmt: skip
        assert fact in text
    assert "upper bound" not in text
    assert "truth noise only (one network)" in words(drawn(mse_vs_flops, table(seeds=1)))


def test_sampling_lines_pass_through_measured_points():
    (axes,) = drawn(mse_vs_flops, table()).axes
    solid, dashed = axes.lines[:2]
    for line, product in ((solid, 660_000), (dashed, 0.2 * 860_000)):
        assert np.prod(line.get_xydata(), axis=1) == pytest.approx(product, rel=1e-9)


def test_other_designs_of_sampling_are_lines_of_the_measured_error():
    scores = table()
    rows = scores[scores["design"] == "orthogonal"].assign(design="antithetic")
    together = pd.concat([scores, rows.assign(mse=3 * rows["mse"])], ignore_index=True)
    figure = drawn(mse_vs_flops, together)
    means = rows.groupby("n_samples")[["mse", "variance"]].mean()
    gain = np.mean(3 * means["mse"] / means["variance"] * means.index)
    (axes,) = figure.axes
    look = style.look({"estimator": "monte_carlo", "design": "antithetic"})
    (line,) = [line for line in axes.lines if line.get_linestyle() == look.line]
    assert np.prod(line.get_xydata(), axis=1) == pytest.approx(gain * 860_000, rel=1e-9)
    assert f"{gain:.2g}/N with an antithetic design (measured)" in words(figure)


def test_the_broad_line_is_the_least_error_at_every_budget():
    scores = table(orders=(1, 2, 3, 4))
    (axes,) = drawn(best_vs_flops, scores).axes
    (line,) = [line for line in axes.lines if line.get_color() == tradeoff.BEST["color"]]
    budgets, errors = line.get_xdata(), line.get_ydata()
    estimated = [p for p in points(scores) if p["estimator"] != "monte_carlo"]
    product = min(660_000, 0.2 * 860_000)
    for budget in np.geomspace(*axes.get_xlim(), 200)[1:-1]:
        affordable = [p["y"] for p in estimated if p["flops"] <= budget]
        least = min([product / budget, *affordable])
        drawn_at = np.exp(np.interp(np.log(budget), np.log(budgets), np.log(errors)))
        assert drawn_at == pytest.approx(least, rel=1e-6)


def test_the_least_error_has_a_row_of_widths_for_every_depth():
    scores = pd.concat([table(depths=(4, 2), width=width) for width in (128, 64)])
    titles = [axes.get_title() for axes in drawn(best_vs_flops, scores).axes]
    assert titles == [f"width {width}, depth {depth}" for depth in (2, 4) for width in (64, 128)]


def test_saving_is_flops_of_sampling_over_flops_at_equal_error():
    scores = table()
    best = scores[(scores["order"] == 3)]
    vn_mse = best["mse"].mean() / best["variance"].mean()
    times = float(f"{660_000 / vn_mse / 1e9:.2g}")
    assert f"K=3: {times:,.10g}× fewer FLOPs" in words(drawn(mse_vs_flops, scores))


def test_unresolved_errors_are_upper_bounds():
    scores = table()
    third = scores["order"] == 3
    scores.loc[third, "mse_se"] = 1e-6
    scores.loc[third & (scores["seed"] < 4), "mse"] = -1e-8
    figure = drawn(mse_vs_flops, scores)
    (axes,) = figure.axes
    (bound,) = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    point = scores_module.summary(scores).query("order == 3").iloc[0]
    lift = max(0, -point["vn_mse"])
    assert bound.get_ydata()[0] == pytest.approx(point["total_high"] + lift)
    assert "upper bound, error not resolved from zero" in words(figure)
    assert "K=3:" not in words(figure)  # the saving is that of a resolved point


def test_what_is_unusual_about_cumulants_is_said():
    unusual = table(algorithm="dense", metric="exact", truncation="published")
    text = words(drawn(mse_vs_flops, unusual))
    assert "K=3 dense published" in text


def test_failures_are_named():
    scores = table(orders=(1, 2, 3, 4))
    fourth = scores["order"] == 4
    scores.loc[fourth, ["mse", "mse_se", "variance"]] = np.nan
    scores.loc[fourth, ["outcome", "note"]] = ["failed", "needs 12 GB"]
    text = words(drawn(mse_vs_flops, scores))
    assert "K=4: 5 of 5 runs without a score (needs 12 GB)" in text
    assert "Not run" not in text


@pytest.fixture
def scored(monkeypatch):
    monkeypatch.setattr(scores_module, "score", lambda results: table())


def test_three_formats_and_the_same_bytes_every_time(tmp_path, scored):
    first = plot(tmp_path, tmp_path / "a", ["mse_vs_flops"])
    assert [path.name for path in first] == [
        f"made_up_mse_vs_flops.{kind}" for kind in ("pdf", "svg", "png")
    ]
    for path in first:
        again = tmp_path / "b" / path.name
        if not again.exists():
            plot(tmp_path, tmp_path / "b")
        assert path.read_bytes() == again.read_bytes()


def test_unknown_figures_and_empty_results_say_what_to_do(tmp_path):
    with pytest.raises(CumpropError, match=r"'mse'; the known ones are .*mse_vs_flops"):
        plot(tmp_path, tmp_path, ["mse"])
    with pytest.raises(CumpropError, match="cumprop sweep"):
        plot(tmp_path, tmp_path)


def test_every_module_that_is_no_helper_draws_rows():
    found = {name: import_module(f"cumprop.plots.{name}") for name in available()}
    assert {"mse_vs_flops", "loss_vs_flops"} <= found.keys()
    assert all(len(signature(module.draw).parameters) == 1 for module in found.values())


def test_matplotlib_waits_until_something_is_drawn():
    code = "import sys, cumprop.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_interrupted_figure_leaves_nothing_behind(tmp_path, monkeypatch):
    """Neither half a file nor an open one: the figure that was there before stays."""
    figure = Figure()
    style.save_one(figure, tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()

    def interrupted(self, file, **options):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        style.save_one(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
