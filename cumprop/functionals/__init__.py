"""Functionals of the outputs: quantiles, rare events, class probabilities, extremes, losses."""

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
