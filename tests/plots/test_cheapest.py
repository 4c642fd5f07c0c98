"""The map of the cheapest way: its cells, its numbers, its letters."""

import pandas as pd
import pytest
from helpers.made_up_scores import table
from helpers.pictures import drawn, words
from matplotlib.colors import same_color
from matplotlib.patches import Rectangle

from cumprop.errors import CumpropError
from cumprop.plots import cheapest, style
from cumprop.results.cheapest import TARGETS, choices

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scores():
    """Four widths and six depths, whose errors grow with the depth; one problem was not run."""
    tables = []
    for width in (64, 256, 1024, 2048):
        made = table(seeds=2, depths=(2, 4, 8, 16, 32, 64), orders=(2, 3), width=width)
        made = made[made["kind"] != "augmented"]
        rest = made["estimator"] != "monte_carlo"
        made = made.assign(mse=made["mse"].mask(rest, made["mse"] * made["depth"] ** 3 / width))
        tables.append(made[(made["depth"] < 64) | (width < 2048)])
    return pd.concat(tables)


@pytest.fixture(scope="module")
def figure(scores):
    return drawn(cheapest, scores)


def test_every_measured_problem_is_a_cell_in_the_colour_of_its_way(scores, figure):
    assert [ax.get_title() for ax in figure.axes] == [
        f"vn-MSE 10{power}, {unit}" for unit in ("FLOPs", "seconds") for power in ("⁻³", "⁻⁵", "⁻⁷")
    ]
    found = choices(scores)
    for ax, target in zip(figure.axes, TARGETS, strict=False):
        cells = {patch.get_xy(): patch for patch in ax.patches if isinstance(patch, Rectangle)}
        of_panel = [c for c in found if (c.target, c.unit) == (target, "flops")]
        assert len(cells) == len(of_panel) == 23
        for choice in of_panel:
            at = ((64, 256, 1024, 2048).index(choice.width), choice.depth.bit_length() - 2)
            cell = cells[at[0] - 0.5, at[1] - 0.5]
            assert same_color(cell.get_facecolor(), cheapest.COLOURS[choice.name])


def test_numbers_are_legible_and_stay_inside_their_cells(figure):
    for ax in figure.axes:
        width, height = ax.bbox.width / 4, ax.bbox.height / 6
        for text in ax.texts:
            box = text.get_window_extent()
            assert text.get_fontsize() >= 7
            assert box.width < width and box.height < height
    assert figure.get_figwidth() == style.PAGE
    assert "Blank: not measured" in words(figure)


def test_one_width_or_no_sampling_is_refused(scores):
    with pytest.raises(CumpropError, match=r"2 widths and depths, here are \[64\]"):
        cheapest.draw(scores[scores["width"] == 64])
    with pytest.raises(CumpropError, match="no sampling was run"):
        cheapest.draw(scores[scores["estimator"] != "monte_carlo"])
