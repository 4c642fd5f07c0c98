"""`cumulant`: propagate mean, covariance and higher cumulants through the layers."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from cumprop.errors import CumpropError
from cumprop.estimator import Cost, Estimate, Estimator, Shape, register
from cumprop.flops import counting, plain
from cumprop.phantoms import metering, phantom_network

from .dense import Layer, propagate
from .kinds import KINDS, TRUNCATIONS, Scheme

if TYPE_CHECKING:
    from cumprop.networks import MLP

METRICS = ("exact", "average")
HIGHEST_ORDER = 5
HIGHEST_ORDER_FROM_TOLERANCE = 4


@register("cumulant")
@dataclass(frozen=True)
class Cumulant(Estimator):
    """Cumulant propagation of order K (mathematics §3): error ~ n^-K at width n.

    `kind` is what is tracked beside κ_1..κ_K, `truncation` which diagrams are kept, `metric`
    whether radial parts use W Wᵀ or its design value (needs `MLP.init_scale`).
    Cost: Σ_d 2 d n^(d+1) FLOPs per layer and n^K numbers, d up to the order K.

    >>> import cumprop
    >>> network = cumprop.random_mlp(width=16, depth=2, seed=0)
    >>> cumprop.estimate(network, Cumulant(order=3)).mean.shape
    (16,)
    """

    version: ClassVar[int] = 1
    order: int = 3
    kind: str = "basic"
    metric: str = "exact"
    truncation: str = "corrected"

    def __post_init__(self) -> None:
        if not 1 <= self.order <= HIGHEST_ORDER:
            raise CumpropError(f"order {self.order}: choose 1 to {HIGHEST_ORDER}")
        for field, choices in (("kind", KINDS), ("metric", METRICS), ("truncation", TRUNCATIONS)):
            if getattr(self, field) not in choices:
                raise CumpropError(
                    f"{field} {getattr(self, field)!r}: choose one of {', '.join(choices)}"
                )

    @property
    def scheme(self) -> Scheme:
        return Scheme(self.order, self.kind, self.truncation)

    def supports(self, network: MLP) -> str | None:
        if self.metric == "average" and network.init_scale is None:
            return "metric average needs the design variances: give MLP(init_scale=...)"
        return None

    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        tracked = self.scheme.tracked
        if cov and 2 not in tracked:
            raise CumpropError(
                f"order 1, kind {self.kind} tracks no covariance: take kind basic or order 2"
            )
        last = {d: r for d, r in tracked.items() if d <= 1 + cov}
        with counting() as flops:
            *hidden, output = propagate(network, self.scheme, self.metric, last)
            covariance = self._covariance(output) if cov else None
        return Estimate(
            mean=plain(output.z[1].core),
            layer_means=tuple(plain(layer.x[1].core) for layer in hidden if layer.x),
            cov=covariance,
            flops=flops,
            status=_status(hidden),
        )

    def _covariance(self, output: Layer) -> Any:
        """Cov[Y] as tracked: order 1 knows its diagonal only."""
        if self.order == 1:
            return np.diag(plain(output.z[2].slice((2,))))
        return plain(output.z[2].slice((1, 1)))

    def predict_cost(self, shape: Shape) -> Cost:
        """By running the engine on arrays without numbers; quadrature is taken as converged."""
        with metering() as memory:
            flops = self.estimate(phantom_network(shape)).flops.total
        return Cost(flops, memory.peak)

    @classmethod
    def from_tolerance(cls, tolerance: float, shape: Shape, **parameters: Any) -> Self:
        """The smallest order K with n^-K ≤ ε², at most 4 (mathematics §5)."""
        order = next(
            (
                k
                for k in range(1, HIGHEST_ORDER_FROM_TOLERANCE)
                if -k * log(shape.width) <= 2 * log(tolerance)
            ),
            HIGHEST_ORDER_FROM_TOLERANCE,
        )
        return cls(order=order, **parameters)


def _status(layers: list[Layer]) -> str:
    notes = []
    if clamped := sum(layer.clamped for layer in layers):
        notes.append(f"variance of {clamped} neurons clamped at 1e-10")
    if (precision := max((layer.precision for layer in layers), default=0.0)) > 0:
        notes.append(f"Wick coefficients reached a relative precision of {precision:.0e} only")
    return "; ".join(notes) or "ok"
