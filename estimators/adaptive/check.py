"""The comparison of an order with samples, by the means of all its layers."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import Estimate
from cumprop.flops import Flops, plain
from cumprop.sampling import Replicates

from .sampler import Sampler

Array = NDArray[Any]

CONTRADICTION = 1e-3
"""Samples with a smaller probability under an estimate refute it."""
APART = 3.0
"""A ratio of output variances of samples and of an order that refutes the order."""
CHECKING = 0.05
"""The share of the FLOPs of an order that samples to check it may take."""


def contradicted(sampler: Sampler, estimate: Estimate, screen: int) -> bool:
    """Whether samples refute an estimate; if the first ones do, twice as many are asked."""
    spent = sum(flops.total - flops.get("input", 0) for flops in sampler.spent)
    more = CHECKING * spent / sampler.pass_flops - sampler.passes
    if more >= screen:
        sampler.draw_more(more)
    if agrees(sampler, estimate, screen):
        return False
    sampler.draw_more(sampler.samples.n_samples)
    return not agrees(sampler, estimate, 2 * screen)


def agrees(sampler: Sampler, estimate: Estimate, n_samples: int) -> bool:
    """Whether outputs, and the neurons of all layers in new passes, agree with an estimate."""
    if sampler.samples.chance(estimate.mean) < CONTRADICTION:
        return False
    if estimate.signs is not None:
        ratio = sampler.unit / estimate.signs.unit if estimate.signs.unit > 0 else inf
        if not 1 / APART < ratio < APART:
            return False
    if not estimate.layer_variances:
        return True
    pairs = sampler.draw(n_samples, "antithetic", watch=_kept)
    depth, columns = sampler.network.depth, []
    for layer, variances in enumerate(estimate.layer_variances):
        sides = pairs.watched[layer::depth]  # of inputs x, then of -x
        both = zip(sides[::2], sides[1::2], strict=True)
        means, varies = np.concatenate([(a + b) / 2 for a, b in both]), variances > 0
        off = pairs.layer_means[layer] - estimate.layer_means[layer]
        off = means - means.mean(axis=0) + off  # passes may be deviations
        columns.append(off[:, varies] / np.sqrt(variances[varies]))
    groups = np.concatenate(columns, axis=1)
    sizes = np.full(len(groups), 2)
    pooled = Replicates("antithetic", sizes, groups, np.ones(groups.shape[1]), (), Flops())
    return pooled.chance(np.zeros(groups.shape[1])) >= CONTRADICTION


def _kept(z: Array, x: Array) -> Array:
    """A copy of the activations of a batch."""
    kept: Array = plain(x).astype(np.float64)
    return kept
