"""Wick coefficients by quadrature, for activations without a closed form (mathematics §2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from math import factorial, pi, sqrt
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations.gaussian_moments import HermiteTable, convenient_unit, power
from cumprop.activations.panels import NODES, Panels, panel_rule, resolving, unit_rule
from cumprop.errors import CumpropError
from cumprop.flops import occurs, on_host

Array = NDArray[Any]

TOLERANCE = 1e-10
"""The largest relative difference of two rules in a coefficient that is taken as exact."""
ACCIDENT = 30.0
"""The factor by which a neuron exceeds what is trusted whose layer is trusted no more.

Two rules agree about one step in some hundreds by accident, and both are wrong there."""
WIDE = 16.0  # of σ beyond which all nodes may miss what φ does next to 0
NEAR = (-8.0, 8.0)  # pre-activations beyond which most functions only grow or saturate
REACH = 12.0  # standard deviations; the normal density beyond is below 1e-31
PATH_NODES = 6  # of φ' between μ and μ + h
FLAT = 0.1  # of |φ(μ)|: φ that varies less is taken less φ(μ), or powers of it would cancel
LOSSY = 1e-4  # of |μ|: with smaller σ, differences of φ lose digits
NEGLIGIBLE = 1e-150  # beside the largest of the layer: squares of less underflow
BLOCK = 2**20  # neurons x nodes held at a time: 8 MiB
TOGETHER = 64  # steep neurons whose panels are found, and stand, side by side
KEPT = 2**15  # the most neurons x nodes at which φ is kept for the next coefficient: 256 KiB


class QuadratureTable(HermiteTable):
    """Coefficients a(k,p) of any φ by quadrature with 100 nodes, or as many as resolve φ.

    a(k,p) = E[((φ(μ + σx) - c)/s)^p He_k(x)], x ~ N(0, 1); `mean` and `sigma` are arrays (n,). The
    value of Gauss–Hermite nodes is kept where as many equidistant nodes on ±12 σ agree to 1e-10,
    or of two or four times as many where these do; with `breakpoints`, Gauss–Legendre nodes between
    the kinks, and twice as many. Neurons where none agree, because φ is steep beside their σ, have
    panels of 16 Gauss–Legendre nodes from then on, halved until φ is a polynomial on each to 1e-12
    (`panels.resolving`); so have neurons of σ > 16, of which all these nodes may miss what φ does
    next to 0: panels of their own cover |z| ≤ 8. Differences are relative to √(k! E[(φ - c)^2p]),
    the bound of Cauchy and Schwarz. The first value is kept up to a difference of `trust`, but not
    where a neuron of the layer exceeds this thirtyfold. `precision` is 0 while all (k,p) are right
    to 1e-10, then the worst difference, or unresolved part of φ, of a value that is kept.
    Arithmetic is float64, the result has the type of `mean`.

    Where φ varies little beside its size, c is φ(μ), and φ - c is a `difference`, which keeps its
    digits if the derivative is given; elsewhere c is 0. The `size` s is a unit in which the largest
    variation of a neuron is about 1. Raises CumpropError where φ overflows or is NaN. Cost: some
    800 FLOPs per neuron and (k,p) where 100 nodes suffice and φ at the nodes is kept; ten times
    as many for steps.

    >>> table = QuadratureTable(np.cos, np.array([0.0]), np.array([1.0]))
    >>> float(table(0, 1)[0].round(12)), round(float(np.exp(-0.5)), 12), table.precision
    (0.606530659713, 0.606530659713, 0.0)
    """

    tolerance = TOLERANCE

    def __init__(
        self,
        function: Callable[[Array], Array],
        mean: Array,
        sigma: Array,
        breakpoints: Sequence[float] = (),
        trust: float = TOLERANCE,
        derivative: Callable[[Array], Array] | None = None,
    ) -> None:
        super().__init__()
        self._trust = trust
        self._function, self._derivative = _in_float64(function), derivative
        self._shape, self._dtype = mean.shape, mean.dtype
        self._mean = mean.astype(np.float64).reshape(-1, 1)
        self._sigma = sigma.astype(np.float64).reshape(-1, 1)
        self._kinks = np.sort(np.asarray(breakpoints, dtype=np.float64))
        self._rules = (1, 2) if len(self._kinks) else (0, 1, 2, 4)
        self._squares: dict[int, Array] = {}
        self._kept: dict[int | Panels, tuple[Array, Array, Array]] = {}
        self._steep: list[tuple[Array, Panels]] = []
        self._steep_neurons = np.empty(0, dtype=int)
        self._centre_values()
        wide = self._sigma[:, 0] > WIDE
        if occurs(wide):
            self._resolve(np.flatnonzero(on_host(wide)), NEAR)

    def _centre_values(self) -> None:
        """Choose c and s from φ at μ and μ ± σ."""
        at_mean = self._function(self._mean)
        ends = (self._function(self._mean + h) for h in (self._sigma, -self._sigma))
        variation = np.maximum(*(np.abs(end - at_mean) for end in ends))
        centred = np.logical_or(
            variation < FLAT * np.abs(at_mean), self._sigma < LOSSY * np.abs(self._mean)
        )
        if occurs(centred):
            self._centred = centred[:, 0]
            self._centre = np.where(centred, at_mean, 0.0)
            self.centre = self._centre.reshape(self._shape).astype(self._dtype)
            steps = self._deviations(np.arange(len(centred)), self._sigma)
            variation = np.maximum(variation, np.abs(steps))
        self.size = convenient_unit(float(variation.max()))

    def _coefficient(self, k: int, p: int) -> Array:
        a = self._stable(k, p)
        if not np.isfinite(a).all():
            raise CumpropError(
                f"E[d^{k} φ^{p}] is not finite: the activation overflows or is NaN within "
                f"{REACH:g} standard deviations of a pre-activation; bound it"
            )
        found: Array = a.reshape(self._shape).astype(self._dtype)
        return found

    def _stable(self, k: int, p: int) -> Array:
        """The values E[φ^p He_k]: of few nodes where two rules agree, else of panels."""
        if p > 1:
            self(0, 1)  # finds the steep neurons: rules may agree in missing that φ² is 0 at a step
        scale = sqrt(factorial(k)) * self._scale(p)
        everyone = np.arange(len(self._mean))
        value = self._expectation(self._rules[0], everyone, k, p)
        change = np.zeros_like(value)
        unstable = everyone
        for rule in self._rules[1:]:
            refined = self._expectation(rule, unstable, k, p)
            change[unstable] = np.abs(refined - value[unstable]) / scale[unstable]
            change[self._steep_neurons] = 0
            first = unstable is everyone
            moved = ~(change[unstable] <= (self._trust if first else TOLERANCE))
            if first and occurs(moved):
                if float(np.max(change)) > ACCIDENT * self._trust:
                    moved = ~(change <= TOLERANCE)
                moved = on_host(moved)
            replaced = moved if first else slice(None)
            value[unstable[replaced]] = refined[replaced]
            unstable = unstable[moved]
            if not len(unstable):
                break
        self._resolve(unstable)
        for neurons, panels in self._steep:
            value[neurons] = self._expectation(panels, neurons, k, p)
            change[neurons] = panels.error
        worst = float(np.max(change, initial=0.0))
        if not worst <= TOLERANCE:
            self.precision = max(self.precision, worst)
        return value

    def _scale(self, p: int) -> Array:
        """The size √E[(φ - c)^2p], or where it is larger what c is known to, beside 1e-10."""
        if p not in self._squares:
            self._squares[p] = self._expectation(
                self._rules[0], np.arange(len(self._mean)), 0, 2 * p
            )
        scale = np.sqrt(self._squares[p])
        if self.centre is not None:  # φ - c is known to rounding of c alone
            known = 64 * np.finfo(np.float64).eps / TOLERANCE * p * np.abs(self._centre[:, 0])
            scale = scale + known * (1 / self.size) * self._squares[p] ** ((p - 1) / (2 * p))
        least: Array = np.maximum(scale, NEGLIGIBLE)
        return least

    def _resolve(self, steep: Array, cuts: tuple[float, ...] = ()) -> None:
        """Find the panels of more steep neurons, between kinks and cuts."""
        for start in range(0, len(steep), TOGETHER):
            neurons = steep[start : start + TOGETHER]

            def values(rows: Array, x: Array, neurons: Array = neurons) -> Array:
                h = self._sigma[neurons[rows]] * x
                y: Array = on_host(self._deviations(neurons[rows], h)) * (1 / self.size)
                return y

            edges = on_host(self._edges(self._mean[neurons], self._sigma[neurons], cuts))
            panels = resolving(values, edges, on_host(self._scale(1))[neurons])
            self._steep.append((neurons, panels))
        self._steep_neurons = np.concatenate([self._steep_neurons, steep])

    def _expectation(self, rule: int | Panels, neurons: Array, k: int, p: int) -> Array:
        """The expectations E[((φ - c)/s)^p He_k] of some neurons by a rule: see `_at_nodes`."""
        result = np.empty_like(self._mean, shape=len(neurons))
        if isinstance(rule, Panels):
            rows = len(neurons)
        else:
            rows = max(1, BLOCK // (NODES * max(rule, 1) * (len(self._kinks) + 1)))
        for start in range(0, len(neurons), rows):
            part = slice(start, start + rows)
            x, weights, y = self._at_nodes(rule, neurons[part])
            if isinstance(rule, Panels) or len(self._kinks):
                weights = weights * hermite(k, x)
            else:
                weights = smooth_rule(rule, k)[1]
            result[part] = np.vecdot(power(y, p), weights)
        return result

    def _at_nodes(self, rule: int | Panels, neurons: Array) -> tuple[Array, Array, Array]:
        """The nodes x of some neurons, their weights, and (φ - c)/s at the nodes.

        A rule is a number of equal panels to a piece, or the panels of a block of steep neurons.
        Few nodes of all these neurons are kept, because every coefficient asks for them.
        """
        whole = isinstance(rule, Panels) or len(neurons) == len(self._mean)
        if whole and rule in self._kept:
            return self._kept[rule]
        mean, sigma = self._mean[neurons], self._sigma[neurons]
        if isinstance(rule, Panels):
            x, weights = rule.nodes()
        elif len(self._kinks):
            x, weights = panel_rule(self._edges(mean, sigma), rule)
        else:
            x, weights = smooth_rule(rule, 0)
        y = self._deviations(neurons, sigma * x)
        y = y if self.size == 1 else y * (1 / self.size)
        if whole and len(self._mean) * y.shape[1] <= KEPT:
            self._kept[rule] = x, weights, y
        return x, weights, y

    def _deviations(self, neurons: Array, h: Array) -> Array:
        """The deviations φ(μ + h) - c of some neurons, (neurons, nodes)."""
        mean = self._mean[neurons]
        y = self._function(mean + h)
        if self.centre is not None and (some := self._centred[neurons]).any():
            y = np.copy(y, subok=True)  # a function may return what must not be changed
            y[some] = difference(self._function, self._derivative, self._kinks, mean[some], h[some])
        return y

    def _edges(self, mean: Array, sigma: Array, cuts: tuple[float, ...] = ()) -> Array:
        """The ends of the pieces between kinks, and between cuts, in standard deviations."""
        inner = np.sort([*self._kinks, *cuts])
        edges = np.empty_like(mean, shape=(len(mean), len(inner) + 2))
        edges[:, 0], edges[:, -1] = -REACH, REACH
        edges[:, 1:-1] = np.minimum(np.maximum((inner - mean) / sigma, -REACH), REACH)
        return edges


def difference(
    function: Callable[[Array], Array],
    derivative: Callable[[Array], Array] | None,
    kinks: Array,
    z: Array,
    h: Array,
) -> Array:
    """The change φ(z + h) - φ(z), entrywise, to almost all digits where h is small beside z.

    There it is h times the mean of φ' between z and z + h, provided that no kink lies between them
    and that the plain difference agrees within its rounding. Cost: 2 φ, 7 φ' and some 40 FLOPs per
    entry.

    >>> one, h = np.ones(1), np.array([1e-12])
    >>> float((difference(np.tanh, lambda z: 1 - np.tanh(z) ** 2, np.empty(0), one, h) / h)[0])
    0.41997434161...
    """
    at_z, there = (function(x).astype(h.dtype, copy=False) for x in (z, z + h))
    plain: Array = there - at_z
    if derivative is None:
        return plain
    t, dt = (nodes.tolist() for nodes in unit_rule(1, PATH_NODES))
    mean_slope = reduce(add, (w * derivative(z + s * h) for s, w in zip(t, dt, strict=True)))
    smooth = h * mean_slope
    eps = float(np.finfo(plain.dtype).eps)
    rounding = np.abs(at_z) + np.abs(z) * np.abs(derivative(z))
    small = eps**0.25
    lossy = np.logical_or(np.abs(plain) < small * np.abs(at_z), np.abs(h) < small * np.abs(z))
    usable = np.logical_and(lossy, np.abs(smooth - plain) <= 64 * eps * rounding)
    for kink in kinks:
        usable = np.logical_and(usable, (z > kink) == (z + h > kink))
    return np.where(usable, smooth, plain)


def _in_float64(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The function, whose values may be booleans, integers or float32."""

    def values(z: Array) -> Array:
        y: Array = function(z)
        return y if y.dtype == np.float64 else y.astype(np.float64)

    return values


def hermite(k: int, x: Array) -> Array:
    """The probabilists' Hermite polynomial He_k.

    >>> hermite(3, np.array([2.0])).tolist()                                  # x³ - 3x
    [2.0]
    """
    below, he = np.zeros_like(x), np.ones_like(x)
    for j in range(k):
        below, he = he, x * he - j * below
    return he


@lru_cache(maxsize=256)
def smooth_rule(panels: int, k: int) -> tuple[Array, Array]:
    """Nodes and weights · He_k, (1, nodes), without kinks; 0 panels stands for Gauss–Hermite.

    Equidistant nodes: for analytic functions against a normal density their error falls like
    exp(-2π d/h), h the spacing and d the distance of the nearest pole in standard deviations. A
    rule takes a step for one between nodes, and no two of these rules for one at the same place.
    """
    x: Array
    weights: Array
    if panels == 0:
        from scipy.special import roots_hermitenorm

        x, weights = roots_hermitenorm(NODES)
        weights = weights / sqrt(2 * pi)
    else:
        x, h = np.linspace(-REACH, REACH, NODES * panels + 1, retstep=True)
        weights = h * np.exp(-0.5 * (x * x)) / sqrt(2 * pi)
    return x[None], (weights * hermite(k, x))[None]
