"""The dense algorithm: every tracked cumulant as a full tensor, any order, kind and activation.

This is the definition of the method (mathematics §3) in code; faster algorithms give the same
numbers.
Cost: 2 d n^(d+1) FLOPs per layer for κ_d, d = order, and n^order numbers of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import ThirdCumulants
from cumprop.flops import component, counted, records_gradients
from cumprop.networks import MLP

from .diagrams import Block, Diagram, cumulant_diagrams, partitions
from .evidence import Evidence
from .kinds import Scheme
from .propagation import Propagated, affine_maps, metric_scales
from .standardised import (
    AffineMap,
    Coefficients,
    Standardised,
    expected,
    standard_input,
    standardised,
    trusted_nodes,
    wick_coefficients,
)
from .symmetric_tensors import (
    DiagonalMetric,
    Slices,
    TracePart,
    assemble,
    broadcast_product,
    diagonal,
    lookup,
    radial_core,
    repeated_pairs,
    trace_slices,
    transform_legs,
    zero_coincidences,
)

Array = NDArray[Any]
Cumulants = Mapping[int, TracePart]
"""The tracked parts of the cumulants of a random vector, by order."""


class Sliced(Protocol):
    """A cumulant with the slices that an expansion reads."""

    def slice(self, u: Block, /) -> Array: ...


@dataclass(frozen=True)
class Layer:
    """The mean E[X] of one layer, and the cumulants of X̂, which is X in a `unit` without mean."""

    mean: Array
    x: Cumulants
    unit: float
    negative: Array | int = 0
    precision: float = 0.0

    @property
    def C(self) -> Array | None:
        """The covariance of X̂ where it is tracked in full."""
        second = self.x.get(2)
        return None if second is None or second.r else second.core


def run(network: MLP, scheme: Scheme, metric: str, cov: bool, third: bool) -> Propagated:
    """Propagate; of the last hidden layer, only the parts that the output reads are computed."""
    third = third and scheme.tracked.get(3) == 0
    last = {d: r for d, r in scheme.tracked.items() if d <= (3 if third else 1 + cov)}
    scales = metric_scales(network, scheme.order, metric)
    maps = affine_maps(network, scales)
    evidence = None
    if not records_gradients(network.weights):
        _, C, unit = standard_input(network)
        evidence = Evidence(maps, C, unit, scheme.order <= 2)
    first, *hidden = propagate(network, scheme, maps, last, evidence)
    final = hidden[-1] if hidden else first
    with component("linear"):
        affine = maps[-1]
        output = final.x[2].transform(affine.weight, affine.metric) if cov else None
        covariance = None if output is None else affine.in_units(_covariance(output), final.unit)
        mean = affine.mean(final.mean)
        found = None
        if third and network.depth:
            tensor = transform_legs(final.x[3].core, affine.scaled(final.unit))
            found = ThirdCumulants.of_tensor(tensor)
    signs = None if evidence is None else evidence.signs(mean, final.mean, final.unit)
    variances = None if evidence is None else tuple(evidence.variances)
    return Propagated(
        mean=mean,
        layer_means=[layer.mean for layer in hidden],
        layer_variances=variances,
        cov=covariance,
        negative=sum(layer.negative for layer in hidden),
        precision=max((layer.precision for layer in hidden), default=0.0),
        signs=signs,
        third=found,
    )


def _covariance(part: TracePart) -> Array:
    """A covariance as tracked: a trace part (order 1) knows its diagonal only."""
    return np.diag(part.slice((2,))) if part.r else part.core


def propagate(
    network: MLP,
    scheme: Scheme,
    maps: list[AffineMap],
    last: Mapping[int, int],
    evidence: Evidence | None,
) -> Iterator[Layer]:
    """Yield the cumulants of X_0, X_1, …, X_L.

    `last` names the wanted parts of X_L: cumulant order -> r, as `Scheme.tracked`.
    """
    layer, trust = _input_cumulants(network, scheme), trusted_nodes(network.depth)
    yield layer
    for i, (affine, activation) in enumerate(zip(maps, network.activations, strict=False)):
        wanted = scheme.tracked if i + 1 < network.depth else last
        with component("linear"):
            z, cumulants = linear(layer, affine, scheme)
        with component("nonlinear"):
            w = wick_coefficients(activation, z, layer.unit, trust)
            x = nonlinear(cumulants, w, scheme, wanted)
            mean = expected(x[1].core, w)
        following = Layer(mean, x, w.size, z.negative, w.precision)
        if evidence is not None:
            evidence.add(z, w, x[1].core, following.C, layer.C)
        layer = following
        yield layer


def _input_cumulants(network: MLP, scheme: Scheme) -> Layer:
    """The cumulants κ_1 = μ0 and κ_2 = Σ0, reduced to the parts that the scheme tracks."""
    mean, C, unit = standard_input(network)
    n = len(mean)
    x = {1: TracePart(np.zeros_like(mean))}
    if scheme.unit_variance:
        return Layer(mean, x, unit)
    if C is None:
        one = counted(np.ones((), mean.dtype))
        x[2] = TracePart(one, 1, DiagonalMetric.identity(n, mean.dtype))
    elif scheme.tracked[2] == 0:
        x[2] = TracePart(C)
    else:
        core = radial_core(C.diagonal().sum(), 2, 1, n)
        x[2] = TracePart(core, 1, DiagonalMetric.identity(n, mean.dtype))
    return Layer(mean, x, unit)


def linear(
    layer: Layer, affine: AffineMap, scheme: Scheme
) -> tuple[Standardised, dict[int, TracePart]]:
    """Z = W X + b, and the cumulants of Ẑ; a radial κ_2 enters only through the variance."""
    mean = affine.mean(layer.mean)
    if scheme.unit_variance:
        one = np.full_like(mean, 1 / layer.unit)
        z = Standardised(affine, mean, one if affine.rows is None else one / affine.rows)
    else:
        z = _standardised(layer.x[2], affine, mean, scheme.tracked[2] == 0)
    higher = {d: part for d, part in layer.x.items() if d > 2}
    cumulants = {d: part.transform(z.weight, z.metric) for d, part in higher.items()}
    if z.covariance is not None:
        cumulants[2] = TracePart(z.C)
    return z, cumulants


def _standardised(second: TracePart, affine: AffineMap, mean: Array, full: bool) -> Standardised:
    """Z, given κ_2 of X̂; `full` where that of Z is tracked in full."""
    if second.r and not full:
        variance = second.core * affine.metric.diagonal
        return standardised(affine, mean, variance, None, lambda: variance)
    W, C = affine.weight, None if second.r else second.core  # r: of X_0 ~ N(0, I)
    covariance = affine.covariance(affine.half(C))

    def terms() -> Array:
        return (W * W).sum(axis=1) if C is None else (W * W) @ diagonal(C, (2,))

    variance = diagonal(covariance, (2,)).copy()
    return standardised(affine, mean, variance, covariance, terms)


def nonlinear(
    z: Mapping[int, Sliced], w: Coefficients, scheme: Scheme, wanted: Mapping[int, int]
) -> dict[int, TracePart]:
    """Cumulants of X̂: the power cumulants by diagrams, then the exact §3.2."""
    power = PowerCumulants(z, w, scheme)
    part = _ablated_part if scheme.kind == "ablated" else _part
    return {d: part(power, d, r) for d, r in wanted.items()}


def _ablated_part(power: PowerCumulants, d: int, r: int) -> TracePart:
    """The part of κ_d(X) from the expansion for distinct indices, used at repeated ones too."""
    return TracePart(power.expansion((1,) * d))


def _part(power: PowerCumulants, d: int, r: int) -> TracePart:
    """The tracked part Sym(A ⊗ I^r) of κ_d(X), from its exact slices."""
    n = power.width
    slices = {u: slice_of_x(power, u) for u in partitions(d) if repeated_pairs(u) >= r}
    if r == 0:
        return TracePart(assemble(slices, d, n, like=power.like) if d > 1 else slices[(1,)])
    e = d - 2 * r
    traced = trace_slices(slices, d, r)
    trace = assemble(traced, e, n, like=power.like) if e else traced[()]
    return TracePart(radial_core(trace, d, r, n), r, DiagonalMetric.identity(n, trace.dtype))


def slice_of_x(power: PowerCumulants, u: Block) -> Array:
    """Slice u of κ(X) from power cumulants (§3.2), zero at coinciding indices."""
    total: Any = 0
    for diagram in cumulant_diagrams(u):
        total = total + evaluate(diagram, lambda block: lookup(power, block))
    return zero_coincidences(np.copy(total, subok=True))


def evaluate(diagram: Diagram, slice_of: Callable[[Block], Array], *factors: Any) -> Array:
    """weight · Π_u slice_u · Π factors, as an array over the diagram's neurons."""
    blocks = [(neurons, slice_of(u)) for neurons, u in diagram.slices]
    return broadcast_product([*blocks, *factors], diagram.neurons, diagram.factor)


class PowerCumulants(Slices):
    """κ^P_p of φ(Z) for partitions p, each computed once, on demand (§3.1)."""

    def __init__(
        self, z: Mapping[int, Sliced], table: Callable[[int, int], Array], scheme: Scheme
    ) -> None:
        self.like = table(0, 1)
        self.width = len(self.like)
        self._z, self._table, self._scheme = z, table, scheme
        self._known: dict[Block, Array] = {}
        self._slices: dict[Block, Array] = {}

    def __getitem__(self, p: Block) -> Array:
        if p not in self._known:
            self._known[p] = self.expansion(p)
        return self._known[p]

    def __iter__(self) -> Iterator[Block]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def expansion(self, p: Block) -> Array:
        """Σ_ν weight · Π slices of κ(Z) · Π_a w(k_a, p_a), evaluated at all indices."""
        total: Any = 0
        for diagram in self._scheme.diagrams(p):
            if diagram.orders <= self._z.keys():
                wick = [((a,), self._table(k, p[a])) for a, k in enumerate(diagram.derivatives)]
                total = total + evaluate(diagram, self._slice_of_z, *wick)
        return total if np.ndim(total) else np.zeros_like(self.like, shape=(self.width,) * len(p))

    def _slice_of_z(self, u: Block) -> Array:
        if u not in self._slices:
            self._slices[u] = self._z[sum(u)].slice(u)
        return self._slices[u]
