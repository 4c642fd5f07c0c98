"""Expected outputs of MLPs under Gaussian input, from the weights.

>>> import cumprop
>>> network = cumprop.random_mlp(width=64, depth=4, seed=0)
>>> cumprop.estimate(network, "cumulant", order=2).mean.shape
(64,)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cumprop.errors import ConfigError, CumpropError
    from cumprop.estimator import Cost, Estimate, Estimator, Shape, available, estimate, register
    from cumprop.flops import Flops
    from cumprop.importers import load
    from cumprop.networks import MLP
    from cumprop.random_networks import random_mlp

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "ConfigError",
    "Cost",
    "CumpropError",
    "Estimate",
    "Estimator",
    "Flops",
    "Shape",
    "available",
    "estimate",
    "load",
    "random_mlp",
    "register",
]

_HOME = {
    "errors": ("ConfigError", "CumpropError"),
    "estimator": ("Cost", "Estimate", "Estimator", "Shape", "available", "estimate", "register"),
    "flops": ("Flops",),
    "importers": ("load",),
    "networks": ("MLP",),
    "random_networks": ("random_mlp",),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `cumprop --help` is instant."""
    for module, names in _HOME.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(f"cumprop.{module}"), name)
            return value
    raise AttributeError(f"module 'cumprop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
