"""What the tests of importers do with networks of other libraries."""

import warnings

import pytest

import cumprop
from cumprop.errors import CumpropError


def export(module, path, shape=(1, 5), **options):
    """An ONNX file of a PyTorch module."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old exporter, which needs no further library
        torch.onnx.export(module, (torch.zeros(shape),), path, dynamo=False, **options)
    return path


def refusal(source, **options):
    """The one line with which `load` refuses a source."""
    with pytest.raises(CumpropError) as caught:
        cumprop.load(source, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    return str(caught.value)


def nnet_text(weights, biases, minima, maxima, means, ranges):
    """A .nnet file: comments, counts, sizes, a flag, the normalisation, then layer by layer."""
    sizes = [len(weights[0][0]), *map(len, weights)]
    rows = [
        (len(weights), sizes[0], sizes[-1], max(sizes)), sizes, (0,), minima, maxima, means, ranges,
    ]  # fmt: skip
    for w, b in zip(weights, biases, strict=True):
        rows += [*w, *([value] for value in b)]
    lines = ["".join(f"{value:.17g}," for value in row) for row in rows]
    return "\n".join(["// a network", "// of the tests", *lines, ""])
