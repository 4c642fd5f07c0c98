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
