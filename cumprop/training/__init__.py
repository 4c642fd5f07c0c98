"""Gradient descent on losses that are sampled or read off the weights."""

from cumprop.training.advice import Advice
from cumprop.training.descent import State, Term, descend
from cumprop.training.losses import (
    CrossEntropy,
    Event,
    ExpectedMaximum,
    Imitation,
    Loss,
    Regression,
    TailExcess,
    TailProbability,
)
from cumprop.training.ways import (
    Adversarial,
    Conditional,
    ImportanceSampled,
    Mechanistic,
    Sampled,
    Way,
)

__all__ = [
    "Adversarial",
    "Advice",
    "Conditional",
    "CrossEntropy",
    "Event",
    "ExpectedMaximum",
    "Imitation",
    "ImportanceSampled",
    "Loss",
    "Mechanistic",
    "Regression",
    "Sampled",
    "State",
    "TailExcess",
    "TailProbability",
    "Term",
    "Way",
    "descend",
]
