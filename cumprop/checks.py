"""The contract of an estimator, as a suite that any backend can be put through."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import numpy as np

from cumprop.errors import CumpropError
from cumprop.estimator import Estimate, Estimator
from cumprop.networks import MLP
from cumprop.random_networks import random_mlp

Z_SCORE = 6.0
"""A sampling estimator may miss an exact mean by so many standard errors."""


def check_estimator(estimator: Estimator, tolerance: float = 1e-6) -> None:
    """Put a backend through its contract on small networks; raise CumpropError with every breach.

    `tolerance` is the error allowed on a linear network, relative to the output scale, to an
    estimator that gives no standard error. Takes about a second.

    >>> from cumprop.estimators.cumulant import Cumulant
    >>> check_estimator(Cumulant(order=2))
    """
    if not isinstance(estimator, Estimator):
        raise CumpropError(f"{estimator!r} is no estimator; give an instance, as Cumulant(order=2)")
    breaches = [*_declaration(estimator), *_behaviour(estimator, tolerance)]
    if breaches:
        raise CumpropError(f"estimator {estimator.name}: " + "; ".join(breaches))


def _declaration(estimator: Estimator) -> Iterator[str]:
    if not dataclasses.is_dataclass(estimator):
        yield "is not a dataclass"
    elif not type(estimator).__dataclass_params__.frozen:  # type: ignore[attr-defined]
        yield "is not frozen"
    if not isinstance(getattr(estimator, "version", None), int):
        yield "has no integer `version`"
    try:
        json.dumps(dataclasses.asdict(estimator))
    except TypeError:
        yield "has a field that is no YAML value"


def _behaviour(estimator: Estimator, tolerance: float) -> Iterator[str]:
    for dtype in ("float32", "float64"):
        network = random_mlp(width=12, depth=3, seed=1, dtype=dtype)
        reason = estimator.supports(network)
        if reason is not None:
            if not isinstance(reason, str):
                yield "`supports` gives neither None nor a reason"
            continue
        estimate = estimator.estimate(network)
        yield from _shapes(network, estimate)
        yield from _cost(estimator, network, estimate)
        if not np.array_equal(estimator.estimate(network).mean, estimate.mean):
            yield "gives other numbers the second time"
        if not isinstance(type(estimator).from_tolerance(0.1, network.shape), Estimator):
            yield "`from_tolerance` gives no estimator"
    yield from _linear(estimator, tolerance)


def _shapes(network: MLP, estimate: Estimate) -> Iterator[str]:
    if estimate.mean.shape != (network.widths[-1],):
        yield f"mean has shape {estimate.mean.shape}, not {(network.widths[-1],)}"
    shapes = [mean.shape for mean in estimate.layer_means]
    if shapes != [(n,) for n in network.widths[1:-1]]:
        yield f"layer_means have shapes {shapes}: give E[X_1]..E[X_L]"
    if estimate.cov is not None:
        yield "gives a covariance nobody asked for"
    if not np.isfinite(estimate.mean).all():
        yield "mean is not finite"
    if not estimate.status:
        yield "status is empty"


def _cost(estimator: Estimator, network: MLP, estimate: Estimate) -> Iterator[str]:
    cost, counted = estimator.predict_cost(network.shape), estimate.flops.total
    if counted <= 0:
        yield "counts no FLOPs"
    elif not 0.5 <= cost.flops / counted <= 2:
        yield f"predicts {cost.flops:.3g} FLOPs but {counted:.3g} are counted"
    if cost.bytes <= 0:
        yield "predicts no memory"


def _linear(estimator: Estimator, tolerance: float) -> Iterator[str]:
    """E[W_2 W_1 x] = W_2 W_1 μ, whatever the method."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(6, 5)), rng.normal(size=(3, 6))]
    mean = rng.normal(size=5)
    network = MLP(weights, activations="identity", input_mean=mean)
    if estimator.supports(network) is not None:
        return
    estimate = estimator.estimate(network)
    exact = weights[1] @ weights[0] @ mean
    allowed = tolerance * np.abs(exact).max()
    if estimate.stderr is not None:
        allowed = allowed + Z_SCORE * estimate.stderr
    if (np.abs(estimate.mean - exact) > allowed).any():
        yield "misses the mean of a linear network"
