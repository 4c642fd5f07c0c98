"""Expected outputs of MLPs under Gaussian input, from the weights.

>>> import cumprop
>>> network = cumprop.random_mlp(width=64, depth=4, seed=0)
>>> cumprop.estimate(network, "cumulant", order=2).mean.shape
(64,)
"""

from cumprop.errors import ConfigError, CumpropError
from cumprop.estimator import Cost, Estimate, Estimator, Shape, available, estimate, register
from cumprop.flops import Flops
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
    "random_mlp",
    "register",
]
