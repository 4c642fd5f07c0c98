"""Signs of errors of a batch: one network under inputs of different means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import HermiteTable
from cumprop.contract import Signs

from .evidence import Evidence
from .standardised import Coefficients, Standardised

Array = NDArray[Any]


def of_node(array: Any, b: int, axes: int) -> Any:
    """The part of one input of a batch; arrays of so many axes are the same for all inputs."""
    return array if array is None or array.ndim == axes else array[b]


def _of_layer(z: Standardised, b: int) -> Standardised:
    return replace(
        z,
        mean=z.mean[b],
        spread=z.spread[b],
        covariance=of_node(z.covariance, b, 2),
        constant=of_node(z.constant, b, 1),
    )


class OfNode(HermiteTable):
    """The coefficients of one input of a batch."""

    def __init__(self, table: Coefficients, node: int) -> None:
        super().__init__()
        self._table, self._node = table, node
        self.size, self.centre = table.size, of_node(table.centre, node, 1)

    def _coefficient(self, k: int, p: int) -> Array:
        w: Array = self._table(k, p)[self._node]
        return w


class BatchEvidence:
    """The evidence of each input of a batch, from arrays whose first axis is that of the inputs."""

    def __init__(self, each: Sequence[Evidence]) -> None:
        self._each = each

    def add(
        self,
        z: Standardised,
        table: Coefficients,
        mean: Array,
        C: Array | None,
        before: Array | None,
        half: Array | None = None,
    ) -> None:
        """Add a layer, as `Evidence.add`."""
        for b, evidence in enumerate(self._each):
            evidence.add(
                _of_layer(z, b),
                OfNode(table, b),
                mean[b],
                of_node(C, b, 2),
                of_node(before, b, 2),
                of_node(half, b, 2),
            )

    def signs(self, mean: Array, layer_mean: Array, unit: float) -> list[Signs]:
        """The signs of each input, as `Evidence.signs`."""
        return [
            evidence.signs(mean[b], layer_mean[b], unit) for b, evidence in enumerate(self._each)
        ]

    @property
    def variances(self) -> list[Array]:
        """The variances of neurons, (B, n_l) for each layer."""
        return [np.stack(layer) for layer in zip(*(e.variances for e in self._each), strict=True)]
