"""Independent coordinates, each of any law, mixed by a matrix; boxes."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from cumprop import activations
from cumprop.activations import Activation
from cumprop.errors import CumpropError
from cumprop.flops import count, counted, is_foreign, on_host
from cumprop.inputs.arrays import numbers
from cumprop.inputs.law import Law, check_order, in_words, sized_vector

Array = NDArray[Any]


class Unfolded(NamedTuple):
    """A law as a layer: x = mean + mix · φ(scale · z), z ~ N(0, I_m).

    `scale` is (m,), `activations` are m, `mix` is (n, m), or (n,) for a diagonal, `mean` is (n,).
    """

    scale: Array
    activations: list[Activation]
    mix: Array
    mean: Array


class ByCoordinates(Law):
    """The law of x = mean + A r with independent coordinates r_a, which `unfolded` describes.

    Cumulants of order k are Σ_a κ_k(r_a) A_a⊗ᵏ, exactly.
    """

    @abstractmethod
    def unfolded(self) -> Unfolded:
        """The law as a layer of a network whose input is standard normal."""

    @abstractmethod
    def _own_cumulants(self, order: int) -> Array:
        """The cumulants of this order of the coordinates r, (m,)."""

    @property
    def _matrix(self) -> Array:
        mix = self.unfolded().mix
        return mix if mix.ndim == 2 else np.diag(mix)

    @property
    def mean(self) -> Array:
        return self.cumulant(1)

    @property
    def cov(self) -> Array:
        return self.cumulant(2)

    def cumulant(self, order: int) -> Array:
        a = self._matrix
        check_order(order, len(a))
        letters = "ijkl"[:order]
        columns = ",".join(f"{letter}a" for letter in letters)
        found: Array = np.einsum(
            f"a,{columns}->{letters}", self._own_cumulants(order), *[a] * order
        )
        return found + self.unfolded().mean if order == 1 else found

    def sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        layer = self.unfolded()
        z = rng.standard_normal((n_samples, len(layer.scale))) * layer.scale
        r = np.stack([phi.forward(z[:, a]) for a, phi in enumerate(layer.activations)], axis=1)
        x: Array = r * layer.mix if layer.mix.ndim == 1 else r @ layer.mix.T
        return x + layer.mean


@dataclass(frozen=True, eq=False, repr=False)
class Uniform(ByCoordinates):
    """The uniform law on the box low ≤ x ≤ high, a number or (n,) each; low = high is a constant.

    Raises CumpropError, once n is known, where low > high.

    >>> law = Uniform(0.0, [1.0, 2.0]).sized(2)
    >>> law.mean.tolist(), law.cov.round(4).tolist(), float(law.cumulant(4)[1, 1, 1, 1].round(4))
    ([0.5, 1.0], [[0.0833, 0.0], [0.0, 0.3333]], -0.1333)
    """

    low: ArrayLike = 0.0
    high: ArrayLike = 1.0

    def _sized(self, n: int) -> Self:
        low, high = sized_vector(self.low, n, "low"), sized_vector(self.high, n, "high")
        if (low > high).any():
            worst = int(np.argmax(low - high))
            raise CumpropError(
                f"coordinate {worst} has low {low[worst]:g} above high {high[worst]:g}; swap them"
            )
        return replace(self, low=low, high=high)

    def unfolded(self) -> Unfolded:
        low, high = np.atleast_1d(np.asarray(self.low)), np.atleast_1d(np.asarray(self.high))
        n = len(low)
        erf = activations.get("erf")  # 2 Φ(z) - 1 is uniform on [-1, 1]
        return Unfolded(np.full(n, sqrt(0.5)), [erf] * n, high / 2 - low / 2, low / 2 + high / 2)

    def _own_cumulants(self, order: int) -> Array:
        value = {1: 0.0, 2: 1 / 3, 3: 0.0, 4: -2 / 15}[order]
        return np.full(len(np.atleast_1d(np.asarray(self.low))), value)

    @property
    def words(self) -> str:
        return f"U[{in_words(self.low, 'low')}, {in_words(self.high, 'high')}]"


@dataclass(frozen=True, eq=False, repr=False)
class Independent(ByCoordinates):
    """The law of x = location + mix · r, r_a independent of the laws `coordinates`.

    `coordinates` is a continuous distribution of scipy.stats with its parameters, as in
    scipy.stats.expon(scale=2), for all coordinates, or a list of m of them; `mix` is a matrix
    (n, m), a vector (n,) or a number for a diagonal; `location` is (n,) or a number. Raises
    CumpropError for other distributions, those without four moments, and shapes that do not fit.

    >>> from scipy import stats
    >>> law = Independent(stats.expon(), mix=[[1.0, -1.0]]).sized(1)
    >>> law.mean.tolist(), law.cov.tolist(), law.cumulant(4).ravel().tolist()
    ([0.0], [[2.0]], [12.0])
    """

    coordinates: Any
    mix: ArrayLike = 1.0
    location: ArrayLike = 0.0

    def _sized(self, n: int) -> Self:
        mix = numbers(self.mix, "mix").astype(np.float64)
        if mix.ndim != 2:
            mix = sized_vector(mix, n, "mix")
        elif len(mix) != n or not mix.shape[1]:
            raise CumpropError(f"mix has shape {mix.shape}; give ({n}, m) or ({n},)")
        m = mix.shape[-1]
        given = self.coordinates
        listed = list(given) if isinstance(given, Sequence | np.ndarray) else [given] * m
        if len(listed) != m:
            raise CumpropError(f"{len(listed)} coordinates are given for {m}; give one for each")
        for distribution in dict.fromkeys(listed):
            _check(distribution)
        location = sized_vector(self.location, n, "location")
        return replace(self, coordinates=listed, mix=mix, location=location)

    def unfolded(self) -> Unfolded:
        functions = {distribution: _quantiles(distribution) for distribution in self.coordinates}
        m = len(self.coordinates)
        return Unfolded(
            np.ones(m),
            [functions[distribution] for distribution in self.coordinates],
            np.asarray(self.mix),
            np.asarray(self.location),
        )

    def _own_cumulants(self, order: int) -> Array:
        known = {d: _cumulants(d)[order - 1] for d in dict.fromkeys(self.coordinates)}
        return np.array([known[d] for d in self.coordinates])

    @property
    def words(self) -> str:
        listed = self.coordinates if isinstance(self.coordinates, list) else [self.coordinates]
        names = dict.fromkeys(distribution.dist.name for distribution in listed)
        return f"independent {', '.join(names)}"


def _check(distribution: Any) -> None:
    """Raise CumpropError for an object that is no continuous law with four finite moments."""
    known = all(hasattr(distribution, name) for name in ("ppf", "isf", "stats", "pdf", "dist"))
    if not known:
        raise CumpropError(
            f"{distribution!r} is no continuous distribution of scipy.stats with its parameters; "
            "give one such as scipy.stats.expon(scale=2)"
        )
    if not np.isfinite(_cumulants(distribution)).all():
        raise CumpropError(
            f"{distribution.dist.name} has no finite fourth moment with these parameters; "
            "bound it, as scipy.stats.truncate does"
        )


def _cumulants(distribution: Any) -> tuple[float, float, float, float]:
    """The first four cumulants of a distribution."""
    mean, variance, skewness, kurtosis = (float(m) for m in distribution.stats(moments="mvsk"))
    return mean, variance, skewness * variance**1.5, kurtosis * variance**2


def _quantiles(distribution: Any) -> Activation:
    """The function z -> F⁻¹(Φ(z)), which turns a standard normal into the distribution."""

    def quantiles(z: Array) -> Array:
        tail = ndtr(-np.abs(z))
        x: Array = np.where(z < 0, distribution.ppf(tail), distribution.isf(tail))
        return x

    def slopes(z: Array) -> Array:
        density: Array = np.exp(-0.5 * z * z) / sqrt(2 * np.pi)
        there = distribution.pdf(quantiles(z))
        steepness: Array = np.divide(density, there, out=0 * density, where=there > 0)
        return steepness

    name = f"quantiles of {distribution.dist.name}"
    return activations.Custom(_in_numpy(quantiles), _in_numpy(slopes), name=name)


def _in_numpy(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The function for tensors, too, through which no gradient is needed: z is not learnt."""

    def applied(z: Array) -> Array:
        with warnings.catch_warnings(action="ignore"):  # of accuracy beyond 8 s.d.
            y = np.asarray(function(on_host(z)), dtype=z.dtype)
        count(y.size)
        found: Array = (
            np.asarray(y, dtype=y.dtype, like=counted(z)) if is_foreign(z) else y.view(type(z))
        )
        return found

    return applied
