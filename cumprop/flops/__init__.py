"""Arrays that count their arithmetic: NumPy, PyTorch, and shapes without numbers."""

from cumprop.flops.meter import CONVENTION, Flops, Work, component, count, counting, not_counting
from cumprop.flops.numpy_arrays import (
    ForeignArray,
    counted,
    detached,
    has_numbers,
    is_foreign,
    occurs,
    on_host,
    plain,
    records_gradients,
)
from cumprop.flops.shape_only import Phantom, TooLarge, alike, at_most, metering, phantom

__all__ = [
    "CONVENTION",
    "Flops",
    "ForeignArray",
    "Phantom",
    "TooLarge",
    "Work",
    "alike",
    "at_most",
    "component",
    "count",
    "counted",
    "counting",
    "detached",
    "has_numbers",
    "is_foreign",
    "metering",
    "not_counting",
    "occurs",
    "on_host",
    "phantom",
    "plain",
    "records_gradients",
]
