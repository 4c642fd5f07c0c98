"""Expected extremes, losses and other functions of the outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop import streams
from cumprop.contract import Estimator
from cumprop.contract.printing import NORMAL_QUANTILE, interval, status_words
from cumprop.errors import CumpropError
from cumprop.flops import Flops, added, counted, counting
from cumprop.functionals.integrals import REMEDY, from_moments
from cumprop.functionals.samples import Function, averages, checked, samples_asked
from cumprop.networks import MLP
from cumprop.parameters import typed

Array = NDArray[Any]

LARGEST_HALF_WIDTH = 0.2
"""Expected values with wider intervals, in standard deviations, are unreliable without samples."""
RARE_SHARE = 0.2
"""Functions that owe more of their deviations to the rarest 1% of the outputs are unreliable."""
SQUARED = "|y - t|²"


@dataclass(frozen=True, eq=False, repr=False)
class Expectation:
    """An expected value E[g(Y)] with the half width of its 95% interval, None where not known.

    `deviation` is the standard deviation of g(Y). `n_samples` is None unless it was sampled.
    `flops` are counted by component; `status` is "ok" or names a reason to doubt the number and a
    remedy. `print` shows all of it.

    >>> import cumprop
    >>> cumprop.expected(cumprop.MLP([[[1.0], [-1.0]]]), "max")       # doctest: +ELLIPSIS
    E[max y] = 0.79... ± 0.000...
    1.52e+06 FLOPs
    status: ok
    """

    name: str
    value: float
    half_width: float | None
    deviation: float
    n_samples: int | None
    flops: Flops
    status: str

    def __repr__(self) -> str:
        cost = f"{self.flops.total:.3g} FLOPs"
        if self.n_samples is not None:
            cost += f", {self.n_samples:,} samples"
        found = f"E[{self.name}] = {interval(self.value, self.half_width)}"
        return "\n".join([found, cost, status_words(self.status)])

    def to_dict(self) -> dict[str, Any]:
        """All fields as numbers and text that `json.dumps` takes; None where not known."""
        fields = {key: value for key, value in vars(self).items() if key != "flops"}
        return fields | {"flops": self.flops.total, "flops_components": dict(self.flops)}


def expected(
    network: MLP,
    what: str | Callable[[Array], Array],
    target: ArrayLike | None = None,
    outputs: Sequence[int] | None = None,
    estimator: str | Estimator = "cumulant",
    tolerance: float | None = None,
    seed: int = 0,
    **parameters: Any,
) -> Expectation:
    """The expected value of a function of the outputs under the law of the input.

    `what` is "max" or "min" of all outputs; "squared", the squared distance from a `target`, a
    number or one for each output; "cross-entropy" of the class `target`; or a function that takes
    rows of outputs, (N, k), and returns (N,). `outputs` are the indices of the outputs that enter,
    all by default. `estimator` and its `parameters` are those of `class_probabilities`, as is the
    way from moments to the answer. With `tolerance`, samples replace an answer that is unreliable
    or whose 95% interval has a larger half width, in standard deviations of the function. Raises
    CumpropError for another `what`, a target that does not fit, and as `class_probabilities` does.
    Cost: an estimate with third cumulants and 10 passes of 2^14 points; sampled,
    (1.96 / tolerance)² forward passes.

    >>> import cumprop
    >>> pair = cumprop.MLP([[[1.0, 0.0], [0.0, 1.0]]])           # two independent N(0, 1)
    >>> round(cumprop.expected(pair, "max").value, 2)            # 1 / √π
    0.56
    >>> round(cumprop.expected(pair, lambda y: y[:, 0] ** 2, outputs=[1]).value, 2)
    1.0
    """
    estimator, tolerance = checked(network, estimator, parameters, tolerance)
    chosen = _chosen(network, outputs)
    name, function = _named(what, target, len(chosen.weights[-1]))
    asked = samples_asked(network, estimator)
    found = None if asked is not None else _from_moments(chosen, estimator, name, function, seed)
    if found is not None and (tolerance is None or _settled(found, tolerance)):
        return found
    n_samples = asked if tolerance is None else ceil((NORMAL_QUANTILE / tolerance) ** 2)
    assert n_samples is not None
    before = Flops() if found is None else found.flops
    return _sampled(chosen, name, function, n_samples, seed, before)


def _settled(found: Expectation, tolerance: float) -> bool:
    if found.status != "ok" or found.half_width is None:
        return False
    return found.half_width <= tolerance * found.deviation


def _chosen(network: MLP, outputs: Sequence[int] | None) -> MLP:
    """The network of these outputs alone."""
    if outputs is None:
        return network
    rows = [typed(i, int, "outputs") for i in outputs]
    if not rows or not all(0 <= i < network.widths[-1] for i in rows):
        raise CumpropError(f"outputs are {rows}; give indices from 0 to {network.widths[-1] - 1}")
    *weights, last = network.weights
    *biases, bias = network.biases
    bias = None if bias is None else bias[rows]
    return network.replace(weights=[*weights, last[rows]], biases=[*biases, bias])


def _named(
    what: str | Callable[[Array], Array], target: ArrayLike | None, k: int
) -> tuple[str, Function]:
    """The function by its name, with values (N, 1), and how it is printed."""
    if callable(what):
        return getattr(what, "__name__", "g(y)"), lambda y: _values(what, y)
    if what in ("max", "min"):
        if target is not None:
            raise CumpropError(f"{what} has no target; leave it out")
        extreme = np.max if what == "max" else np.min
        return f"{what} y", lambda y: extreme(y, axis=1)[:, None]
    if what == "squared":
        goal = _target(target, k)
        return SQUARED, lambda y: np.square(counted(y) - goal).sum(axis=1)[:, None]
    if what == "cross-entropy":
        label = typed(target, int, "target")
        if not 0 <= label < k:
            raise CumpropError(f"target is {label}; give a class from 0 to {k - 1}")
        return f"cross-entropy of class {label}", lambda y: _cross_entropy(counted(y), label)
    raise CumpropError(
        f"no function is named {what!r}; take max, min, squared, cross-entropy, or a function"
    )


def _values(function: Callable[[Array], Array], y: Array) -> Array:
    values = np.asarray(function(y))
    if values.shape != y.shape[:1]:
        raise CumpropError(
            f"the function makes {values.shape} of outputs {y.shape}; return ({len(y)},) numbers"
        )
    return values[:, None]


def _target(target: ArrayLike | None, k: int) -> Array:
    try:
        goal = np.asarray(target, dtype=np.float64)
    except (TypeError, ValueError):
        raise CumpropError("the target is no list of numbers; give one for each output") from None
    if goal.shape not in ((), (k,)) or not np.isfinite(goal).all():
        raise CumpropError(f"the target has shape {goal.shape}; give ({k},) finite numbers, or one")
    return goal


def _cross_entropy(y: Array, label: int) -> Array:
    largest = y.max(axis=1)
    total = np.log(np.exp(y - largest[:, None]).sum(axis=1)) + largest
    loss: Array = (total - y[:, label])[:, None]
    return loss


def _from_moments(
    network: MLP, estimator: Estimator, name: str, function: Function, seed: int
) -> Expectation:
    found = from_moments(network, estimator, function, seed, quadratic=name == SQUARED)
    mean, deviation = found.integrals, float(found.integrals.deviation[0])
    half_width = None
    if mean.bent is not None:
        half_width = float(mean.half_width(np.abs(mean.bent), deviation)[0])
    status = found.doubt
    if not status and half_width is not None and half_width > LARGEST_HALF_WIDTH * deviation:
        share = half_width / deviation
        status = f"unreliable: it is known to {share:.1g} standard deviations only"
        status += f"; {REMEDY}"
    if not status and mean.rare[0] > RARE_SHARE and mean.unseen[0] > 0:
        status = f"unreliable: {mean.rare[0]:.0%} of its deviations are those of the rarest 1% of "
        status += f"the outputs, which moments do not show; {REMEDY}"
    value = float(mean.value[0])
    return Expectation(name, value, half_width, deviation, None, found.flops, status or "ok")


def _sampled(
    network: MLP, name: str, function: Function, n_samples: int, seed: int, before: Flops
) -> Expectation:
    rng = streams.output_samples(seed, network.shape.width, 0)
    with counting() as flops:
        found = averages(network, function, n_samples, rng)
    return Expectation(
        name,
        float(found.mean[0]),
        NORMAL_QUANTILE * float(found.stderr[0]),
        float(found.deviation[0]),
        found.n_samples,
        added(before, flops),
        "ok",
    )
