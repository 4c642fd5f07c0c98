"""Rare events: probabilities of events of the outputs with intervals (mathematics §9)."""

from cumprop.functionals.rare.bracket import Quantile, quantile
from cumprop.functionals.rare.estimator import probability
from cumprop.functionals.rare.event import Event
from cumprop.functionals.rare.result import Point, Probability, as_text

__all__ = ["Event", "Point", "Probability", "Quantile", "as_text", "probability", "quantile"]
