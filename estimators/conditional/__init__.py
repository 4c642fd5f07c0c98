"""Backend `conditional`: exact along a few directions of the input, an order across them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop.contract import Cost, Estimate, Estimator, build, mixed, register, shape_only_network
from cumprop.errors import CumpropError
from cumprop.flops import added, arena, component, counting, on_host, without_numbers
from cumprop.inputs.covariances import Checked
from cumprop.networks import Shape

from . import directions as directions_of
from .directions import orthonormal
from .errors import average, with_errors
from .rules import Rule, beyond, interval, whole

if TYPE_CHECKING:
    from cumprop.networks import MLP

Array = NDArray[Any]
Source = Callable[["MLP", int], Array]

__all__ = ["Conditional", "Rule", "interval", "whole"]

SOURCES: dict[str, Source] = {
    "gradient": directions_of.gradient,
    "leading": directions_of.leading,
    "event": directions_of.event,
}


@register("conditional")
@dataclass(frozen=True)
class Conditional(Estimator):
    """An order of `cumulant` under the input given k of its directions, averaged over these.

    With z ~ N(0, I), x = μ + S z and k orthonormal columns U, E[g] = ∫ φ(s) E[g | Uᵀz = s] ds, and
    x given s is N(μ + S U s, S (I − U Uᵀ) Sᵀ): along U the estimate is exact but for quadrature at
    `nodes` values of s (docs/conditional.md). `directions` names the source of the k = `n_directions`
    columns: `gradient` for the leading eigenvectors of E[∇g ∇gᵀ], `leading` for those of Cov(Z_1),
    `event` for the nearest inputs at which the one neuron of the last hidden layer is above 0, as
    `MLP.above` makes it of a network of one output. One and two directions have Gauss–Hermite
    nodes, more have Sobol's; an event has Gauss–Legendre nodes on either side of its nearest input. `order` and `kind` are those of `cumulant`. The covariance follows
    from the law of total covariance.
    Raises CumpropError for an unknown source, numbers < 1 and parameters that `cumulant` refuses.
    Cost: that of the order at every node, and half as many nodes more to see the error of
    quadrature.

    >>> import cumprop
    >>> bent = cumprop.MLP([[[1.0]], [[2.0]], [[1.0]]], activations="tanh")
    >>> Conditional(nodes=32).estimate(bent, cov=True).cov.round(4).tolist()
    [[0.4891]]
    """

    version: ClassVar[int] = 1
    order: int = 2
    kind: str = "basic"
    directions: str = "gradient"
    n_directions: int = 1
    nodes: int = 16

    def __post_init__(self) -> None:
        self.base  # noqa: B018  (its errors are ours)
        if self.directions not in SOURCES:
            raise CumpropError(
                f"directions {self.directions!r}: choose one of {', '.join(SOURCES)}"
            )
        for name in ("n_directions", "nodes"):
            if getattr(self, name) < 1:
                raise CumpropError(f"{name} is {getattr(self, name)}; give a number ≥ 1")

    @property
    def base(self) -> Estimator:
        """The estimator of each node."""
        return build("cumulant", order=self.order, kind=self.kind)

    def supports(self, network: MLP) -> str | None:
        searched = network.activations
        if self.directions == "event":
            searched = searched[:-1]
            if not network.depth or network.widths[-2] != 1:
                return (
                    "directions event belong to a last hidden layer of one neuron, as "
                    "MLP.above(t) of a network of one output: take directions gradient"
                )
        if self.directions != "leading" and not all(phi.differentiable for phi in searched):
            return f"directions {self.directions} take slopes of activations: take leading"
        return self.base.supports(network)

    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        with counting() as flops, component("directions"):
            columns = SOURCES[self.directions](network, self._k(network.shape))
        distance = float(np.linalg.norm(columns[:, 0])) if self.directions == "event" else None
        found = self._along(network, columns, self._rules(columns.shape[1], distance), cov)
        return replace(found, flops=added(flops, found.flops))

    def along(
        self, network: MLP, directions: ArrayLike, rule: Rule | None = None, cov: bool = False
    ) -> Estimate:
        """The estimate for given directions, columns (r, k) of z, with the nodes of a `rule`.

        The columns are made orthonormal from the first on. r is the rank of the root S of Σ0, which
        is diagonal where Σ0 is, Cholesky's where that exists, else made of eigenvectors. Without a
        rule, the error of quadrature is estimated from half as many `nodes`, and weights sum to 1.
        Gradients reach weights and biases, not the directions: the integral does not depend on
        these. Cost: that of the order at every node.

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

    def _k(self, shape: Shape) -> int:
        return min(self.n_directions, shape.widths[0])

    def _rules(self, k: int, distance: float | None = None) -> list[Rule]:
        """The rule, and one of half as many nodes that shows its error."""
        return [
            whole(k, m) if distance is None else beyond(distance, k, m)
            for m in (self.nodes, self.nodes // 2)
        ]

    def _along(self, network: MLP, columns: Array, rules: list[Rule], cov: bool) -> Estimate:
        root = directions_of.root_of(network)
        u = orthonormal(columns)
        across = root @ u
        given = root @ root.T
        given = given - across @ across.T if u.shape[1] < len(u) else np.zeros_like(given)
        mean = 0.0 if network.input_mean is None else on_host(network.input_mean)
        means = np.concatenate([mean + rule.nodes @ across.T for rule in rules])
        return self._averaged(
            network.replace(input_mean=None, input_cov=Checked(given)),
            means.astype(network.dtype),
            [rule.weights for rule in rules],
            cov,
        )

    def _averaged(self, network: MLP, means: Array, weights: list[Array], cov: bool) -> Estimate:
        """The average by the first weights; others, of the nodes behind, show its own error."""
        parts = self.base.estimate_batch(network, means, cov=cov)
        fine, others = parts[: len(weights[0])], parts[len(weights[0]) :]
        coarse = average(weights[1], others) if others else None
        found = mixed(weights[0], fine, [False] * len(fine))
        found = with_errors(found, weights[0], fine, coarse)
        return replace(found, flops=added(*(part.flops for part in parts)))

    @cache  # noqa: B019  (instances are few, small and equal by value)
    def predict_cost(self, shape: Shape) -> Cost:
        """The cost of the nodes, on arrays without numbers, and of the search for directions."""
        n, k, distance = (
            shape.widths[0],
            self._k(shape),
            1.0 if self.directions == "event" else None,
        )
        weights = [rule.weights for rule in self._rules(k, distance)]
        with arena() as memory, counting() as flops:
            network = shape_only_network(replace(shape, gaussian_input=True))
            means = without_numbers((sum(map(len, weights)), n), np.ones((), shape.dtype))
            nodes = self._averaged(network, means, weights, False).flops
        total = nodes.total + directions_of.cost(self.directions, shape, k)
        return Cost(total, memory.peak, memory.work(total))
