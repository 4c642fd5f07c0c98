"""The law of the input: Gaussian, uniform, any independent coordinates, mixtures, rows of data."""

from cumprop.inputs.covariances import is_diagonal
from cumprop.inputs.empirical import Empirical
from cumprop.inputs.gaussian import Gaussian
from cumprop.inputs.independent import Independent, Uniform
from cumprop.inputs.law import Law, sized_law
from cumprop.inputs.mixture import Mixture

__all__ = [
    "Empirical",
    "Gaussian",
    "Independent",
    "Law",
    "Mixture",
    "Uniform",
    "is_diagonal",
    "sized_law",
]
