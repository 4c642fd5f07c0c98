"""Quadrature rules for standard normal variables in a few dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.errors import CumpropError

Array = NDArray[Any]

SIDE, ALONG = 5.0, 16
"""The reach of nodes on either side of an event, in s.d., and their number where k > 1."""
FEWEST_BLOCKS, BLOCKS = 4, 8
"""The numbers of blocks of Sobol's points."""
MOST, DISTANCE = 500, 44
"""The most nodes of one direction, the outermost of which are this many standard deviations away:
pre-activations of more overflow float32."""
FIRST_DRAW = 0
"""The seed of the scrambling of Sobol's points: every estimate has the same nodes."""


@dataclass(frozen=True, eq=False)
class Rule:
    """Nodes (m, k) with `weights` (m,): Σ_j weights_j g(nodes_j) ≈ E[g(s)], s ~ N(0, I_k).

    The nodes are those of `blocks` rules of one size, one after the other.
    """

    nodes: Array
    weights: Array
    blocks: int = 1

    @property
    def size(self) -> int:
        """The number m of nodes."""
        return len(self.weights)


def interval(low: float, high: float, m: int) -> Rule:
    """The m Gauss–Legendre nodes of ∫ φ(s) g(s) ds from `low` to `high`, in one dimension.

    >>> rule = interval(0.0, 8.0, 16)
    >>> round(float(rule.weights.sum()), 6)                           # P(s > 0)
    0.5
    """
    t, dt = np.polynomial.legendre.leggauss(m)
    s = low + (high - low) * (t + 1) / 2
    weights = dt * (high - low) / 2 * np.exp(-0.5 * s * s) / sqrt(2 * pi)
    return Rule(s[:, None], weights)


def beyond(distance: float, k: int, m: int) -> Rule:
    """A rule of about m nodes for functions that rise at this distance along the first direction.

    Gauss–Legendre nodes lie on either side of it, up to 5 s.d. away; the rest of the normal law
    below them is one node, so that weights sum to 1. Another direction has Gauss–Hermite nodes,
    several others have Sobol's points, at least 2 k of them for each node along the first.

    >>> rule = beyond(4.0, 1, 16)
    >>> rule.size, f"{rule.weights[rule.nodes[:, 0] > 4].sum():.2e}"          # Φ(-4)
    (17, '3.17e-05')
    """
    along = max(2, m if k == 1 else min(m, ALONG))
    sides = [interval(distance + a, distance + a + SIDE, along // 2) for a in (-SIDE, 0.0)]
    nodes, weights = (
        np.concatenate([getattr(side, n) for side in sides]) for n in ("nodes", "weights")
    )
    rest = 1 - weights.sum()
    low = np.array([[-weights @ nodes[:, 0] / rest]])
    first = Rule(np.concatenate([nodes, low]), np.append(weights, rest))
    if k == 1:
        return first
    across = max(2, m // along)
    others = _hermite(across) if k == 2 else _sobol(k - 1, _power(max(across / 2, k - 1)))
    return _product(first, others)


def _product(a: Rule, b: Rule) -> Rule:
    """The rule of all pairs of nodes."""
    i, j = (index.ravel() for index in np.indices((a.size, b.size)))
    return Rule(np.hstack([a.nodes[i], b.nodes[j]]), a.weights[i] * b.weights[j])


def whole(k: int, m: int) -> Rule:
    """A rule of about m nodes for all of k dimensions, at least 16 k of several, of total weight 1.

    One dimension has Gauss–Hermite nodes, more have Sobol's points, in blocks that show the error:
    networks bend at kinks, where grids are no better in two dimensions, and worse in more.

    >>> whole(1, 8).size, whole(2, 64).size, whole(2, 64).blocks
    (8, 64, 8)
    """
    if k == 1:
        return _hermite(m)
    least = _power(2 * k)
    half = max(_power(m / 2), FEWEST_BLOCKS * least)
    return _sobol(k, half, min(BLOCKS, half // least))


def coarser(m: int) -> Rule:
    """A rule of one dimension and about half as many nodes as `whole`, that shows its error.

    One of the two numbers is even and the other odd: rules with a node at 0 may agree about a
    function that neither resolves.

    >>> coarser(16).size
    9
    """
    half = m // 2
    return _hermite(half if (m - half) % 2 else half + 1)


def _hermite(m: int) -> Rule:
    from scipy.special import roots_hermitenorm

    if m > MOST:
        raise CumpropError(
            f"{m} nodes of one direction reach farther than {DISTANCE} standard deviations; take "
            f"{MOST} or fewer, or two directions"
        )
    s, weights = roots_hermitenorm(m)
    return Rule(s[:, None], weights / weights.sum())


def _sobol(k: int, half: int, blocks: int = 1) -> Rule:
    """Scrambled Sobol's points, `half` of them, and their mirror images, in equal blocks.

    Blocks have the covariance I, so that each integrates polynomials of degree 3: linear networks
    are exact, and blocks differ by what the nodes do not resolve.
    """
    from scipy.special import ndtri
    from scipy.stats.qmc import Sobol

    points = Sobol(k, rng=FIRST_DRAW).random(half)
    s = ndtri(np.clip(points, 1e-12, 1 - 1e-12)).reshape(blocks, -1, k)
    moments = s.mT @ s / s.shape[1]
    s = np.linalg.solve(np.linalg.cholesky(moments), s.mT).mT
    nodes = np.concatenate([s, -s], axis=1).reshape(-1, k)
    return Rule(nodes, np.full(len(nodes), 1 / len(nodes)), blocks)


def _power(number: float) -> int:
    """The least power of 2 that is not below a number."""
    return 1 << ceil(log2(number))
