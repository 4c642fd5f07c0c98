"""The shape of a network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Everything of a network but its numbers: the cost of an estimate depends on no more.

    `widths` are n_0..n_{L+1}; `activations` the L names; `gaussian_input` is False for N(0, I).

    >>> shape = Shape((784, 256, 256, 10), ("relu", "relu"))
    >>> shape.depth, shape.width
    (2, 256)
    """

    widths: tuple[int, ...]
    activations: tuple[str, ...]
    biased: bool = False
    gaussian_input: bool = False
    dtype: str = "float32"

    @property
    def depth(self) -> int:
        """Number of hidden layers L."""
        return len(self.widths) - 2

    @property
    def width(self) -> int:
        """The largest hidden width n."""
        return max(self.widths[1:-1], default=self.widths[0])
