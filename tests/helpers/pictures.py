"""Figures as the tests look at them."""

import numpy as np
from matplotlib.text import Text

from cumprop.plots import style


def drawn(module, *what):
    """The figure of a module of `cumprop.plots`, everything in its place."""
    with style.context():
        figure = module.draw(*what)
        figure.draw_without_rendering()
    return figure


def words(figure):
    """All text, in one line."""
    return " ".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ")


def assert_legible(figure):
    """Letters of 7 points or more; labels inside their axes, beside each other and all points."""
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in shown) >= 7
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
        marks = [line.get_transform().transform(line.get_xydata()) for line in axes.lines]
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i])
            assert axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 + 1
            assert not box.count_contains(np.vstack(marks))
