"""Backend `cumulant`: mean, covariance and higher cumulants of each layer (mathematics §3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from math import log
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cumprop import threads
from cumprop.activations import TOLERANCE
from cumprop.contract import (
    Cost,
    Estimate,
    Estimator,
    ThirdCumulants,
    register,
    shape_only_network,
    trust,
)
from cumprop.errors import CumpropError
from cumprop.flops import Flops, arena, by_shape, counting, has_numbers, is_foreign, plain, shared
from cumprop.memory import recently_free_memory
from cumprop.networks import Shape

from . import augmented3, dense, order1, order2, order3, order4, tree
from .kinds import EDGES, KINDS, TRUNCATIONS, Scheme
from .propagation import Propagated

if TYPE_CHECKING:
    from cumprop.networks import MLP

Array = NDArray[Any]

METRICS = ("exact", "average")
ALGORITHMS = ("auto", "dense", "structured")
CHOICES = {"kind": KINDS, "metric": METRICS, "truncation": TRUNCATIONS, "algorithm": ALGORITHMS}
MANY_BYTES = 1000
"""The most bytes per n^order of any algorithm; where these are free, no memory is predicted."""
STRUCTURED = {
    (1, "basic"): order1.run,
    (2, "basic"): order2.run,
    (3, "basic"): order3.run,
    (3, "augmented_factorised"): augmented3.run,
    (4, "basic"): order4.run,
}
SIDE_BY_SIDE = {1: order1.run, 2: order2.run, 3: order3.run}
"""The algorithms of kind basic that take a batch of inputs."""
ABLATED = "unreliable: kind ablated shows what power cumulants are for; take kind basic"
WHILE_TRAINING = "errors are not estimated while gradients are recorded"
AT_ONCE = 2**18
"""The most entries of a covariance, times inputs, that a batch holds: it stays in the cache."""
HIGHEST_ORDER = 5
HIGHEST_ORDER_FROM_TOLERANCE = 4


@register("cumulant")
@dataclass(frozen=True)
class Cumulant(Estimator):
    """Cumulant propagation of order K (mathematics §3): error ~ n^-K at width n.

    `kind` names the closure: the cumulants that are tracked beside κ_1..κ_K. `truncation` chooses
    the diagrams that are kept, `metric` whether radial parts use W Wᵀ or its design value (which
    needs `MLP.init_scale`). `algorithm` does not change the numbers: `dense` exists for all kinds
    but tree, `structured` for tree, orders 1 to 4 basic and order 3 augmented_factorised; `auto` is
    the cheaper one. Order 3, kind `tree` has 2.5 times the error of order 4 for O(n³) FLOPs
    (docs/tree.md); its `edges` inside κ_4 are kept to leading order or in `full`, which wide
    networks need (None: as the widths say). `edgeworth` adds terms of κ_3² (None: for trees only;
    order 4 may have them).
    Of an input that is not Gaussian, orders 1 and 2 take mean and covariance alone, order 3 the
    third cumulants and order 4 the fourth, too (mathematics §1, §11).
    Raises CumpropError for a combination of parameters that does not exist.
    Cost: dense Σ_d 2 d n^(d+1) FLOPs per layer and n^K numbers, d up to the order K; structured
    order 3 about 6 n³ L² FLOPs and 9 L n² numbers, order 4 about 8 n⁴ L² and 2 L n³.

    >>> import cumprop
    >>> network = cumprop.random_mlp(width=16, depth=2, seed=0)
    >>> cumprop.estimate(network, Cumulant(order=3)).mean.shape
    (16,)
    """

    version: ClassVar[int] = 3
    draws: ClassVar[bool] = False
    gives_third: ClassVar[bool] = True
    renamed: ClassVar[Mapping[str, str]] = {"engine": "algorithm"}
    order: int = 3
    kind: str = "basic"
    metric: str = "exact"
    truncation: str = "corrected"
    algorithm: str = "auto"
    edgeworth: bool | None = None
    edges: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.order <= HIGHEST_ORDER:
            raise CumpropError(f"order {self.order}: choose 1 to {HIGHEST_ORDER}")
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise CumpropError(
                    f"{field} {getattr(self, field)!r}: choose one of {', '.join(choices)}"
                )
        if self.algorithm != "auto" and self.algorithm not in self._algorithms:
            raise CumpropError(
                f"algorithm {self.algorithm} has no order {self.order} {self.kind}: "
                "use algorithm auto"
            )
        tree_is_asked = (self.order, self.truncation, self.metric) == (3, "corrected", "exact")
        if self.kind == "tree" and not tree_is_asked:
            raise CumpropError(
                "kind tree exists for order 3, truncation corrected and metric exact"
            )
        if self.edgeworth and self.kind != "tree" and self.order != 4:
            raise CumpropError("edgeworth belongs to kind tree and to order 4")
        if self.edges is not None and self.kind != "tree":
            raise CumpropError("edges belong to kind tree: take it, or leave edges out")
        if self.edges not in (None, *EDGES):
            raise CumpropError(f"edges {self.edges!r}: choose one of {', '.join(EDGES)}")

    @property
    def scheme(self) -> Scheme:
        """The closure of this order and kind."""
        edgeworth = self.kind == "tree" if self.edgeworth is None else self.edgeworth
        return Scheme(self.order, self.kind, self.truncation, edgeworth, self.edges)

    def supports(self, network: MLP) -> str | None:
        if self.metric == "average" and network.init_scale is None:
            return "metric average needs the design variances: give MLP(init_scale=...)"
        free = recently_free_memory()
        if max(network.widths) ** self.order * MANY_BYTES < free:
            return None
        needed = self.predict_cost(network.shape).bytes
        if needed < free:
            return None
        return (
            f"order {self.order} needs {needed / 1e9:.1f} GB here, {free / 1e9:.1f} GB are free: "
            "take a lower order, kind basic, or monte_carlo"
        )

    def estimate(
        self,
        network: MLP,
        *,
        cov: bool = False,
        rng: np.random.Generator | None = None,
        third: bool = False,
    ) -> Estimate:
        """The moments of the outputs; with `third`, also third cumulants, from order 3 on.

        Raises CumpropError for the covariance of a closure that has none. Cost: third cumulants
        take as much as one more layer.
        """
        if cov and self.scheme.unit_variance:
            raise CumpropError(
                f"order 1, kind {self.kind} tracks no covariance: take kind basic or order 2"
            )
        with counting() as flops, _arithmetic(network):
            [(found, notes)] = self._noted(network, cov, third)
        estimate = self._judged(found, notes, cov, flops)
        return replace(estimate, third=_third(network, found)) if third else estimate

    def estimate_batch(self, network: MLP, means: Array, *, cov: bool = False) -> list[Estimate]:
        at_once = max(1, AT_ONCE // max(network.widths[1:]) ** 2)
        if not self._side_by_side or at_once == 1:
            return super().estimate_batch(network, means, cov=cov)
        estimates = []
        for start in range(0, len(means), at_once):
            batch = means[start : start + at_once]
            with counting() as flops, _arithmetic(network):
                each = self._noted(network, cov, means=batch)
            shares = shared(flops, len(batch))
            estimates += [
                self._judged(found, notes, cov, share)
                for (found, notes), share in zip(each, shares, strict=True)
            ]
        return estimates

    def _judged(self, found: Propagated, notes: list[str], cov: bool, flops: Flops) -> Estimate:
        """The estimate with its expected errors; `notes` are reasons to doubt its numbers."""
        mean = plain(found.mean)
        estimate = partial(
            Estimate,
            mean=mean,
            layer_means=tuple(map(plain, found.layer_means)),
            cov=plain(found.cov),
            flops=flops,
            layer_variances=found.layer_variances,
        )
        if self.kind == "ablated":
            return estimate(status=ABLATED)
        if found.signs is None:
            return estimate(status="; ".join(notes) or WHILE_TRAINING)
        law = "order 3 tree" if self.kind == "tree" else f"order {min(self.order, 4)}"
        judged = partial(trust, law, found.signs[0], mean, cov, lost=bool(found.negative))
        trusted = judged(notes=notes)
        if found.precision > max(TOLERANCE, trusted.expected_error or 0.0):
            imprecise = f"Wick coefficients are good to {found.precision:.0e} of their scale"
            trusted = judged(notes=[*notes, imprecise])
        return estimate(**vars(trusted))

    def _noted(
        self, network: MLP, cov: bool, third: bool = False, means: Array | None = None
    ) -> list[tuple[Propagated, list[str]]]:
        """The propagation of each input, on plain arrays where FLOPs are known, and its doubts."""

        def run() -> list[tuple[Propagated, list[str]]]:
            if means is None:
                each = [self._propagate(network, cov, third)]
            else:
                found = SIDE_BY_SIDE[self.order](
                    network, self.scheme, self.metric, cov, False, means
                )
                each = [found.of_node(b) for b in range(len(means))]
            return [(found, _notes(found)) for found in each]

        if any(is_foreign(w) or not has_numbers(w) for w in network.weights):
            return run()
        biased = tuple(b is not None for b in network.biases)
        designed = network.init_scale is not None
        batch = None if means is None else len(means)
        key = (self, cov, third, batch, network.shape, network.activations, biased, designed)
        return by_shape(key, run)

    def _propagate(self, network: MLP, cov: bool, third: bool) -> Propagated:
        if self.kind == "tree":
            return tree.run(network, self.scheme, cov, third)
        if self.algorithm == "dense" or "structured" not in self._algorithms:
            return dense.run(network, self.scheme, self.metric, cov, third)
        return STRUCTURED[self.order, self.kind](network, self.scheme, self.metric, cov, third)

    @property
    def _side_by_side(self) -> bool:
        """Whether a batch of inputs is computed with a leading axis."""
        fast = self.algorithm != "dense" and "structured" in self._algorithms
        exact = self.metric == "exact" or self.order < 3
        return fast and exact and self.kind == "basic" and self.order in SIDE_BY_SIDE

    @property
    def _algorithms(self) -> tuple[str, ...]:
        """The algorithms that exist for this order and kind."""
        if self.kind == "tree":
            return ("structured",)
        fast = self.truncation == "corrected" and (self.order, self.kind) in STRUCTURED
        return ("dense", "structured") if fast else ("dense",)

    @cache  # noqa: B019  (instances are few, small and equal by value)
    def predict_cost(self, shape: Shape) -> Cost:
        """The cost of a run on arrays without numbers; quadrature is taken as converged."""
        with arena() as memory:
            flops = self.estimate(shape_only_network(shape)).flops.total
        return Cost(flops, memory.peak, memory.work(flops))

    @classmethod
    def from_tolerance(cls, tolerance: float, shape: Shape, **parameters: Any) -> Self:
        """The instance with the smallest order K with n^-K ≤ ε², at most 4 (mathematics §5)."""
        order = next(
            (
                k
                for k in range(1, HIGHEST_ORDER_FROM_TOLERANCE)
                if -k * log(shape.width) <= 2 * log(tolerance)
            ),
            HIGHEST_ORDER_FROM_TOLERANCE,
        )
        return cls(order=order, **parameters)


@contextmanager
def _arithmetic(network: MLP) -> Iterator[None]:
    """Threads that pay at this width; `trust` sees numbers that are not finite."""
    with threads.of_width(max(network.widths)), np.errstate(over="ignore", invalid="ignore"):
        yield


def _third(network: MLP, found: Propagated) -> ThirdCumulants | None:
    third = ThirdCumulants.none(found.mean) if network.depth == 0 else found.third
    return None if third is None else ThirdCumulants(*map(plain, vars(third).values()))


def _notes(found: Propagated) -> list[str]:
    """Reasons to doubt the numbers of an algorithm."""
    notes = []
    if found.negative:
        notes.append(f"the variances of {found.negative} neurons came out negative: taken as 0")
    below = 0 if found.cov is None else int((found.cov.diagonal() < 0).sum())
    if below:
        notes.append(f"the variances of {below} outputs came out negative")
    return notes
