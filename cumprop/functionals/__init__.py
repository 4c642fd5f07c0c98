"""Functionals of the outputs beside mean and covariance: quantiles, rare events."""

from cumprop.functionals.quantiles import quantiles, standardised

__all__ = ["quantiles", "standardised"]
