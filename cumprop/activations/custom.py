"""Activations that are a user's own functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations.activation import Activation
from cumprop.errors import CumpropError

Array = NDArray[Any]


class Custom(Activation):
    """Any entrywise function of an array; its kinks, if it has some, go into `breakpoints`.

    `function` and `derivative` return arrays of the same shape as their argument. The derivative
    is needed by the estimator `linearized`, and for full precision where the function varies little
    beside its size. A network with a Custom activation cannot be saved. Raises CumpropError, when
    called, where the function changes the shape of its argument.

    >>> relu = Custom(lambda z: np.maximum(z, 0), name="mine", breakpoints=[0.0])
    >>> float(relu.wick(0.0, 1.0, k=0, p=2).round(12))
    0.5
    """

    def __init__(
        self,
        function: Callable[[Array], Array],
        derivative: Callable[[Array], Array] | None = None,
        name: str = "custom",
        breakpoints: Sequence[float] = (),
    ) -> None:
        self._function, self._derivative, self.name = function, derivative, name
        self.differentiable = derivative is not None
        self.breakpoints = tuple(float(b) for b in breakpoints)

    def forward(self, z: Array) -> Array:
        return self._entrywise(self._function, z)

    def derivative(self, z: Array) -> Array:
        if self._derivative is None:
            raise CumpropError(
                f"activation {self.name!r} has no derivative; pass one: Custom(f, derivative=...)"
            )
        return self._entrywise(self._derivative, z)

    def _entrywise(self, function: Callable[[Array], Array], z: Array) -> Array:
        y = function(z)
        if np.shape(y) != np.shape(z):
            raise CumpropError(
                f"activation {self.name!r} turns shape {np.shape(z)} into {np.shape(y)}; "
                "write it for arrays, or wrap it in numpy.vectorize"
            )
        return y
