"""Questions to an output beside its mean and covariance: quantiles, order statistics."""

from cumprop.functionals.quantiles import quantiles, standardised

__all__ = ["quantiles", "standardised"]
