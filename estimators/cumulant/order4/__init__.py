"""Order 4, kind basic, at n⁴: κ_4 as a sum over its sources, the layers that add to it (§4.2).

κ_3 is a dense tensor here, and with r running over the neurons of one source

    κ_4 = Sym Σ_sources Σ_r P_r ⊗ [U_r ⊗ B1_r + P_r ⊗ B2_r],

with a symmetric matrix B1_r and B2_r for every r. Only the slice T_ijk = κ_4[i,i,j,k] is ever
formed; at all indices, so that it holds the slices (4), (3,1) and (2,2) too. Everything n³ is done
one n×n slab at a time. The numbers are those of the dense algorithm. Cost: 16 n⁴ FLOPs per source
and layer, about 75 n⁴ at L=4; memory: two n³ arrays per source and some four more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract import ThirdCumulants
from cumprop.flops import alike, component
from cumprop.networks import MLP

from ..dense import PowerCumulants, Sliced, slice_of_x
from ..kinds import Scheme
from ..propagation import KnownSlices, Propagated, metric_scales, propagate
from ..standardised import Coefficients, Standardised, Wanted
from ..symmetric_tensors import diagonal, transform_legs
from .slabs import Trees, Triples, distinct, with_coincidences
from .sources import PreActivation, Source, diagonals, slice_211, transform_slabs

Array = NDArray[Any]


@dataclass(frozen=True)
class Tracked:
    """The tracked parts of X̂_l: mean, C (None for I), dense κ_3 (None for 0), sources of κ_4."""

    mean: Array
    C: Array | None
    K3: Array | None = None
    sources: tuple[Source, ...] = ()

    def third(self, weight: Array) -> ThirdCumulants | None:
        return (
            None if self.K3 is None else ThirdCumulants.of_tensor(transform_legs(self.K3, weight))
        )


def run(network: MLP, scheme: Scheme, metric: str, cov: bool, third: bool) -> Propagated:
    """Propagate κ_1, κ_2, κ_3 and the sources of κ_4; no `metric`: nothing radial is tracked."""
    scales = metric_scales(network, scheme.order, "exact")
    return propagate(network, Tracked, partial(_step, scheme=scheme), scales, cov, third)


def _step(x: Tracked, z: Standardised, w: Coefficients, wanted: Wanted, scheme: Scheme) -> Tracked:
    if wanted == "mean":
        return _last_step(x, z, w, scheme)
    with component("linear"):
        known = linear(x, z)
    with component("nonlinear"):
        return nonlinear(known, w, wanted, scheme)


def _last_step(x: Tracked, z: Standardised, w: Coefficients, scheme: Scheme) -> Tracked:
    """The mean E[φ(Z)], from single-neuron cumulants alone."""
    with component("linear"):
        slices: dict[int, Sliced] = {2: KnownSlices({(2,): np.ones_like(z.mean)})}
        if x.K3 is not None:
            third = (z.weight * diagonals(x.K3, z.weight)).sum(axis=1)
            slices[3] = KnownSlices({(3,): third})
        if x.sources:
            fourth = (source.diagonal_after(z.weight) for source in x.sources)
            slices[4] = KnownSlices({(4,): reduce(add, fourth)})
    with component("nonlinear"):
        return Tracked(PowerCumulants(slices, w, scheme)[(1,)], None)


def linear(x: Tracked, z: Standardised) -> PreActivation:
    """The linear map: W on every leg, and the slice T of κ_4."""
    weight = z.weight
    sources = tuple(source.transform(weight) for source in x.sources)
    T = slice_211(sources) if sources else None
    K3 = None
    if x.K3 is not None:
        n, m = weight.shape
        first_leg = weight @ x.K3.reshape(m, m * m)
        K3 = transform_slabs(first_leg.reshape(n, m, m), weight)
    return PreActivation(z.C, K3, T, sources)


def nonlinear(z: PreActivation, w: Coefficients, wanted: Wanted, scheme: Scheme) -> Tracked:
    """Cumulants of φ(Z): exact slices (§3.1, §3.2), κ_3 in full and a new source for κ_4."""
    power = PowerCumulants(z.slices, w, scheme)
    mean = power[(1,)]
    C = slice_of_x(power, (1, 1))
    diagonal(C, (2,))[...] = slice_of_x(power, (2,))
    if wanted == "covariance":
        return Tracked(mean, C)
    k3, k21 = slice_of_x(power, (3,)), slice_of_x(power, (2, 1))
    k4, k31, k22 = (slice_of_x(power, u) for u in ((4,), (3, 1), (2, 2)))

    n = len(mean)
    B = np.empty_like(C, shape=(2, n, n, n))
    K3 = np.empty_like(C, shape=(n, n, n)) if z.K3 is None else z.K3  # slab i of Z ends at i
    triples, trees = Triples(z, w, mean, C), Trees(z, w)
    for i in alike(n):
        k_ijk = None if z.K3 is None else distinct(z.K3[i], i)
        third, fourth = triples.slabs(i, k_ijk)
        K3[i] = with_coincidences(third, i, k21[i], k21[:, i], k3[i])
        exact = with_coincidences(fourth, i, k31[i], k22[i], k4[i])
        B[0, i], B2_i = trees.slabs(i, exact, k_ijk)
        # B2_i is in κ_iijk by 1/6, in κ_iijj by 1/6 as B2_j is, in κ_iiik by 1/2, in κ_iiii whole
        own = B2_i[i] * (1 / 3), diagonal(B2_i, (2,)) * 0.5, B2_i[i, i] * (1 / 6)
        B[1, i] = with_coincidences(B2_i, i, *own)
    older = tuple(replace(source, w1=w(1, 1)) for source in z.sources)
    return Tracked(mean, C, K3, (*older, Source(None, trees.U, B)))
