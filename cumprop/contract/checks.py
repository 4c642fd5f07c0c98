"""The contract of an estimator, as a suite of checks for any backend."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from cumprop.contract.estimator import Estimate, Estimator
from cumprop.contract.printing import is_unreliable
from cumprop.errors import CumpropError
from cumprop.networks import MLP, random_mlp

Z_SCORE = 6.0
"""The number of standard errors by which a sampling estimator may miss an exact mean."""
LEAST_QUANTILE = 1.9
"""The least half width of a 95% interval in standard errors: 1.96, less a margin for rounding."""


def check_estimator(estimator: Estimator, tolerance: float = 1e-6) -> None:
    """Test a backend against its contract on small networks.

    `tolerance` is the error allowed on a linear network, relative to the output scale, to an
    estimator that gives no standard error. Raises CumpropError with a list of all breaches. Cost:
    about a second.

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
        yield from _errors(network, estimate)
        yield from _status(estimate)
        yield from _cost(estimator, network, estimate)
        with suppress(CumpropError):  # covariances are not for every backend
            yield from _errors(network, estimator.estimate(network, cov=True))
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


def _errors(network: MLP, estimate: Estimate) -> Iterator[str]:
    """Check that errors are None or numbers ≥ 0 of the right shapes."""
    for name in ("expected_error", "expected_std_error"):
        error = getattr(estimate, name)
        if error is not None and not (np.ndim(error) == 0 and 0 <= error < np.inf):
            yield f"{name} is {error}: give a number ≥ 0, or None"
    sound = {}
    for name in ("stderr", "half_width"):
        errors = getattr(estimate, name)
        if errors is None:
            continue
        if np.shape(errors) != (network.widths[-1],):
            yield f"{name} has shape {np.shape(errors)}, not {(network.widths[-1],)}"
        elif not (np.isfinite(errors) & (errors >= 0)).all():
            yield f"{name} has entries that are negative or not finite"
        else:
            sound[name] = errors
    if len(sound) == 2 and (sound["half_width"] < LEAST_QUANTILE * sound["stderr"]).any():
        yield f"half_width is below {LEAST_QUANTILE} stderr: give that of a 95% interval"
    variances = estimate.layer_variances
    if variances is not None and [np.shape(v) for v in variances] != [
        (n,) for n in network.widths[1:-1]
    ]:
        yield "layer_variances are not those of X_1..X_L"


def _status(estimate: Estimate) -> Iterator[str]:
    status = estimate.status
    if not status:
        yield "status is empty"
    elif "\n" in status or status != status.strip():
        yield f"status {status!r} is not one line"
    elif is_unreliable(status) and not re.match(r"unreliable: [^;]+; \S", status):
        yield f"status {status!r}: write 'unreliable: why; remedy'"


def _cost(estimator: Estimator, network: MLP, estimate: Estimate) -> Iterator[str]:
    cost, counted = estimator.predict_cost(network.shape), estimate.flops.total
    if counted <= 0:
        yield "counts no FLOPs"
    elif not 0.5 <= cost.flops / counted <= 2:
        yield f"predicts {cost.flops:.3g} FLOPs but {counted:.3g} are counted"
    if cost.bytes <= 0:
        yield "predicts no memory"


def _linear(estimator: Estimator, tolerance: float) -> Iterator[str]:
    """Check that E[W_2 W_1 x] = W_2 W_1 μ."""
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
