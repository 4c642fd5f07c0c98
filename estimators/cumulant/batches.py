"""Signs of errors of a batch: one network under inputs of different means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import Signs

from .evidence import Evidence
from .standardised import Coefficients, Standardised, of_node

Array = NDArray[Any]


@dataclass(frozen=True)
class OfNode:
    """The coefficients w(k,p) of one input of a batch."""

    table: Coefficients
    node: int

    @property
    def size(self) -> float:
        return self.table.size

    def __call__(self, k: int, p: int) -> Array:
        w: Array = self.table(k, p)[self.node]
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
                z.of_node(b),
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
