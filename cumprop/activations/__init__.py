"""Entrywise functions and their Gaussian expectations, the Wick coefficients."""

from cumprop.activations.activation import Activation
from cumprop.activations.custom import Custom
from cumprop.activations.gaussian_moments import (
    HermiteTable,
    convenient_unit,
    in_unit,
    power,
    unit_power,
)
from cumprop.activations.hermite_series import BLOCK, HermiteSeries
from cumprop.activations.names import available, get, stand_in
from cumprop.activations.panels import NODES
from cumprop.activations.per_neuron import PerNeuron, listed, side_by_side
from cumprop.activations.piecewise import Clip, HardSigmoid, Heaviside, LeakyReLU, Sign, Step
from cumprop.activations.quadrature import KEPT, TOLERANCE, QuadratureTable
from cumprop.activations.smooth import Monomial

__all__ = [
    "BLOCK",
    "KEPT",
    "NODES",
    "TOLERANCE",
    "Activation",
    "Clip",
    "Custom",
    "HardSigmoid",
    "Heaviside",
    "HermiteSeries",
    "HermiteTable",
    "LeakyReLU",
    "Monomial",
    "PerNeuron",
    "QuadratureTable",
    "Sign",
    "Step",
    "available",
    "convenient_unit",
    "get",
    "in_unit",
    "listed",
    "power",
    "side_by_side",
    "stand_in",
    "unit_power",
]
