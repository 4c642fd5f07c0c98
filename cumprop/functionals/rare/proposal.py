"""Densities q that the event is likely under: mixtures of Gaussians fitted to particles.

Densities are relative to φ, that of N(0, I): r = q/φ needs no more than the projections in which q
differs from φ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import logsumexp

from cumprop.flops import component, count, counted, plain

Array = NDArray[Any]

DIRECTIONS = 10
"""Leading directions of gradients that q differs from φ in."""
COMPONENTS = 3
"""Gaussians fitted in the span of the directions."""
DEFENSIVE = 0.05
"""The share of N(0, I)."""
OF_MODES = 0.3
"""The share of all modes that join later."""
_PSEUDO_POINTS = 10
_SMALLEST, _LARGEST = 0.1**2, 5.0**2
_ITERATIONS = 30


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mixture of N(0, I), of Gaussians in the span of directions, and of N(m, I) of modes.

    `basis` is (n, k), `means` (c, k), `roots` (c, k, k) of the covariances in the span, `shares`
    (c,) sum up to 1, and `modes` is (j, n).
    """

    basis: Array
    shares: Array
    means: Array
    roots: Array
    modes: Array

    @classmethod
    def fitted(cls, particles: Array, gradients: Array, rng: np.random.Generator) -> Self:
        """The mixture that EM fits to particles (m, n) in the span of their gradients (m, n)."""
        n = gradients.shape[1]
        sizes, vectors = eigh(
            gradients.T @ gradients, subset_by_index=(max(n - DIRECTIONS, 0), n - 1)
        )
        basis = vectors[:, sizes > 1e-12 * sizes[-1]]
        with component("proposal"):
            count(2 * gradients.size * n + 9 * n**3)
        shares, means, covariances = _mixture(particles.astype(np.float64) @ basis, rng)
        nothing = np.empty((0, len(basis)))
        return cls(basis, shares, means, np.linalg.cholesky(covariances), nothing)

    def joined(self, mode: Array) -> Self:
        """The mixture with one more mode, (n,)."""
        return replace(self, modes=np.concatenate([self.modes, mode[None]]))

    @property
    def _log_shares(self) -> tuple[float, Array]:
        """Logarithms of the shares of N(0, I), and of the others."""
        of_modes = OF_MODES if len(self.modes) else 0.0
        fitted = (1 - DEFENSIVE - of_modes) * self.shares
        modes = np.full(len(self.modes), of_modes / max(len(self.modes), 1))
        return float(np.log(DEFENSIVE)), np.log(np.concatenate([fitted, modes]))

    def log_ratio(self, z: Array) -> Array:
        """The logarithm of q/φ, (N,), at points z, (N, n)."""
        at_origin, shares = self._log_shares
        with component("proposal"):
            s = counted(z) @ self.basis.astype(z.dtype)
            s = s.astype(np.float64)
            terms = [np.full(len(z), at_origin)]
            squared = (s * s).sum(axis=1)
            for share, mean, root in zip(shares, self.means, self.roots, strict=False):
                white = (s - mean) @ np.linalg.inv(root).T
                size = np.log(np.diag(root)).sum()
                terms.append(share - size - ((white * white).sum(axis=1) - squared) / 2)
            for share, mode in zip(shares[len(self.means) :], self.modes, strict=True):
                terms.append(share + counted(z) @ mode - mode @ mode / 2)
        found: Array = logsumexp(np.stack([plain(term) for term in terms]), axis=0)
        return found

    def placed(self, z: Array, rng: np.random.Generator) -> Array:
        """Samples of q from as many samples z of N(0, I), (N, n), which they overwrite."""
        at_origin, others = self._log_shares
        shares = np.exp(np.append(at_origin, others))
        which = rng.choice(len(shares), len(z), p=shares / shares.sum())
        with component("proposal"):
            for c, (mean, root) in enumerate(zip(self.means, self.roots, strict=True), start=1):
                rows = np.flatnonzero(which == c)
                s = counted(z[rows]) @ self.basis.astype(z.dtype)
                z[rows] += plain((s @ root.T + mean - s) @ self.basis.T).astype(z.dtype)
        for j, mode in enumerate(self.modes, start=1 + len(self.means)):
            z[which == j] += mode.astype(z.dtype)
        return z

    def of_modes(self, z: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Samples of the equal mixture of the modes alone, and the logarithms of their ratios."""
        placed = z.astype(np.float64) + self.modes[rng.integers(len(self.modes), size=len(z))]
        halves = (self.modes * self.modes).sum(axis=1) / 2
        ratios = logsumexp(placed @ self.modes.T - halves, axis=1) - np.log(len(self.modes))
        return placed.astype(z.dtype), ratios


def _mixture(s: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Shares, means and covariances of the Gaussians that EM fits to points s, (m, k)."""
    m, k = s.shape
    pooled = np.atleast_2d(np.cov(s.T)) + 1e-6 * np.eye(k)
    whitened = s @ np.linalg.inv(np.linalg.cholesky(pooled)).T
    centres = [whitened[rng.integers(m)]]
    for _ in range(COMPONENTS - 1):  # the next centre is a point far from all others
        nearest = np.min([((whitened - c) ** 2).sum(axis=1) for c in centres], axis=0)
        centres.append(whitened[rng.choice(m, p=nearest / nearest.sum())])
    distances = np.stack([((whitened - c) ** 2).sum(axis=1) for c in centres], axis=1)
    belonging = np.eye(COMPONENTS)[distances.argmin(axis=1)]
    for _ in range(_ITERATIONS):
        weights = belonging.sum(axis=0)
        shares = (weights + 1) / (m + COMPONENTS)
        means = (belonging.T @ s) / np.maximum(weights, 1e-9)[:, None]
        logs, covariances = list[Array](), list[Array]()
        for c in range(COMPONENTS):
            d = s - means[c]
            scatter = (belonging[:, c, None] * d).T @ d + _PSEUDO_POINTS * pooled
            size, axes = np.linalg.eigh(scatter / (weights[c] + _PSEUDO_POINTS))
            size = size.clip(_SMALLEST, _LARGEST)
            covariances.append((axes * size) @ axes.T)
            white = (d @ axes) / np.sqrt(size)
            logs.append(
                np.log(shares[c]) - np.log(size).sum() / 2 - (white * white).sum(axis=1) / 2
            )
        log = np.stack(logs, axis=1)
        belonging = np.exp(log - logsumexp(log, axis=1, keepdims=True))
    return shares, means, np.stack(covariances)
