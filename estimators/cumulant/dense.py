"""The dense engine: every tracked cumulant as a full tensor, any order, kind and activation.

This is the definition of the method (mathematics §3) in code; faster engines give the same numbers.
Cost: 2 d n^(d+1) FLOPs per layer for κ_d, d = order, and n^order numbers of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import Activation, WickTable
from cumprop.cumulants import (
    Metric,
    ScaledIdentity,
    Slices,
    TracePart,
    assemble,
    broadcast_product,
    lookup,
    radial_core,
    repeated_pairs,
    trace_slices,
    zero_coincidences,
)
from cumprop.diagrams import Block, Diagram, cumulant_diagrams, partitions, support
from cumprop.flops import component, counted
from cumprop.networks import MLP

from .engine import Propagated, metric_scales, wick_coefficients
from .kinds import Scheme

Array = NDArray[Any]
Cumulants = Mapping[int, TracePart]
"""What is known of a random vector: cumulant order -> its tracked part."""


class Sliced(Protocol):
    """A cumulant that gives the slices an expansion reads."""

    def slice(self, u: Block, /) -> Array: ...


@dataclass(frozen=True)
class Layer:
    """The cumulants before (`z`) and after (`x`, None for the output) one activation."""

    z: Cumulants
    x: Cumulants | None
    clamped: int = 0
    precision: float = 0.0


def run(network: MLP, scheme: Scheme, metric: str, cov: bool) -> Propagated:
    """Propagate, computing of the last hidden layer only what the output reads."""
    last = {d: r for d, r in scheme.tracked.items() if d <= 1 + cov}
    *hidden, output = propagate(network, scheme, metric, last)
    return Propagated(
        mean=output.z[1].core,
        layer_means=[layer.x[1].core for layer in hidden if layer.x],
        cov=_covariance(output.z[2]) if cov else None,
        clamped=sum(layer.clamped for layer in hidden),
        precision=max((layer.precision for layer in hidden), default=0.0),
    )


def _covariance(part: TracePart) -> Array:
    """Cov[Y] as tracked: a trace part (order 1) knows its diagonal only."""
    return np.diag(part.slice((2,))) if part.r else part.core


def propagate(
    network: MLP, scheme: Scheme, metric: str = "exact", last: Mapping[int, int] | None = None
) -> Iterator[Layer]:
    """Yield the cumulants of Z_l and X_l, l = 1..L, then those of the output Y.

    `last` says what is wanted of X_L (order -> r, as `Scheme.tracked`); None: all that is tracked.
    """
    x = _input_cumulants(network, scheme)
    scales = metric_scales(network, scheme.order, metric)
    for i, activation in enumerate(network.activations):
        z = linear(x, network.weights[i], network.biases[i], scales[i])
        wanted = scheme.tracked if last is None or i + 1 < network.depth else last
        layer = nonlinear(z, activation, scheme, wanted)
        assert layer.x is not None
        x = layer.x
        yield layer
    yield Layer(linear(x, network.weights[-1], network.biases[-1], scales[-1]), None)


def _input_cumulants(network: MLP, scheme: Scheme) -> Cumulants:
    """κ_1 = μ0 and κ_2 = Σ0, reduced to what the scheme tracks."""
    n = network.widths[0]
    dtype = np.dtype(network.dtype)
    identity = ScaledIdentity(1.0, n, dtype)
    mean = np.zeros(n, dtype) if network.input_mean is None else network.input_mean
    x = {1: TracePart(counted(mean))}
    if scheme.unit_variance:
        return x
    if network.input_cov is None:
        x[2] = TracePart(counted(np.ones((), dtype)), 1, identity)
    elif scheme.tracked[2] == 0:
        x[2] = TracePart(counted(network.input_cov))
    else:
        trace = counted(network.input_cov).diagonal().sum()
        x[2] = TracePart(radial_core(trace, 2, 1, n), 1, identity)
    return x


def linear(x: Cumulants, weight: Array, bias: Array | None, scale: float | None) -> Cumulants:
    """Cumulants of W X + b; `scale` replaces the metric W Wᵀ of radial parts by scale · I."""
    with component("linear"):
        weight = counted(weight)
        exact = Metric(weight)
        metric = exact if scale is None else ScaledIdentity(scale, len(weight), weight.dtype)
        z = {d: part.transform(weight, metric) for d, part in x.items()}
        if bias is not None:
            z[1] = TracePart(z[1].core + bias)
        return z


def nonlinear(
    z: Cumulants, activation: Activation, scheme: Scheme, wanted: Mapping[int, int]
) -> Layer:
    """Cumulants of φ(Z): the power cumulants by diagrams, then the exact §3.2."""
    with component("nonlinear"):
        mean = z[1].core
        variance = np.ones_like(mean) if scheme.unit_variance else z[2].slice((2,))
        table, clamped = wick_coefficients(activation, mean, variance)
        power = PowerCumulants(mean, z, table, scheme)
        part = _ablated_part if scheme.kind == "ablated" else _part
        x = {d: part(power, d, r) for d, r in wanted.items()}
    return Layer(z, x, clamped, table.precision)


def _ablated_part(power: PowerCumulants, d: int, r: int) -> TracePart:
    """κ_d(X) taken from the expansion for distinct indices, at repeated ones too."""
    return TracePart(power.expansion((1,) * d))


def _part(power: PowerCumulants, d: int, r: int) -> TracePart:
    """The tracked part Sym(A ⊗ I^r) of κ_d(X), from its exact slices."""
    n = power.width
    slices = {u: slice_of_x(power, u) for u in partitions(d) if repeated_pairs(u) >= r}
    if r == 0:
        return TracePart(assemble(slices, d, n, like=power.mean) if d > 1 else slices[(1,)])
    e = d - 2 * r
    traced = trace_slices(slices, d, r)
    trace = assemble(traced, e, n, like=power.mean) if e else traced[()]
    return TracePart(radial_core(trace, d, r, n), r, ScaledIdentity(1.0, n, trace.dtype))


def slice_of_x(power: PowerCumulants, u: Block) -> Array:
    """Slice u of κ(X) from power cumulants (§3.2), zero at coinciding indices."""
    total: Any = 0
    for diagram in cumulant_diagrams(u):
        total = total + evaluate(diagram, lambda block: lookup(power, block))
    return zero_coincidences(np.copy(total, subok=True))


def evaluate(diagram: Diagram, slice_of: Callable[[Block], Array], *factors: Any) -> Array:
    """weight · Π_u slice_u · Π factors, as an array over the diagram's neurons."""
    blocks = [(support(u), slice_of(tuple(filter(None, u)))) for u in diagram.blocks]
    return broadcast_product([*blocks, *factors], diagram.neurons, float(diagram.weight))


class PowerCumulants(Slices):
    """κ^P_p of φ(Z) for partitions p, each computed once, on demand (§3.1)."""

    def __init__(
        self, mean: Array, z: Mapping[int, Sliced], table: WickTable, scheme: Scheme
    ) -> None:
        self.mean = mean
        self.width = len(self.mean)
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
            if all(sum(u) in self._z for u in diagram.blocks):
                wick = [((a,), self._table(k, p[a])) for a, k in enumerate(diagram.derivatives)]
                total = total + evaluate(diagram, self._slice_of_z, *wick)
        return total if np.ndim(total) else np.zeros_like(self.mean, shape=(self.width,) * len(p))

    def _slice_of_z(self, u: Block) -> Array:
        if u not in self._slices:
            self._slices[u] = self._z[sum(u)].slice(u)
        return self._slices[u]
