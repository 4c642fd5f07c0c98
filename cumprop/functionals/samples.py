"""Outputs of independent inputs: drawn in batches, averaged, and counted with exact intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop.contract import Estimator, instance
from cumprop.errors import CumpropError
from cumprop.flops import component, counted, is_foreign, plain
from cumprop.inputs import Empirical
from cumprop.networks import MLP, gaussian_parts
from cumprop.parameters import typed
from cumprop.sampling import Inputs, check_finite

Array = NDArray[Any]
Function = Callable[[Array], Array]
"""Values (N, m) of outputs (N, n_{L+1})."""


def sampled_outputs(network: MLP, n_samples: int, rng: np.random.Generator) -> Iterator[Array]:
    """The outputs of `n_samples` independent inputs; those of a component of a mixture in a row."""
    if any(map(is_foreign, network.weights)):
        raise CumpropError("samples take NumPy weights, not tensors: give tensor.numpy()")
    weights, parts = zip(*gaussian_parts(network), strict=True)
    numbers = rng.multinomial(n_samples, weights) if len(parts) > 1 else [n_samples]
    for part, number in zip(parts, numbers, strict=True):
        with np.errstate(over="ignore", invalid="ignore"):
            for batch in Inputs(part).batches(rng, number) if number else ():
                with component("forward"):
                    y = plain(part.forward(counted(batch.x)))
                check_finite(y, network.dtype)
                yield y


@dataclass(frozen=True, eq=False)
class Averages:
    """Means (m,) of a function over `n_samples` independent outputs, and their standard errors.

    `deviation` is the standard deviation of the function, (m,).
    """

    mean: Array
    deviation: Array
    n_samples: int

    @property
    def stderr(self) -> Array:
        error: Array = self.deviation / np.sqrt(self.n_samples)
        return error


def checked(
    network: MLP, estimator: str | Estimator, parameters: dict[str, Any], tolerance: float | None
) -> tuple[Estimator, float | None]:
    """The estimator as an instance, and the tolerance as a positive number or None.

    Raises CumpropError where they are not, or `network` is none.
    """
    estimator = instance(network, estimator, parameters)
    tolerance = None if tolerance is None else typed(tolerance, float, "tolerance")
    if tolerance is not None and not 0 < tolerance < float("inf"):
        raise CumpropError(f"tolerance is {tolerance:g}; give a positive number")
    return estimator, tolerance


def samples_asked(network: MLP, estimator: Estimator) -> int | None:
    """The samples that an estimator asks for, or all rows of data; None where moments answer."""
    if isinstance(network.input, Empirical):
        return network.input.n_rows
    return getattr(estimator, "n_samples", None) if estimator.name == "monte_carlo" else None


def averages(
    network: MLP, function: Function, n_samples: int, rng: np.random.Generator
) -> Averages:
    """The averages of a function of the outputs over `n_samples` inputs, of rows at most all.

    Raises CumpropError where forward passes overflow. Cost: n_samples forward passes.
    """
    if isinstance(network.input, Empirical):
        n_samples = min(n_samples, network.input.n_rows)
    seen, mean, squares = 0, np.zeros(1), np.zeros(1)
    for y in sampled_outputs(network, n_samples, rng):
        values = plain(function(y.astype(np.float64)))
        step, share = values.mean(axis=0) - mean, len(values) / (seen + len(values))
        squares = squares + values.var(axis=0) * len(values) + step * step * seen * share
        seen, mean = seen + len(values), mean + step * share
    return Averages(mean, np.sqrt(squares / seen), seen)


def clopper_pearson(hits: ArrayLike, n_samples: int, level: float = 0.95) -> Array:
    """Ends (2, m) of exact intervals of the probabilities that made these `hits`, (m,).

    Each holds with probability `level` or more, by half of the rest on either side (Clopper and
    Pearson, 1934).

    >>> clopper_pearson([0, 5], 10).round(3).tolist()
    [[0.0, 0.187], [0.308, 0.813]]
    """
    from scipy.special import betaincinv

    k, n, tail = np.asarray(hits, np.float64), n_samples, (1 - level) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, tail), 0)
        high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail), 1)
    return np.stack([low, high])
