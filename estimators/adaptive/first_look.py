"""Properties of the layers of a network, from the first samples."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cumprop.contract.trust import CANCELLATION, LAST_CANCELLATION, is_usual
from cumprop.flops import component, counted
from cumprop.networks import MLP

from .error_laws import unexplained

Array = NDArray[Any]

SURE = 1.25
"""The largest factor by which cancellations of few samples are wrong."""


class Scatter(NamedTuple):
    """The scatter of a batch of samples of a layer.

    The fields are the share of Var[x] that no linear function of z explains, and the variances of z
    and of x, per neuron.
    """

    unexplained: float
    before: Array
    after: Array


def scatter(z: Array, x: Array) -> Scatter:
    """The scatter of samples (m, n) of pre-activations and activations."""
    return Scatter(unexplained(z, x), _variances(z), _variances(x))


def cancels(network: MLP, batches: Sequence[Scatter], outputs: float) -> bool:
    """Whether the terms that a map adds up cancel more, or less, than with random weights.

    `batches` hold the layers 1..L in turn, `outputs` is the sum of the output variances. The
    cancellation of a map is the variance that its results would have if the neurons before it were
    independent, over their variance (`cumprop.contract.looks_random`). Cost: 3 n² FLOPs per map.
    """
    depth = network.depth
    before = [float(np.mean([b.before.sum() for b in batches[k::depth]])) for k in range(depth)]
    after = [np.mean([b.after for b in batches[k::depth]], axis=0) for k in range(depth)]
    limits = [*[CANCELLATION] * (depth - 1), LAST_CANCELLATION]
    with component("error"):
        for usual, weights, variances, total in zip(
            limits, network.weights[1:], after, (*before[1:], outputs), strict=True
        ):
            independent = float(((counted(weights) * weights) @ variances).sum())
            found = independent / total if total > 0 else inf
            if independent > 0 and not is_usual(found, usual, SURE):
                return True
    return False


def _variances(samples: Array) -> Array:
    deviations = samples.astype(np.float64) - samples.mean(axis=0, dtype=np.float64)
    variances: Array = np.add.reduce(deviations * deviations, axis=0) / max(len(samples) - 1, 1)
    return variances
