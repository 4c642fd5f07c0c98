"""The networks that `docs/calibrate.py` fits the laws of expected errors to.

Kinds: random networks (`random_mlp`, some with biases, few outputs, or a wide range of depths), and
networks trained by Adam on: digits 8×8 with cross-entropy; tables (breast cancer, diabetes);
students of random ReLU teachers; ten Gaussian clusters, and images of 12 latent numbers, both with
one-hot squared error; sinusoids of few inputs; maxima of affine functions. None of these kinds is
among the networks of `tests/verify/test_trust.py`. Inputs: the Gaussian of the data, isotropic
noise of the same size at the mean, smaller noise around one data point, and of at most 100 inputs
also boxes (uniform coordinates): of the data's means and variances, and around one data point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cumprop
from cumprop.inputs import Gaussian, Law, Uniform

Array = NDArray[Any]
RANDOM = "random"
MOST_SIDES = 100
"""The most inputs of a box."""


@dataclass(frozen=True)
class Recipe:
    """One training, of `kind`; `loss` is "squared", "classes" or "yes or no"."""

    kind: str
    inputs: int
    hidden: tuple[int, ...]
    activation: str
    epochs: int
    rate: float
    loss: str = "squared"

    def __str__(self) -> str:
        widths = "-".join(map(str, self.hidden))
        return f"{self.kind} {self.inputs}-{widths} {self.activation}, {self.epochs} epochs"


RECIPES = (
    Recipe("digits", 64, (64,), "relu", 30, 2e-3, "classes"),
    Recipe("digits", 64, (64, 64), "relu", 10, 1e-3, "classes"),
    Recipe("digits", 64, (64, 64), "relu", 150, 3e-3, "classes"),
    Recipe("digits", 64, (128, 128), "relu", 40, 2e-3, "classes"),
    Recipe("digits", 64, (48, 48, 48), "relu", 100, 3e-3, "classes"),
    Recipe("digits", 64, (64, 64), "tanh", 60, 3e-3, "classes"),
    Recipe("digits", 64, (100, 100, 100), "tanh", 150, 3e-3, "classes"),
    Recipe("digits", 64, (32,) * 6, "relu", 60, 3e-3, "classes"),
    Recipe("cancer", 30, (64, 64), "relu", 30, 2e-3, "yes or no"),
    Recipe("cancer", 30, (50, 50, 50), "relu", 200, 2e-3, "yes or no"),
    Recipe("cancer", 30, (64, 64), "tanh", 100, 2e-3, "yes or no"),
    Recipe("diabetes", 10, (50, 50), "relu", 30, 2e-3),
    Recipe("diabetes", 10, (50, 50), "relu", 300, 2e-3),
    Recipe("diabetes", 10, (64, 64, 64), "tanh", 100, 2e-3),
    Recipe("teacher", 8, (64, 64, 64), "relu", 20, 2e-3),
    Recipe("teacher", 8, (64, 64, 64), "relu", 150, 2e-3),
    Recipe("teacher", 32, (96, 96), "relu", 100, 2e-3),
    Recipe("teacher", 32, (64,) * 4, "tanh", 60, 2e-3),
    Recipe("teacher", 100, (128, 128), "relu", 60, 2e-3),
    Recipe("clusters", 20, (64, 64), "relu", 100, 3e-3),
    Recipe("clusters", 20, (64, 64), "relu", 15, 1e-3),
    Recipe("clusters", 100, (128, 128), "relu", 60, 3e-3),
    Recipe("clusters", 300, (128, 128, 128), "relu", 40, 3e-3),
    Recipe("clusters", 784, (256, 256), "relu", 30, 2e-3),
    Recipe("clusters", 784, (128, 128), "relu", 80, 3e-3),
    Recipe("clusters", 784, (64,) * 4, "relu", 30, 2e-3),
    Recipe("clusters", 50, (64, 64, 64), "tanh", 80, 3e-3),
    Recipe("sinusoids", 2, (64, 64), "relu", 60, 3e-3),
    Recipe("sinusoids", 2, (50, 50, 50), "tanh", 60, 3e-3),
    Recipe("sinusoids", 4, (50, 50, 50), "relu", 60, 3e-3),
    Recipe("sinusoids", 6, (30,) * 6, "relu", 60, 3e-3),
    Recipe("sinusoids", 6, (50, 50), "tanh", 60, 3e-3),
    Recipe("sinusoids", 3, (128, 128), "relu", 60, 3e-3),
    Recipe("latent", 400, (128, 128), "relu", 60, 2e-3),
    Recipe("latent", 784, (256, 256), "relu", 60, 2e-3),
    Recipe("latent", 784, (128, 128), "relu", 150, 3e-3),
    Recipe("latent", 400, (96,) * 4, "relu", 60, 3e-3),
    Recipe("latent", 400, (96, 96), "tanh", 60, 3e-3),
    Recipe("latent", 60, (96, 96), "relu", 200, 4e-3),
    Recipe("maxima", 5, (50,) * 6, "relu", 60, 2e-3),
    Recipe("maxima", 5, (50,) * 6, "relu", 200, 3e-3),
    Recipe("maxima", 12, (100,) * 3, "relu", 100, 3e-3),
    Recipe("maxima", 12, (64,) * 3, "tanh", 100, 3e-3),
    Recipe("maxima", 4, (25,) * 3, "relu", 200, 4e-3),
    Recipe("maxima", 20, (40,) * 8, "relu", 60, 2e-3),
)
SIZES = ((16, 2), (32, 3), (32, 8), (64, 1), (64, 4), (128, 2), (128, 6), (256, 4))
RANDOMS = (
    *((activation, n, depth) for activation in ("relu", "gelu", "tanh") for n, depth in SIZES),
    *(("sigmoid", n, depth) for n, depth in ((64, 3), (128, 2))),
    *(("abs", n, depth) for n, depth in ((64, 3), (128, 2), (32, 6))),
    *(
        ("relu", n, depth)
        for n, depth in ((8, 2), (64, 12), (16, 12), (128, 12), (256, 2), (48, 5))
    ),
    *(("leaky_relu(0.2)", n, depth) for n, depth in ((64, 4), (24, 3))),
    *(("tanh", n, depth) for n, depth in ((32, 12), (96, 3))),
    *(("gelu", n, depth) for n, depth in ((12, 4), (200, 3))),
)


def random_networks() -> Iterator[tuple[str, cumprop.MLP]]:
    """Name and network; every third has biases, every fourth three outputs."""
    for seed, (activation, n, depth) in enumerate(RANDOMS, start=7001):
        network = cumprop.random_mlp(n, depth, seed, activation)
        weights, biases = list(network.weights), list(network.biases)
        if seed % 3 == 0:
            rng = np.random.default_rng(seed)
            biases = [0.5 * rng.normal(size=len(w)).astype(np.float32) for w in weights]
        if seed % 4 == 0:
            weights[-1] = weights[-1][:3]
            biases[-1] = None if biases[-1] is None else biases[-1][:3]
        network = network.replace(weights=weights, biases=biases, init_scale=None)
        yield f"{RANDOM} {activation} n={n} L={depth}", network


def trained_networks(number: int) -> list[tuple[str, cumprop.MLP]]:
    """Names and networks of a recipe, one for each input."""
    recipe = RECIPES[number]
    inputs, targets = DATA[recipe.kind](recipe.inputs)
    weights, biases = trained(recipe, inputs, targets, seed=number)
    return [
        (f"{recipe}, {name}", cumprop.MLP(weights, biases, recipe.activation, input=law))
        for name, law in laws_of_inputs(inputs, seed=number)
    ]


def laws_of_inputs(inputs: Array, seed: int) -> Iterator[tuple[str, Law]]:
    """Name and law: of the data, of isotropic noise, of noise around a point, and boxes."""
    rng, cov = np.random.default_rng(seed), np.cov(inputs.T)
    mean, size = inputs.mean(axis=0), np.sqrt(np.trace(cov) / len(cov))
    yield "data", Gaussian(_single(mean), _single(cov))
    yield "noise", Gaussian(_single(mean), _single(size**2))
    ratio = np.exp(rng.uniform(np.log(0.03), np.log(0.5)))
    point = inputs[rng.integers(len(inputs))]
    yield f"{ratio:.2f} s.d. around a point", Gaussian(_single(point), _single((ratio * size) ** 2))
    if len(mean) > MOST_SIDES:
        return
    half = np.sqrt(3) * inputs.std(axis=0)
    yield "box", Uniform(mean - half, mean + half)
    half *= np.exp(rng.uniform(np.log(0.03), np.log(0.5)))
    point = inputs[rng.integers(len(inputs))]
    yield "box around a point", Uniform(point - half, point + half)


def trained(recipe: Recipe, inputs: Array, targets: Array, seed: int) -> tuple[list[Array], ...]:
    """Weights and biases after Adam on batches of 64."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    losses = {
        "squared": torch.nn.functional.mse_loss,
        "classes": torch.nn.functional.cross_entropy,
        "yes or no": torch.nn.functional.binary_cross_entropy_with_logits,
    }
    n_outputs = int(targets.max()) + 1 if recipe.loss == "classes" else targets.shape[1]
    widths = (recipe.inputs, *recipe.hidden, n_outputs)
    maps = [torch.nn.Linear(a, b) for a, b in pairwise(widths)]
    bend = torch.nn.Tanh if recipe.activation == "tanh" else torch.nn.ReLU
    network = torch.nn.Sequential(*(layer for m in maps for layer in (m, bend())))[:-1]
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.rate)
    x = torch.tensor(inputs, dtype=torch.float32)
    y = torch.tensor(targets, dtype=torch.long if recipe.loss == "classes" else torch.float32)
    return descended(network, optimiser, losses[recipe.loss], x, y, recipe.epochs)


def descended(
    network: Any, optimiser: Any, loss: Any, x: Any, y: Any, epochs: int
) -> tuple[list[Array], ...]:
    """Weights and biases of the linear layers after epochs of batches of 64."""
    import torch

    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            loss(network(x[rows]), y[rows]).backward()
            optimiser.step()
    maps = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
    return [m.weight.detach().numpy() for m in maps], [m.bias.detach().numpy() for m in maps]


def digits(n: int) -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    return inputs / 16, labels


def cancer(n: int) -> tuple[Array, Array]:
    from sklearn.datasets import load_breast_cancer

    inputs, labels = load_breast_cancer(return_X_y=True)
    return standard(inputs), labels[:, None]


def diabetes(n: int) -> tuple[Array, Array]:
    from sklearn.datasets import load_diabetes

    inputs, targets = load_diabetes(return_X_y=True)
    return standard(inputs), standard(targets[:, None])


def teacher(n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(n)
    x = rng.normal(size=(4000, n))
    y = x
    for rows, columns in ((32, n), (32, 32)):
        y = np.maximum(y @ rng.normal(size=(columns, rows)) * np.sqrt(2 / columns), 0)
    return x, standard(y @ rng.normal(size=(32, 3)))


def clusters(n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(n)
    centres, labels = rng.normal(size=(10, n)) * 1.5 * np.sqrt(20 / n), rng.integers(0, 10, 2000)
    return centres[labels] + rng.normal(size=(2000, n)), np.eye(10)[labels]


def latent(n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(n)
    z = rng.normal(size=(2000, 12))
    images = 0.6 / (1 + np.exp(-z @ rng.normal(size=(12, n)) / 2))
    return images, np.eye(10)[np.argmax(z @ rng.normal(size=(12, 10)), axis=1)]


def sinusoids(n: int) -> tuple[Array, Array]:
    x = np.random.default_rng(100 + n).normal(size=(4000, n))
    waves = np.sin(2 * x[:, 0] + x[:, 1]), np.cos(x.sum(axis=1)), np.abs(x[:, 0]) * x[:, -1]
    return x, np.stack(waves, axis=1)


def maxima(n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(500 + n)
    x = rng.uniform(-1, 1, size=(4000, n))
    planes = np.einsum("okd,nd->nok", rng.normal(size=(5, 12, n)), x) + rng.normal(size=(5, 12))
    return x, standard(planes.max(axis=2) - planes[:, ::-1].min(axis=2) * 0.7)


def standard(x: Array) -> Array:
    return (x - x.mean(axis=0)) / x.std(axis=0)


DATA = {
    f.__name__: f for f in (digits, cancer, diabetes, teacher, clusters, latent, sinusoids, maxima)
}


def _single(x: Any) -> Array:
    return np.asarray(x, np.float32)
