"""Arrays that count their arithmetic: NumPy, PyTorch, and shapes without numbers."""

from cumprop.flops.known_counts import by_numbers, by_shape, decided
from cumprop.flops.meter import (
    CONVENTION,
    Flops,
    Work,
    added,
    component,
    count,
    counting,
    not_counting,
    shared,
)
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
from cumprop.flops.shape_only import TooLarge, alike, arena, with_entries, without_numbers
from cumprop.flops.zeros import WithZeros, nonzeros, skipping_zeros

__all__ = [
    "CONVENTION",
    "Flops",
    "ForeignArray",
    "TooLarge",
    "WithZeros",
    "Work",
    "added",
    "alike",
    "arena",
    "by_numbers",
    "by_shape",
    "component",
    "count",
    "counted",
    "counting",
    "decided",
    "detached",
    "has_numbers",
    "is_foreign",
    "nonzeros",
    "not_counting",
    "occurs",
    "on_host",
    "plain",
    "records_gradients",
    "shared",
    "skipping_zeros",
    "with_entries",
    "without_numbers",
]
