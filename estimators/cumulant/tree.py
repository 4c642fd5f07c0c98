"""Order 3, kind tree, at n³: κ_3 and the trees of κ_4, as sums over births (docs/tree.md).

Every layer adds a birth: the legs of its κ_3, and of its κ_4 the bilinear form `Quartic`. Older
births only have their legs transported; what their κ_4 adds to κ_3 in an activation stays a form in
the legs too, `response`, transported the same way. Cost: 122 products of n×n at L=4, growing as L³;
with a window as L².
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.flops import component
from cumprop.networks import MLP

from .births import Birth, Read, Window, contraction, read_births
from .kinds import Scheme
from .legs import Legs
from .pairs import SlicesOfX
from .propagation import Propagated, metric_scales, propagate
from .quartic import Quartic, Reading
from .standardised import Coefficients, Standardised, Wanted
from .symmetric_tensors import (
    Slices,
    TracePart,
    diagonal,
    radial_core,
    zero_coincidences,
)

Array = NDArray[Any]


@dataclass(frozen=True)
class Tracked:
    """What is tracked of X̂_l: mean, C (None for I), births, and B of the core Sym(B ⊗ I) of κ_4."""

    mean: Array
    C: Array | None
    births: tuple[Birth, ...] = ()
    core: Array | None = None


@dataclass(frozen=True)
class PreActivation:
    """Ẑ_l: C and slices of pairs where wanted, births with their κ_4, the core."""

    C: Array | None
    births: tuple[Birth, ...]
    readings: tuple[Reading | None, ...]
    core: TracePart | None
    read: Read


def run(network: MLP, scheme: Scheme, metric: str, cov: bool, window: Window) -> Propagated:
    """Propagate κ_1, κ_2, the births of κ_3 and κ_4 and the core of old births' κ_4."""
    scales = metric_scales(network, scheme.order, metric)
    step = partial(_step, scheme=scheme, window=window)
    return propagate(network, Tracked, step, scales, cov)


def _step(
    x: Tracked,
    z: Standardised,
    w: Coefficients,
    wanted: Wanted,
    scheme: Scheme,
    window: Window,
) -> Tracked:
    with component("linear"):
        known = linear(x, z, window, wanted)
    with component("nonlinear"):
        return nonlinear(known, w, scheme, window, wanted)


def linear(x: Tracked, z: Standardised, window: Window, wanted: Wanted) -> PreActivation:
    """W on every leg, and all slices of κ_3 and κ_4; of pairs unless only the mean is wanted."""
    weight, pairs = z.weight, wanted != "mean"
    births = tuple(birth.transform(weight) for birth in x.births)
    core = None if x.core is None else TracePart(weight @ x.core @ weight.T, 1, z.metric)
    readings, read = read_births(births, core, window, pairs)
    return PreActivation(
        C=zero_coincidences(z.C) if pairs else None,
        births=births,
        readings=readings,
        core=core,
        read=read,
    )


def nonlinear(
    z: PreActivation, w: Coefficients, scheme: Scheme, window: Window, wanted: Wanted
) -> Tracked:
    """Cumulants of φ(Z): exact slices (§3.1, §3.2), a new birth, the core of what leaves κ_4."""
    known = dict(z.read.known())
    if z.C is None:
        return Tracked(SlicesOfX(known, w, scheme).mean, None)
    known[1, 1] = z.C
    x = SlicesOfX(known, w, scheme)
    mean, C = x.mean, x.C.copy()
    diagonal(C, (2,))[...] = x.own(2)
    if wanted == "covariance":
        return Tracked(mean, C)
    core = _core(z, w, window)
    born = _born(z, x, known, core, w)
    del x, known  # the expansion is large
    w1, w2 = w(1, 1), w(2, 1)
    older = (
        birth.activate(w1, w2, reading, window)
        for birth, reading in zip(z.births, z.readings, strict=True)
    )
    return Tracked(mean, C, (*older, born), core)


def _core(z: PreActivation, w: Coefficients, window: Window) -> Array | None:
    """B: the trace part of the κ_4 that leaves, and of the old core after diag(w1)."""
    w1 = w(1, 1)
    weights = w1 * w1
    traces = [
        reading.trace(weights, contraction(z.births, birth.older))
        for birth, reading in zip(z.births, z.readings, strict=True)
        if reading is not None and birth.age == window.fourth
    ]
    if z.core is not None:
        B, M = z.core.core, z.core.metric
        assert M is not None
        both = B @ (weights[:, None] * M.matrix)
        trace = B * (weights @ M.diagonal) + M.matrix * (weights @ diagonal(B, (2,)))
        traces.append((trace + 2 * (both + both.T)) * (1 / 6))
    if not traces:
        return None
    trace = reduce(add, traces) * (w1[:, None] * w1)
    return radial_core(zero_coincidences(trace), 4, 1, len(w1))


def _born(
    z: PreActivation, x: SlicesOfX, known: Slices, core: Array | None, w: Coefficients
) -> Birth:
    """The new birth: its diagonal parts are exact slices less those of all that is carried on.

    Rows are neurons i, columns j; i(v) stands for v_i.
    """
    w1, w2, w3 = w(1, 1), w(2, 1), w(3, 1)
    tau = w(1, 2) - 2 * x.mean * w1
    rho = w(2, 2) - 2 * x.mean * w2 - 2 * w1 * w1
    C = known[1, 1]
    read = z.read
    legs, staying, third, fourth, whole = (
        _completed(part, C)
        for part in (read.legs, read.fourth, read.third_carried, read.trees, known)
    )

    U = i(w1) * C
    V = ((C * C * 0.5 + whole[2, 2] * 0.25) * w3 + whole[2, 1] * (0.5 * w2)) * i(w2)
    V += whole[2, 1].T * (i(w1) * (0.5 * w3))
    Y = U * w2 + 2 * V
    d3 = x.own(3) - w1 * w1 * (w1 * third[3,] + 1.5 * w2 * fourth[4,])
    d21 = x.k21 - i(w1 * w1) * (third[2, 1] * w1 + fourth[2, 2] * (0.5 * w2)) - U * Y
    d21 -= i(w1 * w2) * (fourth[3, 1] * w1)
    D = 3 * d21.T
    diagonal(D, (2,))[...] = d3

    d4 = x.own(4) - w1 * w1 * (w1 * w1 * staying[4,] + 6 * tau * legs[3,])
    iij = i(w1 * w1) * legs[2, 1]
    ends = (C * i(0.5 * tau) + iij) * tau + U * U * rho
    d22 = x.k22 - i(w1 * w1) * (staying[2, 2] * (w1 * w1)) - (ends + ends.T)
    d31 = x.k31 - i(w1 * w1 * w1) * (staying[3, 1] * w1) - U * U * U * w3
    d31 -= 3 * ((C * i(tau) + iij) * (U * w2) + i(w1 * w1 * w2 * legs[3,]) * U.T)
    d31 -= i(3 * w1 * tau) * (legs[2, 1] * w1)
    if core is not None:
        d31 -= 0.5 * core
    quartic = Quartic(C, w2, w3, tau, rho, d4, zero_coincidences(d22), zero_coincidences(d31))
    return Birth(Legs(None, U, Y, D), quartic, tuple(birth.legs for birth in z.births))


def i(vector: Array) -> Array:
    """A vector over rows."""
    return vector[:, None]


def _completed(slices: Slices, C: Array) -> Slices:
    """Zeros for what is not known."""
    zero = np.zeros_like(C)
    unknown = {(3,): zero[0], (2, 1): zero, (4,): zero[0], (3, 1): zero, (2, 2): zero}
    return unknown | dict(slices)
