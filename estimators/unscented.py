"""Backend `unscented`: 2r + 1 chosen inputs for a Gaussian of rank r (mathematics §3.6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite, sqrt
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import Cost, Estimate, Estimator, register, shape_only_network, trust
from cumprop.errors import CumpropError
from cumprop.flops import arena, component, count, counted, counting, occurs, plain, without_numbers
from cumprop.networks import Shape
from cumprop.sampling import Around, covariance_root

from .cumulant.rough import compared
from .cumulant.standardised import input_of

if TYPE_CHECKING:
    from cumprop.networks import MLP

Array = NDArray[Any]


@register("unscented")
@dataclass(frozen=True)
class Unscented(Estimator):
    """The scaled unscented transform of the input, end to end through the network.

    The points are μ and μ ± alpha √(r + kappa) R_i, R_i the r columns of a root of the input
    covariance, r its rank (for a singular covariance, its principal axes). alpha 1, kappa 0, beta 0
    is the cubature rule, whose covariance is never negative; alpha 1e-3, beta 2 are the values of
    textbooks, with points next to μ only. `beta` affects only the covariance. The method is exact
    for linear networks, and for the mean of quadratic ones (mathematics §3.6). An input that is not
    Gaussian counts as one of its mean and covariance. Arithmetic is float64. Raises CumpropError
    for alpha ≤ 0 (or below 1e-12), kappa < 0, and infinite numbers.
    Cost: 2 r + 1 forward passes; a root n_0³/3 FLOPs, a singular one 9 n_0³.

    >>> import cumprop
    >>> network = cumprop.MLP([[[3.0, 4.0]], [[1.0]]], activations="square")
    >>> Unscented().estimate(network).mean.round(12).tolist()          # E (3 x_1 + 4 x_2)²
    [25.0]
    """

    version: ClassVar[int] = 2
    draws: ClassVar[bool] = False
    by_moments: ClassVar[bool] = True
    alpha: float = 1.0
    beta: float = 0.0
    kappa: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("alpha", 1e-12), ("beta", -inf), ("kappa", 0)):
            value = getattr(self, name)
            if not (isfinite(value) and value >= least):
                wanted = {"alpha": "> 0", "beta": "that is finite", "kappa": "≥ 0"}[name]
                raise CumpropError(f"unscented: {name} is {value!r}; give a number {wanted}")

    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        with counting() as flops:
            mu, c = input_of(network)
            with component("points"):
                known = None if c is None else counted(_columns(plain(c)))
                root = counted(np.eye(len(mu))) if known is None else known
            means, covariance, unit = self._transformed(network, mu, root, cov)
            signs = compared(network, means[-1], unit, known)
        *layer_means, mean = (plain(mean).astype(network.dtype) for mean in means)
        negative = covariance is not None and bool((np.diagonal(covariance) < 0).any())
        notes = ["some variances are negative: take alpha 1"] if negative else []
        return Estimate(
            mean=mean,
            layer_means=tuple(layer_means),
            cov=covariance if covariance is None else covariance.astype(network.dtype),
            flops=flops,
            n_samples=2 * root.shape[1] + 1,
            **vars(trust("unscented", signs, mean, cov, notes)),
        )

    def _transformed(
        self, network: MLP, mu: Array, root: Array, cov: bool
    ) -> tuple[list[Array], Array | None, float]:
        """Weighted means of X_1, …, X_L, Y over the points, Cov[Y] if wanted, and Σ Var Y."""
        rank = root.shape[1]
        spread = self.alpha * sqrt(rank + self.kappa)
        weight = 0.5 / spread**2 if rank else 0.0
        with component("points"):
            half = root.T * spread
            offsets = np.concatenate([half, -half])
        found = _means(_passes(network, mu, offsets), weight, keep_digits=True)
        if found is None:
            found = _means(_deviations(network, offsets), weight, keep_digits=False)
        assert found is not None
        means, (centre, changes) = found
        with component("statistics"):
            shift = centre - means[-1]
            missed = changes + shift
            central = 2 - 2 * rank * weight - self.alpha**2 + self.beta
            unit = central * float((shift * shift).sum()) + weight * float((missed * missed).sum())
            if not cov:
                return means, None, unit
            covariance = central * (shift[:, None] * shift) + weight * (missed.T @ missed)
        return means, plain(covariance), unit

    @lru_cache  # noqa: B019  (instances are few, small and equal by value)
    def predict_cost(self, shape: Shape) -> Cost:
        """The exact cost of a mean without a covariance, for an input covariance of full rank."""
        network, n = shape_only_network(shape), shape.widths[0]
        with arena() as memory, counting() as flops:
            if shape.gaussian_input:
                count(n**3 // 3)
            root = without_numbers((n, n), 1.0)
            means, _, unit = self._transformed(network, input_of(network)[0], root, False)
            compared(network, means[-1], unit, root if shape.gaussian_input else None)
        return Cost(flops.total, memory.peak, memory.work(flops.total))


Layer = tuple[Array, Array]
"""The values X_l (or Y) at the mean input, and their changes at the other points, (2r, n)."""


def _passes(network: MLP, mu: Array, offsets: Array) -> Iterator[Layer]:
    x = np.concatenate([mu + offsets, mu[None]])
    for layer, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        with component("forward"):
            x = x @ w.T
            if b is not None:
                x = x + b
            if layer < network.depth:
                x = network.activations[layer].forward(x)
        with component("statistics"):
            changes = x[:-1] - x[-1]
        yield x[-1], changes


def _deviations(network: MLP, offsets: Array) -> Iterator[Layer]:
    """Values of all layers and changes, with each change computed without a difference."""
    with component("forward"):
        near = Around(network)
        for (z, x), (dz, dx) in zip(near.base, near.layers(offsets), strict=True):
            yield (z, dz) if x is None or dx is None else (x, dx)


def _means(
    layers: Iterator[Layer], weight: float, keep_digits: bool
) -> tuple[list[Array], Layer] | None:
    """Weighted means of all layers, and the last layer; None where digits are lost but needed."""
    means = []
    for centre, changes in layers:
        if keep_digits and _loses_digits(changes, centre):
            return None
        with component("statistics"):  # the weights add up to 1: only differences count
            means.append(centre + weight * np.add.reduce(changes, axis=0))
    return means, (centre, changes)


def _loses_digits(changes: Array, size: Array) -> bool:
    """Whether over a quarter of the digits of the changes are rounding."""
    if not changes.size:
        return False
    least = float(np.finfo(changes.dtype).eps) ** 0.25 * np.abs(size).max()
    return occurs(np.abs(changes).max() < least)


def _columns(cov: Array) -> Array:
    """A root of `cov`, shape (n, r): the columns that are not zero but for rounding."""
    root = covariance_root(cov.astype(np.float64))
    lengths = np.vecdot(root.T, root.T)
    return root[:, lengths > len(cov) * np.finfo(cov.dtype).eps * lengths.max()]
