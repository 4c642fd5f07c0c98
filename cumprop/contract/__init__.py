"""The contract of a backend: its methods, how it is found, checked and printed."""

from cumprop.contract.any_input import independent_samples, mixed
from cumprop.contract.checks import check_estimator
from cumprop.contract.cost import Cost, shape_only_network
from cumprop.contract.estimation import estimate, estimate_batch, instance
from cumprop.contract.estimator import Estimate, Estimator, label
from cumprop.contract.plugins import load_plugin
from cumprop.contract.registry import available, build, build_for, get, register, unavailable
from cumprop.contract.third import ThirdCumulants
from cumprop.contract.trust import Signs, looks_random, trust

__all__ = [
    "Cost",
    "Estimate",
    "Estimator",
    "Signs",
    "ThirdCumulants",
    "available",
    "build",
    "build_for",
    "check_estimator",
    "estimate",
    "estimate_batch",
    "get",
    "independent_samples",
    "instance",
    "label",
    "load_plugin",
    "looks_random",
    "mixed",
    "register",
    "shape_only_network",
    "trust",
    "unavailable",
]
