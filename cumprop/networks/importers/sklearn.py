"""scikit-learn: fitted MLPRegressor and MLPClassifier."""

from __future__ import annotations

from typing import Any

from cumprop.errors import CumpropError
from cumprop.networks.importers.parts import Parts, library

NAMES = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}


def from_estimator(estimator: Any) -> Parts:
    """The linear maps of an estimator; the outputs of a classifier are its logits."""
    network = library("sklearn.neural_network")
    if not isinstance(estimator, network.MLPRegressor | network.MLPClassifier):
        raise CumpropError(
            "only MLPRegressor and MLPClassifier can be read; of a pipeline give the last step, "
            "whose input is what the steps before it make"
        )
    if not hasattr(estimator, "coefs_"):
        raise CumpropError("it is not fitted; call its fit first")
    if estimator.out_activation_ not in ("identity", "logistic", "softmax"):
        raise CumpropError(
            f"its outputs end with {estimator.out_activation_}, which cannot be read; "
            "give its coefs_ and intercepts_ to cumprop.MLP"
        )
    if estimator.activation not in NAMES:
        raise CumpropError(f"activation {estimator.activation!r} cannot be read")
    weights = [coefs.T for coefs in estimator.coefs_]
    return Parts(
        weights, list(estimator.intercepts_), [NAMES[estimator.activation]] * (len(weights) - 1)
    )
