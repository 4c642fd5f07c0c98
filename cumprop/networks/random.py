"""Random networks: He, critical and manual initialisation (mathematics §1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

import numpy as np

from cumprop import activations as activation_functions
from cumprop import streams
from cumprop.activations import Activation, Custom
from cumprop.errors import CumpropError
from cumprop.networks.mlp import MLP
from cumprop.parameters import typed

DEFAULT_Q = 0.85
"""The default variance of the pre-activations at criticality: the paper's choice for tanh."""


@dataclass(frozen=True)
class Scales:
    """Weight variance · fan-in, bias variance and bias mean of every linear map."""

    w_var: tuple[float, ...]
    b_var: tuple[float, ...]
    b_mean: tuple[float, ...]


def random_mlp(
    width: int,
    depth: int,
    seed: int,
    activation: str | Activation = "relu",
    init: str | Mapping[str, Any] = "he",
    dtype: str = "float32",
) -> MLP:
    """A random network of `depth` hidden layers, all widths equal, input N(0, I).

    `init` is "he", "critical" or {"critical": {"q": 0.85}} (edge of chaos at pre-activation
    variance q), or {"w_var": …, "b_var": …, "b_mean": …}: weight variance · fan-in, bias variance
    and bias mean, each one number or depth + 1. Of two networks with one seed and width, the
    shallower is a prefix of the deeper one; float32 networks are float64 networks rounded. Raises
    CumpropError for sizes, names and scales that make no network.

    >>> random_mlp(width=8, depth=2, seed=0).init_scale
    (1.0, 2.0, 2.0)
    """
    width, depth, seed = (
        typed(value, int, name)
        for value, name in ((width, "width"), (depth, "depth"), (seed, "seed"))
    )
    if min(width, depth) < 1 or seed < 0:
        raise CumpropError(
            f"width {width}, depth {depth}, seed {seed}: width and depth start at 1, seeds at 0"
        )
    if dtype not in ("float32", "float64"):
        raise CumpropError(f"dtype {dtype!r}: choose float32 or float64")
    phi = activation_functions.get(activation)
    scales = _scales(phi, init, depth + 1)
    weights, biases = [], []
    for layer, (w_var, b_var, b_mean) in enumerate(
        zip(scales.w_var, scales.b_var, scales.b_mean, strict=True), start=1
    ):
        rng = streams.weights(seed, width, layer)
        weights.append((sqrt(w_var / width) * rng.standard_normal((width, width))).astype(dtype))
        bias = b_mean + sqrt(b_var) * rng.standard_normal(width)
        biases.append(bias.astype(dtype) if b_var or b_mean else None)
    return MLP(weights, biases, phi, init_scale=scales.w_var)


def he(activation: Activation, n_maps: int) -> Scales:
    """He initialisation: weights that give every pre-activation about unit variance.

    Weight variance · fan-in is c_1 = 1 and c_l = 1/E[φ(N(0,1))²] (mathematics §1). Raises
    CumpropError where E φ² = 0.

    >>> he(activation_functions.get("relu"), 3).w_var
    (1.0, 2.0, 2.0)
    """
    mean_square = float(activation.wick(0.0, 1.0, k=0, p=2))
    if mean_square == 0.0:
        raise CumpropError(f"{activation.name} vanishes: it has no He scale; give w_var")
    c = 1.0 / mean_square
    return Scales((1.0, *(c,) * (n_maps - 1)), (0.0,) * n_maps, (0.0,) * n_maps)


def critical(activation: Activation, n_maps: int, q: float = DEFAULT_Q) -> Scales:
    """The edge of chaos: q = σ_w² E[φ(√q g)²] + σ_b² and 1 = σ_w² E[φ'(√q g)²].

    The first map has weight variance q - σ_b², so that the variance is q from the start. Raises
    CumpropError where no σ_b² ≥ 0 solves this.

    >>> tanh = critical(activation_functions.get("tanh"), 2, q=0.85)
    >>> round(tanh.w_var[1], 3), round(tanh.b_var[1], 3)
    (2.025, 0.111)
    """
    (q,) = _per_map(q, "q", 1, minimum=np.finfo(float).tiny)
    slope = Custom(activation.derivative, breakpoints=activation.breakpoints)
    mean_square_slope = float(slope.wick(0.0, q, k=0, p=2))
    w_var = 1.0 / mean_square_slope if mean_square_slope else float("inf")
    b_var = q - w_var * float(activation.wick(0.0, q, k=0, p=2))
    if b_var < -1e-9 * q:
        raise CumpropError(
            f"{activation.name} has no critical initialisation at q = {q:g} "
            f"(bias variance {b_var:.3g} < 0); choose another q, or init: he"
        )
    b_var = b_var if b_var > 1e-9 * q else 0.0
    return Scales((q - b_var, *(w_var,) * (n_maps - 1)), (b_var,) * n_maps, (0.0,) * n_maps)


def manual(n_maps: int, w_var: Any, b_var: Any = 0.0, b_mean: Any = 0.0) -> Scales:
    """Weight variance · fan-in, bias variance and bias mean, each one number or one per map.

    >>> manual(2, w_var=[1.0, 2.0], b_var=0.1).b_var
    (0.1, 0.1)
    """
    return Scales(
        _per_map(w_var, "w_var", n_maps, minimum=0.0),
        _per_map(b_var, "b_var", n_maps, minimum=0.0),
        _per_map(b_mean, "b_mean", n_maps, minimum=-np.inf),
    )


def _per_map(value: Any, name: str, n_maps: int, minimum: float) -> tuple[float, ...]:
    values = list(value) if isinstance(value, Sequence | np.ndarray) else [value] * n_maps
    if isinstance(value, str) or len(values) != n_maps:
        raise CumpropError(f"{name} is {value!r}; give one number, or {n_maps}")
    for v in values:
        number = isinstance(v, int | float | np.number) and not isinstance(v, bool)
        if not number or not isfinite(v) or v < minimum:
            raise CumpropError(f"{name} contains {v!r}; give finite numbers ≥ {minimum:g}")
    return tuple(float(v) for v in values)


def _scales(activation: Activation, init: str | Mapping[str, Any], n_maps: int) -> Scales:
    if isinstance(init, str) and init in ("he", "critical"):
        return (he if init == "he" else critical)(activation, n_maps)
    if isinstance(init, Mapping):
        given = init.get("critical")
        if set(init) == {"critical"} and isinstance(given, Mapping) and set(given) <= {"q"}:
            return critical(activation, n_maps, **given)
        if "w_var" in init and set(init) <= {"w_var", "b_var", "b_mean"}:
            return manual(n_maps, **init)
    raise CumpropError(
        f"unknown init {init!r}; give he, critical, {{critical: {{q: 0.85}}}} or "
        "{w_var: …, b_var: …, b_mean: …}"
    )
