"""The shape of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cumprop.flops import nonzeros


@dataclass(frozen=True)
class Shape:
    """The properties of a network that the cost of an estimate depends on: all but its numbers.

    `widths` are n_0..n_{L+1}; `activations` the L names; `gaussian_input` is False for an input
    N(0, I), which takes no arithmetic; `entries` are numbers of entries beside 0 of the L + 1 maps,
    None for those whose products do not skip zeros, or for all.

    >>> shape = Shape((784, 256, 256, 10), ("relu", "relu"))
    >>> shape.depth, shape.width
    (2, 256)
    """

    widths: tuple[int, ...]
    activations: tuple[str, ...]
    biased: bool = False
    gaussian_input: bool = False
    dtype: str = "float32"
    entries: tuple[int | None, ...] | None = None

    @property
    def depth(self) -> int:
        """Number of hidden layers L."""
        return len(self.widths) - 2

    @property
    def products(self) -> tuple[int, ...]:
        """The entries of each map that a product with it takes: n_l n_{l-1}, or those beside 0.

        >>> Shape((4, 3, 2), ("relu",), entries=(5, None)).products
        (5, 6)
        """
        known = self.entries or (None,) * (self.depth + 1)
        sizes = (a * b for a, b in pairwise(self.widths))
        return tuple(
            size if count is None else count for size, count in zip(sizes, known, strict=True)
        )

    @property
    def width(self) -> int:
        """The largest hidden width n."""
        return max(self.widths[1:-1], default=self.widths[0])


def entries_of(weights: Sequence[Any]) -> tuple[int | None, ...] | None:
    """The field `entries` of the shape of a network with these weights."""
    counts = tuple(map(nonzeros, weights))
    return None if all(count is None for count in counts) else counts
