"""Files of the text format .nnet, written by a function of the tests."""

import numpy as np
import pytest
from helpers.sources import nnet_text, refusal

import cumprop

TINY = """\
// y = 10 (2 relu(u - v + 1) + 3 relu(v) - 1) + 5 with u = (a - 1) / 2, v = (b - 2) / 4
2,2,1,2,
2,2,1,
0,
-9,-9,
9,9,
1,2,5,
2,4,10,
1,-1,
0,1,
1,
0,
2,3,
-1,
"""
LINES = TINY.split("\n")


def written(tmp_path, text):
    path = tmp_path / "a.nnet"
    path.write_bytes(text.encode())
    return path


def test_a_network_small_enough_for_a_sheet_of_paper(tmp_path):
    network = cumprop.load(written(tmp_path, TINY))
    assert [a.name for a in network.activations] == ["relu"] and network.dtype == np.float64
    # (3, 6): u = v = 1, 10 (2 + 3 - 1) + 5; (1, 2): u = v = 0, 10 (2 - 1) + 5;
    # (-3, -2): u = -2, v = -1, 10 (-1) + 5; (-19, 10), out of bounds: u = -10, v = 2, 10 · 5 + 5
    points = [[3, 6], [1, 2], [-3, -2], [-19, 10]]
    np.testing.assert_allclose(network.forward(points)[:, 0], [45, 15, -5, 55], rtol=1e-15)


@pytest.mark.parametrize("sizes", [(5, 7, 6, 3), (4, 2), (1, 3, 1)])
def test_normalisations_are_folded(tmp_path, sizes):
    """Forward passes are those of the file: normalised, through the layers, and scaled back."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in zip(sizes[1:], sizes[:-1], strict=True)]
    biases = [rng.normal(size=n) for n in sizes[1:]]
    means, ranges = 100 * rng.normal(size=sizes[0] + 1), rng.uniform(0.1, 1000, size=sizes[0] + 1)
    bounds = np.zeros(sizes[0]), np.ones(sizes[0])
    path = written(tmp_path, nnet_text(weights, biases, *bounds, means, ranges))
    x = means[:-1] + ranges[:-1] * rng.normal(size=(20, sizes[0]))
    h = (x - means[:-1]) / ranges[:-1]
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        h = np.maximum(h @ w.T + b, 0)
    y = (h @ weights[-1].T + biases[-1]) * ranges[-1] + means[-1]
    network = cumprop.load(path)
    assert network.widths == sizes
    np.testing.assert_allclose(network.forward(x), y, rtol=0, atol=1e-11 * np.abs(y).max())


@pytest.mark.parametrize(
    "text",
    [
        TINY.replace("\n", "\r\n"),
        TINY.replace(",\n", "\n"),
        TINY.removesuffix("\n"),
        TINY.replace("\n", "\n\n"),
        "\ufeff" + TINY,  # the mark with which editors begin UTF-8
        TINY.replace(",", " , "),
        "".join(f"{LINES[0]}\n{line}\n" for line in LINES[1:-1]),
    ],
)
def test_spellings_of_the_same_file(tmp_path, text):
    """Other ends of lines, no comma at their ends, blank lines or comments between them."""
    network, expected = (cumprop.load(written(tmp_path, each)) for each in (text, TINY))
    x = np.random.default_rng(0).normal(size=(9, 2))
    np.testing.assert_array_equal(network.forward(x), expected.forward(x))


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (2, "2,2,1,", "line 2: it has 3 numbers, expected 4: counts: layers, inputs, outputs"),
        (2, "2,2,x,2,", "line 2: not all of it is numbers; expected 4: counts"),
        (2, "2,2,0,2,", "line 2: not all numbers are positive and whole"),
        (2, "2.5,2,1,2,", "line 2: not all numbers are positive and whole"),
        (3, "2,2,2,", "sizes go from 2 to 2 neurons, but the counts say 2 inputs and 1 outputs"),
        (3, "2,2,2,1,", "line 3: it has 4 numbers, expected 3: sizes of layers"),
        (3, "2,1000000000,1,", "line 11: it has 1 numbers, expected 2: weights"),
        (3, "2,1e300,1,", "line 11: it has 1 numbers, expected 2: weights"),
        (4, "", "line 7: it has 3 numbers, expected 2: maxima of the inputs"),
        (5, "-9,", "line 5: it has 1 numbers, expected 2: minima of the inputs"),
        (7, "1,2,", "line 7: it has 2 numbers, expected 3: means of the inputs and the output"),
        (7, "1,nan,5,", "line 7: a number is NaN or infinite; expected means"),
        (8, "2,0,10,", "line 8: a range is 0, and inputs are divided by it"),
        (8, "2,4,1e999,", "line 8: a number is NaN or infinite; expected ranges"),
        (8, "1e-310,4,10,", "W0 contains NaN or infinite entries"),
        (9, "1,-1,0,", "line 9: it has 3 numbers, expected 2: weights"),
        (12, "", "line 13: it has 2 numbers, expected 1: bias"),
        (14, "", "it ends after line 13, before: bias"),
        (14, "-1,\n7,", "line 15: the network ends before this line"),
    ],
)
def test_files_that_are_refused(tmp_path, line, text, message):
    path = written(tmp_path, "\n".join([*LINES[: line - 1], text, *LINES[line:]]))
    assert message in refusal(path)


def test_files_that_may_be_cut(tmp_path):
    """A number without a comma or a line break behind it could have lost digits."""
    assert "its last number may be cut" in refusal(written(tmp_path, TINY.removesuffix(",\n")))
    assert "line 15: the network ends before this line" in refusal(written(tmp_path, TINY + "3,\n"))
    assert "before: counts" in refusal(written(tmp_path, "// nothing else\n"))
    path = tmp_path / "a.nnet"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not a .nnet file, which is text" in refusal(path)
