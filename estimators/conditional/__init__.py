"""Backend `conditional`: exact along a few directions of the input, an order across them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop.activations import stand_in
from cumprop.contract import Cost, Estimate, Estimator, build, mixed, register, shape_only_network
from cumprop.errors import CumpropError
from cumprop.flops import (
    added,
    arena,
    component,
    counting,
    on_host,
    records_gradients,
    without_numbers,
)
from cumprop.inputs.covariances import Checked
from cumprop.networks import Shape

from . import directions as directions_of
from .directions import has_slopes, orthonormal, root_of, times
from .errors import with_errors
from .rules import Rule, beyond, coarser, interval, whole

if TYPE_CHECKING:
    from cumprop.networks import MLP

Array = NDArray[Any]
Source = Callable[["MLP", int], Array]

__all__ = ["Conditional", "Rule", "beyond", "interval", "whole"]

ONE, SEVERAL = 16, 256
"""The numbers of nodes of one direction and of several."""
SOURCES: dict[str, Source] = {
    "gradient": directions_of.gradient,
    "leading": directions_of.leading,
    "event": directions_of.event,
}


@register("conditional")
@dataclass(frozen=True)
class Conditional(Estimator):
    """An order of `cumulant` under the input given some of its directions, averaged over these.

    With z ~ N(0, I), x = μ + S z and k orthonormal columns U, E[g] = ∫ φ(s) E[g | Uᵀz = s] ds, and
    x given s is N(μ + S U s, S (I − U Uᵀ) Sᵀ): along U the estimate is exact but for quadrature at
    `nodes` values of s (docs/conditional.md). One direction has 16 Gauss–Hermite nodes by default,
    several have 256 of Sobol's; an event has Gauss–Legendre nodes on either side of its nearest
    input. The k = `n_directions` columns come from the source `directions`: `gradient` takes the
    leading eigenvectors of E[∇g ∇gᵀ], `leading` those of Cov(Z_1), and `event` the nearest inputs
    at which the one neuron of the last hidden layer crosses 0, or each of several steps there,
    which then have directions and an estimate of their own; `auto` is `event` for `MLP.above` of a
    network of one output, else `gradient`, or `leading` where slopes do not exist. `order` and
    `kind` are those of `cumulant`; the covariance follows from the law of total covariance.
    Raises CumpropError for an unknown source, too few nodes or directions, more than 500 nodes of
    one direction, gradients that are not finite, and parameters that `cumulant` refuses.
    Cost: that of the order at every node and, for the expected error, once without conditions and,
    of one direction or an event, at half as many nodes more; all of it for each of several steps.

    >>> import cumprop
    >>> network = cumprop.MLP([[[3.0, 4.0]], [[1.0]]], activations="square")
    >>> found = Conditional(nodes=4).estimate(network, cov=True)       # y = 25 z², z ~ N(0, 1)
    >>> found.mean.round(9).tolist(), found.cov.round(9).tolist()
    ([25.0], [[1250.0]])
    """

    version: ClassVar[int] = 2
    order: int = 2
    kind: str = "basic"
    directions: str = "auto"
    n_directions: int = 1
    nodes: int | None = None

    def __post_init__(self) -> None:
        self.base  # noqa: B018  (its errors are ours)
        if self.directions not in ("auto", *SOURCES):
            raise CumpropError(
                f"directions {self.directions!r}: choose one of auto, {', '.join(SOURCES)}"
            )
        for name, least in (("n_directions", 1), ("nodes", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise CumpropError(f"{name} is {value}; give a number ≥ {least}")

    @property
    def base(self) -> Estimator:
        """The estimator of each node."""
        return build("cumulant", order=self.order, kind=self.kind)

    def supports(self, network: MLP) -> str | None:
        source = self._source(network.shape)
        if source == "event" and not (network.shape.activations and _has_events(network.shape)):
            return (
                "directions event belong to a last hidden layer of one neuron, or of steps, as in "
                "MLP.above(t): take directions auto"
            )
        if source != "leading" and not all(map(has_slopes, network.activations[:-1])):
            return f"directions {source} take slopes of activations: take leading"
        return self.base.supports(network)

    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        source = self._source(network.shape)
        if source == "event" and network.depth and network.widths[-2] > 1:
            return self._step_by_step(network, cov)
        with counting() as flops, component("directions"):
            columns = SOURCES[source](network, self._k(network.shape))
        distance = float(np.linalg.norm(columns[:, 0])) if source == "event" else None
        found = self._along(network, columns, self._rules(columns.shape[1], distance), cov)
        return replace(found, flops=added(flops, found.flops))

    def _step_by_step(self, network: MLP, cov: bool) -> Estimate:
        """The estimate whose last hidden means are each from directions of their own."""
        if reason := self.supports(network):
            raise CumpropError(reason)
        if cov:
            raise CumpropError(
                "steps with directions of their own have no covariance: take leading"
            )
        *first, rows, last = network.weights
        *biases, shifts, bias = network.biases
        parts = [
            self.estimate(
                network.replace(
                    weights=[*first, rows[i : i + 1], np.ones((1, 1), network.dtype)],
                    biases=[*biases, None if shifts is None else shifts[i : i + 1], None],
                )
            )
            for i in range(len(rows))
        ]
        p = np.concatenate([part.mean for part in parts])
        doubtful = (part.status for part in parts if part.status != "ok")
        halves = [part.half_width for part in parts if part.half_width is not None]
        expected = [part.expected_error for part in parts if part.expected_error is not None]
        known = len(halves) == len(expected) == len(parts)
        return Estimate(
            mean=last @ p if bias is None else last @ p + bias,
            layer_means=(*parts[0].layer_means[:-1], p),
            flops=added(*(part.flops for part in parts)),
            status=next(doubtful, "ok"),
            half_width=np.abs(last) @ np.concatenate(halves) if known else None,
            expected_error=max(expected) if known else None,
        )

    def along(
        self, network: MLP, directions: ArrayLike, rule: Rule | None = None, cov: bool = False
    ) -> Estimate:
        """The estimate for given directions, columns (n_0, k) of z, with the nodes of a `rule`.

        The columns are made orthonormal from the first on. The root S of Σ0 is diagonal where Σ0
        is, Cholesky's where that exists, else made of eigenvectors. Without a rule, the error of
        quadrature is estimated, and weights sum to 1. Gradients reach weights
        and biases, not the directions: the integral does not depend on these. Cost: that of the
        order at every node.

        >>> import cumprop
        >>> network = cumprop.MLP([[[3.0, 4.0]], [[1.0]]])
        >>> tail = network.above(15.0)                                       # 3 s.d.
        >>> found = Conditional().along(tail, [0.6, 0.8], interval(3.0, 9.0, 16))
        >>> f"{found.mean[0]:.3e}"                                           # Φ(-3)
        '1.350e-03'
        """
        columns = np.asarray(directions, dtype=np.float64)
        columns = columns[:, None] if columns.ndim == 1 else columns
        return self._along(network, columns, [rule] if rule else self._rules(columns.shape[1]), cov)

    def _source(self, shape: Shape) -> str:
        """The source of directions; `auto` is for events of one neuron, gradients or steps."""
        if self.directions != "auto":
            return self.directions
        if not all(has_slopes(stand_in(name)) for name in shape.activations[:-1]):
            return "leading"
        is_event = shape.activations[-1:] == ("heaviside",) and shape.widths[-2] == 1
        return "event" if is_event else "gradient"

    def _k(self, shape: Shape) -> int:
        return min(self.n_directions, shape.widths[0])

    def _rules(self, k: int, distance: float | None = None) -> list[Rule]:
        """The rule, and one of about half as many nodes that shows its error if no blocks do."""
        nodes = self.nodes or (ONE if k == 1 else SEVERAL)
        if distance is not None:
            return [beyond(distance, k, m) for m in (nodes, nodes // 2)]
        return [whole(k, nodes)] if k > 1 else [whole(k, nodes), coarser(nodes)]

    def _along(self, network: MLP, columns: Array, rules: list[Rule], cov: bool) -> Estimate:
        root, u = root_of(network), orthonormal(columns)
        across = times(root, u)
        given = np.zeros((len(u), len(u)))
        if not directions_of.span_all_seen(network, root, across):
            given = root @ root.T if root.ndim == 2 else np.diag(root * root)
            given -= across @ across.T
        mean = 0.0 if network.input_mean is None else on_host(network.input_mean)
        means = np.concatenate([mean + rule.nodes @ across.T for rule in rules])
        return self._averaged(
            network.replace(input_mean=None, input_cov=Checked(given)),
            means.astype(network.dtype),
            rules,
            None if records_gradients(network.weights) else self.base.estimate(network),
            cov,
        )

    def _averaged(
        self, given: MLP, means: Array, rules: list[Rule], plain: Estimate | None, cov: bool
    ) -> Estimate:
        """The average by the first rule; that by another, or those of blocks, show its error."""
        parts = self.base.estimate_batch(given, means, cov=cov)
        weights, blocks = rules[0].weights, rules[0].blocks
        fine, others = parts[: len(weights)], parts[len(weights) :]
        found = _mean(weights, fine)
        if others:
            trials = [_mean(rules[1].weights, others)]
        else:
            size = len(fine) // blocks
            equal = np.full(size, 1 / size)
            starts = range(0, len(fine), size) if blocks > 1 else ()
            trials = [_mean(equal, fine[start : start + size]) for start in starts]
        found = with_errors(found, weights, fine, plain, trials)
        runs = parts if plain is None else [plain, *parts]
        return replace(found, flops=added(*(run.flops for run in runs)))

    @cache  # noqa: B019  (instances are few, small and equal by value)
    def predict_cost(self, shape: Shape) -> Cost:
        """The cost of the nodes, on arrays without numbers, and of the search for directions."""
        n, k = shape.widths[0], self._k(shape)
        source = self._source(shape)
        if source == "event" and shape.widths[-2] > 1:
            widths = (*shape.widths[:-2], 1, 1)
            one = self.predict_cost(replace(shape, widths=widths, entries=None))
            return Cost(shape.widths[-2] * one.flops, one.bytes)
        rules = self._rules(k, 1.0 if source == "event" else None)
        with arena() as memory, counting():
            plain = self.base.estimate(shape_only_network(shape))
            given = shape_only_network(replace(shape, gaussian_input=True))
            means = without_numbers((sum(rule.size for rule in rules), n), np.ones((), shape.dtype))
            flops = self._averaged(given, means, rules, plain, False).flops
        total = flops.total + directions_of.cost(source, shape)
        return Cost(total, memory.peak, memory.work(total))


def _mean(weights: Array, parts: list[Estimate]) -> Estimate:
    """The average of estimates."""
    return mixed(weights, parts, [False] * len(parts))


def _has_events(shape: Shape) -> bool:
    """Whether the last hidden layer is one neuron, or steps."""
    return shape.widths[-2] == 1 or shape.activations[-1] == "heaviside"
