"""Three small networks, trained here and now by scikit-learn, with the Gaussian of their inputs.

Each function gives a `cumprop.MLP` whose input has the mean and the covariance of the training
data. The same numbers every time on one machine; nothing is downloaded.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

import cumprop

Array = NDArray[Any]

STEP, HORIZON, DISCOUNT, TORQUE = 0.05, 200, 0.98, 2.0
"""Of the pendulum: seconds a step, steps a run, discount of a step, and the largest torque."""


@functools.cache
def digits() -> cumprop.MLP:
    """64-64-64-10, ReLU: logits of a classifier of scikit-learn's 8×8 digits, pixels in [0, 1].

    Some pixels are the same in all images: the covariance has rank 61 of 64. Takes 4 seconds.
    """
    pixels, labels = load_digits(return_X_y=True)
    pixels = pixels / 16
    model = MLPClassifier(hidden_layer_sizes=(64, 64), max_iter=60)
    return _described(_fitted(model, pixels, labels), pixels)


@functools.cache
def control() -> cumprop.MLP:
    """2-64-64-1, tanh: what a pendulum will cost that starts at (angle, angular velocity).

    The target is computed by `pendulum_cost` at 4,000 normal states. Takes 6 seconds.
    """
    states = np.random.default_rng(0).normal(size=(4000, 2)) * [0.8, 1.5]
    model = MLPRegressor(
        hidden_layer_sizes=(64, 64), activation="tanh", learning_rate_init=3e-3, max_iter=60
    )
    return _described(_fitted(model, states, pendulum_cost(states)), states)


@functools.cache
def mnist_shape() -> cumprop.MLP:
    """784-256-256-10, ReLU: logits of a classifier of 28×28 images that are not MNIST.

    They are scikit-learn's 8×8 digits at 20×20, each at three places drawn within 2 pixels of the
    centre, as MNIST centres its own; the border never varies. Takes 9 seconds.
    """
    images, labels = load_digits(return_X_y=True)
    large = ndimage.zoom(images.reshape(-1, 8, 8) / 16, (1, 2.5, 2.5), order=1)
    rng = np.random.default_rng(0)
    placed = np.zeros((3 * len(large), 28, 28))
    for image, digit, (i, j) in zip(
        placed, np.tile(large, (3, 1, 1)), rng.integers(2, 7, (len(placed), 2)), strict=True
    ):
        image[i : i + 20, j : j + 20] = digit
    pixels = placed.reshape(-1, 784)
    model = MLPClassifier(hidden_layer_sizes=(256, 256), max_iter=6)
    return _described(_fitted(model, pixels, np.tile(labels, 3)), pixels)


NETWORKS = {"digits": digits, "control": control, "mnist_shape": mnist_shape}


def pendulum_cost(states: Array) -> Array:
    """Discounted cost of a pendulum from each state (angle from upright, velocity), shape (N,).

    A regulator pushes it upright, with torque that saturates; far out it lets go, and the cost
    bends. A step costs sin²(angle/2) + velocity²/100 + torque²/1000.
    """
    angle, velocity = states.T.copy()
    total = np.zeros(len(states))
    for step in range(HORIZON):
        torque = np.clip(-8 * np.sin(angle) - 2 * velocity, -TORQUE, TORQUE)
        cost = np.sin(angle / 2) ** 2 + velocity**2 / 100 + torque**2 / 1000
        total += DISCOUNT**step * cost
        velocity = velocity + STEP * (5 * np.sin(angle) + 3 * torque - 0.1 * velocity)
        angle = angle + STEP * velocity
    return total


def _fitted(model: Any, inputs: Array, targets: Array) -> Any:
    model.set_params(random_state=0)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # epochs are given
        return model.fit(inputs, targets)


def _described(model: Any, inputs: Array) -> cumprop.MLP:
    mean, cov = inputs.mean(axis=0), np.cov(inputs.T)
    return cumprop.load(model, input_mean=mean, input_cov=cov)
