"""scikit-learn: fitted MLPRegressor and MLPClassifier, alone or behind linear steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from cumprop.errors import CumpropError
from cumprop.memory import check_memory
from cumprop.networks.importers.parts import Array, Parts, library

NAMES = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
STEPS = "StandardScaler, MinMaxScaler, MaxAbsScaler, PCA, passthrough and pipelines of them"


def from_estimator(estimator: Any) -> Parts:
    """The network from raw inputs to raw outputs; the outputs of a classifier are its logits.

    The steps of a Pipeline before the network are folded into the first map, and the scaler of a
    TransformedTargetRegressor into the last.
    """
    if isinstance(estimator, library("sklearn.pipeline").Pipeline):
        *steps, (_, last) = estimator.steps
        parts = from_estimator(last)
        for name, step in reversed(steps):
            _put_before(parts, name, step)
        return parts
    if isinstance(estimator, library("sklearn.compose").TransformedTargetRegressor):
        _check_fitted(estimator, "it", "transformer_")
        parts = from_estimator(estimator.regressor_)
        _put_behind(parts, estimator.transformer_)
        return parts
    network = library("sklearn.neural_network")
    if not isinstance(estimator, network.MLPRegressor | network.MLPClassifier):
        raise CumpropError(
            "only MLPRegressor and MLPClassifier can be read, alone, as the last step of a "
            "Pipeline or as the regressor of a TransformedTargetRegressor"
        )
    _check_fitted(estimator, "it", "coefs_")
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


def _put_before(parts: Parts, name: str, step: Any) -> None:
    """Fold x → A x + b into the first map: W (A x + b) + c = (W A) x + (c + W b)."""
    if isinstance(step, library("sklearn.pipeline").Pipeline):
        for inner, transformer in reversed(step.steps):
            _put_before(parts, f"{name}.{inner}", transformer)
        return
    if getattr(step, "clip", False):
        raise CumpropError(f"step {name!r} clips, which is not linear; fit it with clip=False")
    found = _affine(f"step {name!r}", step)
    if found is not None:
        a, b = found
        w, c = parts.weights[0], parts.biases[0]
        check_memory(8 * len(w) * a.shape[-1])
        parts.weights = [w * a if a.ndim == 1 else w @ a, *parts.weights[1:]]
        parts.biases = [c + w @ b, *parts.biases[1:]]


def _put_behind(parts: Parts, transformer: Any) -> None:
    """Fold the inverse of y → a y + b into the last map: y = (W x + c - b) / a."""
    found = _affine("the transformer of the target", transformer)
    if found is not None:
        a, b = found
        if a.ndim != 1:
            raise CumpropError("the transformer of the target must be a scaler to be read, not PCA")
        w, c = parts.weights[-1], parts.biases[-1]
        parts.weights = [*parts.weights[:-1], w / a[:, None]]
        parts.biases = [*parts.biases[:-1], (c - b) / a]


def _affine(name: str, step: Any) -> tuple[Array, Array] | None:
    """A and b of x → A x + b, with A as a matrix (k, n) or as its diagonal (n,).

    None stands for the identity.
    """
    scalers, pca = library("sklearn.preprocessing"), library("sklearn.decomposition").PCA
    if step is None or isinstance(step, str):  # "passthrough"
        return None
    if type(step) is scalers.FunctionTransformer and step.func is step.inverse_func is None:
        return None
    known = (scalers.StandardScaler, scalers.MinMaxScaler, scalers.MaxAbsScaler, pca)
    if type(step) not in known:
        raise CumpropError(f"{name} ({type(step).__name__}) cannot be read; only {STEPS} can")
    _check_fitted(step, name, "n_features_in_")
    zeros = np.zeros(step.n_features_in_)
    if type(step) is scalers.StandardScaler:
        a = 1 / step.scale_ if step.with_std else zeros + 1
        return a, -a * step.mean_ if step.with_mean else zeros
    if type(step) is scalers.MinMaxScaler:
        return step.scale_, step.min_
    if type(step) is scalers.MaxAbsScaler:
        return 1 / step.scale_, zeros
    a = step.components_
    if step.whiten:
        deviations = np.sqrt(step.explained_variance_)
        a = a / np.maximum(deviations, np.finfo(deviations.dtype).eps)[:, None]
    return a, -(a @ step.mean_)


def _check_fitted(estimator: Any, name: str, attribute: str) -> None:
    if not hasattr(estimator, attribute):
        raise CumpropError(f"{name} is not fitted; call its fit first")
