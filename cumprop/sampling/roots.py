"""Roots of covariances, which turn standard normal numbers into inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import count, on_host
from cumprop.inputs import is_diagonal

if TYPE_CHECKING:
    from cumprop.networks import MLP

Array = NDArray[Any]


def input_root(network: MLP) -> Array | None:
    """The root R of Σ0, R Rᵀ = Σ0: None for I, a number or (n_0,) for a diagonal Σ0, else a matrix.

    The root of a singular Σ0 is made from its correlations, so that inputs in small units keep
    their digits beside inputs in large units. Cost: that of `covariance_root`, n_0 FLOPs for a
    diagonal.
    """
    if network.input_variance is not None:
        return _diagonal_root(on_host(network.input_variance))
    if network.input_cov is None:
        return None
    cov = on_host(network.input_cov)
    root = _cholesky(cov)
    if root is None:
        sizes = _diagonal_root(cov.diagonal())
        units = np.where(sizes > 0, sizes, 1)
        root = sizes[:, None] * covariance_root(cov / units / units[:, None])
    return root


def covariance_root(cov: Array) -> Array:
    """The root R of a covariance (n, n), R Rᵀ = cov: Cholesky's, or by eigenvectors if singular.

    Cost: n^3/3 FLOPs, or 9 n^3 (the usual estimate) for the eigenvectors; n for a diagonal.
    """
    if is_diagonal(cov):
        return np.diag(_diagonal_root(cov.diagonal()))
    root = _cholesky(cov)
    if root is None:
        values, vectors = np.linalg.eigh(cov)
        count(9 * len(cov) ** 3)
        root = vectors * np.sqrt(np.maximum(values, 0))
    return root


def _cholesky(cov: Array) -> Array | None:
    try:
        root = np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        return None
    count(len(cov) ** 3 // 3)
    return root


def _diagonal_root(variance: Array) -> Array:
    root: Array = np.sqrt(np.maximum(variance, 0))
    count(root.size)
    return root
