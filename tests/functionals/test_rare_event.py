"""Events of outputs in words: what is read, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cumprop.errors import CumpropError
from cumprop.functionals.rare import Event

Y = np.array([[0.5, -2.0, 3.0], [4.0, 1.0, 0.25]])


@pytest.mark.parametrize(
    ("words", "excess"),
    [
        ("y0 > 3", Y[:, 0] - 3),
        ("y0>=3", Y[:, 0] - 3),
        ("3 < y0", Y[:, 0] - 3),
        ("y0 < 3", 3 - Y[:, 0]),
        ("y1 - y2 > 0", Y[:, 1] - Y[:, 2]),
        ("y1 > y2", Y[:, 1] - Y[:, 2]),
        ("2*y0 - 1.5e0y1 + 4 > y2 - .5", 2 * Y[:, 0] - 1.5 * Y[:, 1] + 4.5 - Y[:, 2]),
        ("-y0 + y0 + y1 < -2", -2 - Y[:, 1]),
        ("|y0| > 3", abs(Y[:, 0]) - 3),
        ("|y0 - 1| > 3", abs(Y[:, 0] - 1) - 3),
        ("2 > |y0 - y1|", 2 - abs(Y[:, 0] - Y[:, 1])),
    ],
)
def test_words_are_read(words, excess):
    event = Event.parsed(words, 3)
    u = Y @ event.row
    assert np.allclose(event.excess(u), excess)
    step = 1e-6
    slopes = (event.excess(u + step) - event.excess(u - step)) / (2 * step)
    assert np.allclose(event.slope(u), slopes)
    left = abs(u + event.shift) if event.two_sided else u + event.shift
    assert np.allclose(event.value(event.excess(u)), left)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=5), st.floats(-1e6, 1e6))
def test_every_linear_event_is_read_as_it_is_written(coefficients, threshold):
    terms = "".join(f"{c:+.17g}*y{i}" for i, c in enumerate(coefficients))
    if not any(coefficients):
        return
    event = Event.parsed(f"{terms} > {threshold!r}", len(coefficients))
    assert event.row.tolist() == coefficients and event.threshold == threshold


def test_one_output_needs_no_number():
    assert Event.parsed("y > 1", 1).row.tolist() == [1.0]
    with pytest.raises(CumpropError, match="there are 2 outputs; write y0, y1"):
        Event.parsed("y > 1", 2)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("", "no comparison"),
        ("y0", "no comparison"),
        ("1 < y0 < 2", "no comparison"),
        ("y0 = 3", "no comparison"),
        ("y0 > x", "'x' is no linear term"),
        ("y0*y1 > 2", r"'\*y1' is no linear term"),
        ("y0 ** 2 > 1", r"'\*\*2' is no linear term"),
        ("__import__('os') > 0", "is no linear term"),
        ("y0 y1 > 0", "'y1' is no linear term"),
        ("y3 > 0", "the outputs are y0 to y2"),
        ("y0 - y0 > 0", "has no output"),
        ("1 > 0", "has no output"),
        ("1e400*y0 > 0", "too large"),
        ("|y0| > -1", "a number that is not negative"),
        ("|y0| > y1", "a number that is not negative"),
        ("|y0| + y1 > 1", "stands alone on its side"),
        ("|y0 > 1", "stands alone on its side"),
        ("|y0| > |y1|", "is no linear term|stands alone"),
    ],
)
def test_other_words_are_refused(words, reason):
    with pytest.raises(CumpropError, match=reason):
        Event.parsed(words, 3)
