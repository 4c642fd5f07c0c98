"""Activations by name, such as relu, leaky_relu(0.2) and clip(-1.0:2.0)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

from cumprop.activations.activation import Activation
from cumprop.activations.per_neuron import per_neuron
from cumprop.activations.piecewise import (
    CELU,
    ELU,
    SELU,
    Abs,
    Clip,
    HardSigmoid,
    HardSwish,
    Heaviside,
    LeakyReLU,
    ReLU,
    Sign,
    ThresholdedReLU,
)
from cumprop.activations.smooth import (
    GELU,
    Cos,
    Erf,
    Exp,
    GELUTanh,
    Mish,
    Monomial,
    Sigmoid,
    SiLU,
    Sin,
    Softplus,
    Softsign,
    Tanh,
)
from cumprop.errors import CumpropError

_FAMILIES: dict[str, Callable[..., Activation]] = {
    "celu": CELU,
    "clip": Clip,
    "elu": ELU,
    "hard_sigmoid": HardSigmoid,
    "leaky_relu": LeakyReLU,
    "power": Monomial,
    "selu": SELU,
    "silu": SiLU,
    "swish": SiLU,
    "thresholded_relu": ThresholdedReLU,
}
"""Activations with parameters, which their names list in parentheses, separated by colons."""
_ALL: list[Activation] = [
    *(Abs(), CELU(), Cos(), ELU(), Erf(), Exp(), GELU(), GELUTanh(), HardSigmoid(), HardSwish()),
    *(Clip(-1.0, 1.0), Heaviside(), LeakyReLU(), Mish(), ReLU(), Clip(0.0, 6.0), SELU(), Sigmoid()),
    *(Sign(), SiLU(), Sin(), Softplus(), Softsign(), Tanh(), ThresholdedReLU()),
    *(Monomial(degree) for degree in (1, 2, 3)),
]
_KNOWN = {activation.name: activation for activation in _ALL}
_KNOWN["swish"] = _KNOWN["silu"]


def available() -> list[str]:
    """Names of the activations that need no parameters.

    >>> available()[:3]
    ['abs', 'celu', 'cos']
    """
    return sorted(activation.name for activation in _ALL)


def get(activation: str | Activation) -> Activation:
    """The activation of that name; an Activation is returned as it is.

    Raises CumpropError for an unknown name, and for parameters that are too many, too few or out
    of range.

    >>> get("gelu"), get("leaky_relu(0.2)").slope, get("clip(0:inf)"), get("swish")
    (gelu, 0.2, clip(0.0:inf), silu)
    """
    if isinstance(activation, Activation):
        return activation
    name = str(activation)
    if name in _KNOWN:
        return _KNOWN[name]
    if (mixed := per_neuron(name, get)) is not None:
        return mixed
    family, _, values = name.removesuffix(")").partition("(")
    if family in _FAMILIES and name.endswith(")"):
        with suppress(ValueError):
            parameters = [float(value) for value in values.split(":")]
            if len(parameters) == len(_parameters(family)):
                return _member(_FAMILIES[family], *parameters)
    forms = ", ".join(f"{family}({':'.join(_parameters(family))})" for family in _FAMILIES)
    raise CumpropError(
        f"unknown activation {activation!r}; the known ones are {', '.join(available())}; "
        f"{forms}; per neuron as in relu[64]+identity[10]; "
        "others are cumprop.activations.Custom(function)"
    )


@lru_cache
def _member(family: Callable[..., Activation], *parameters: float) -> Activation:
    """One object per function, so that layers side by side find that theirs is the same."""
    activation = family(*parameters)
    return _KNOWN.get(activation.name, activation)


def _parameters(family: str) -> list[str]:
    """The names of the parameters, as errors list them."""
    return list(inspect.signature(_FAMILIES[family]).parameters)


def stand_in(name: str) -> Activation:
    """The activation of that name for predicting costs; tanh for names that are not known.

    Functions without a known name are taken to need quadrature.

    >>> stand_in("relu"), stand_in("mine"), stand_in("relu[2]+mine[3]")
    (relu, tanh, relu[2]+tanh[3])
    """

    def known(name: str) -> Activation:
        with suppress(CumpropError):
            return get(name)
        return get("tanh")

    return per_neuron(name, known) or known(name)
