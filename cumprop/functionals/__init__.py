"""Functionals of the outputs beside mean and covariance: quantiles, classes, extremes, losses."""

from cumprop.functionals.certificates import Certificate
from cumprop.functionals.classes import Decision, class_probabilities
from cumprop.functionals.expectations import Expectation, expected
from cumprop.functionals.quantiles import quantiles, standardised

__all__ = [
    "Certificate",
    "Decision",
    "Expectation",
    "class_probabilities",
    "expected",
    "quantiles",
    "standardised",
]
