"""Expected outputs of neural networks under random input, from the weights.

>>> import cumprop
>>> network = cumprop.random_mlp(width=64, depth=4, seed=0)
>>> cumprop.estimate(network, "cumulant", order=2).mean.shape
(64,)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cumprop.contract import (
        Cost,
        Estimate,
        Estimator,
        available,
        estimate,
        estimate_batch,
        register,
    )
    from cumprop.errors import ConfigError, CumpropError
    from cumprop.flops import Flops
    from cumprop.functionals import Decision, Expectation, class_probabilities, expected
    from cumprop.functionals.rare import Probability, Quantile, probability, quantile
    from cumprop.networks import MLP, Shape, random_mlp
    from cumprop.networks.importers import load

__all__ = [
    "MLP",
    "ConfigError",
    "Cost",
    "CumpropError",
    "Decision",
    "Estimate",
    "Estimator",
    "Expectation",
    "Flops",
    "Probability",
    "Quantile",
    "Shape",
    "available",
    "class_probabilities",
    "estimate",
    "estimate_batch",
    "expected",
    "load",
    "probability",
    "quantile",
    "random_mlp",
    "register",
]

_HOME = {
    "contract": (
        "Cost",
        "Estimate",
        "Estimator",
        "available",
        "estimate",
        "estimate_batch",
        "register",
    ),
    "errors": ("ConfigError", "CumpropError"),
    "flops": ("Flops",),
    "functionals": ("Decision", "Expectation", "class_probabilities", "expected"),
    "functionals.rare": ("Probability", "Quantile", "probability", "quantile"),
    "networks": ("MLP", "Shape", "random_mlp"),
    "networks.importers": ("load",),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `cumprop --help` is instant."""
    if name == "__version__":
        from importlib.metadata import version

        return version("cumprop")
    for module, names in _HOME.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(f"cumprop.{module}"), name)
            return value
    if name in ("activations", "inputs"):
        return importlib.import_module(f"cumprop.{name}")
    raise AttributeError(f"module 'cumprop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
