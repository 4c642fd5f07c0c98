"""Networks that `test_trust.py` is measured on, none of the kinds of docs/calibration_networks.py.

| kind | data, loss, what differs from the calibration |
|---|---|
| one-hot | digits at 20x20 in 28x28 with squared error on one-hot labels; 784 and 64 inputs |
| shapes | the same images, cross-entropy, 10 to 100 epochs, with weight decay or dropout |
| parity | labels of the digits as even or odd, one logit, squared hinge |
| wine, iris | tables with cross-entropy, small and large networks |
| linnerud-like | synthetic tables with heavy tails, Huber loss |
| value | discounted cost of a pendulum, squared error, 2 inputs, GELU and tanh |
| policy | saturated linear-quadratic policies of 4 and 6 states, absolute error |
| advisory | scores of five turns in simulated encounters of aircraft; 5-50x6-5, 12-100x3-5 |
| rings | classes by radius in 2 to 10 dimensions, SGD with momentum |
| distilled | students of a network trained on the digits' logits |
| autoencoder | 64-32-8-32-64 of digits, ReLU and tanh |
| denoiser | 64-96-96-64 of digits with noise, GELU |
| polynomial | cubic polynomials of 3 to 20 inputs, weight decay |

Inputs: the Gaussian of the data; isotropic noise at their mean, of variance 0.09 for images and of
the data's for the others; isotropic noise around a data point of s.d. 0.01 to 0.3.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict, astuple, dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

import cumprop
from cumprop.sampling import replicates, standardised

sys.path.append(str(Path(__file__).parents[2] / "docs"))
from calibration_networks import descended

FOLDER = Path(__file__).parents[2] / "results" / "verify" / "zoo"
VERSION = 1
"""Raised when a data set changes."""


@dataclass(frozen=True)
class Recipe:
    """One training. `loss` is a key of `LOSSES`; with `momentum` it is SGD, else Adam."""

    kind: str
    data: str
    hidden: tuple[int, ...]
    activation: str = "relu"
    loss: str = "squared"
    epochs: int = 30
    rate: float = 2e-3
    decay: float = 0.0
    dropout: float = 0.0
    momentum: float = 0.0
    seed: int = 0

    @property
    def name(self):
        return f"{self.kind} {self.data} {'-'.join(map(str, self.hidden))} {self.activation}"


RECIPES = (
    Recipe("one-hot", "images", (256, 256), epochs=60),
    Recipe("one-hot", "images", (128, 128), epochs=100),
    Recipe("one-hot", "images", (64,) * 4, epochs=40, rate=3e-3),
    Recipe("one-hot", "pixels", (96, 96), epochs=200, rate=4e-3),
    Recipe("one-hot", "pixels", (80, 80, 80), "gelu", epochs=80),
    Recipe("shapes", "image labels", (256, 256), loss="classes", epochs=10, rate=1e-3),
    Recipe("shapes", "image labels", (200, 200), loss="classes", epochs=60, decay=1e-3),
    Recipe("shapes", "image labels", (160, 160, 160), loss="classes", epochs=30, dropout=0.3),
    Recipe("shapes", "image labels", (100, 100), "tanh", "classes", 100),
    Recipe("parity", "parity", (72, 72), loss="hinge", epochs=60),
    Recipe("parity", "parity", (40, 40, 40), "gelu", "hinge", 100),
    Recipe("parity", "parity", (30,) * 5, loss="hinge", epochs=100),
    Recipe("wine", "wine", (24, 24), loss="classes", epochs=100),
    Recipe("wine", "wine", (150, 150), "tanh", "classes", 300),
    Recipe("iris", "iris", (40, 40), loss="classes", epochs=300, rate=5e-3),
    Recipe("iris", "iris", (16, 16, 16), "gelu", "classes", 200),
    Recipe("heavy tails", "heavy 15", (60, 60), loss="huber", epochs=60),
    Recipe("heavy tails", "heavy 40", (90, 90, 90), loss="huber", epochs=60, decay=1e-2),
    Recipe("heavy tails", "heavy 15", (60, 60), "tanh", "huber", 200),
    Recipe("value", "pendulum", (64, 64), "gelu", epochs=60),
    Recipe("value", "pendulum", (40, 40, 40), "tanh", epochs=100),
    Recipe("value", "pendulum", (100, 100), epochs=100),
    Recipe("policy", "lqr 4", (32, 32), loss="absolute", epochs=100),
    Recipe("policy", "lqr 6", (64, 64, 64), "tanh", "absolute", 60),
    Recipe("policy", "lqr 6", (48, 48), loss="absolute", epochs=300, rate=5e-3),
    Recipe("advisory", "encounters 5", (50,) * 6, epochs=60),
    Recipe("advisory", "encounters 5", (50,) * 6, epochs=300, rate=1e-3, seed=1),
    Recipe("advisory", "encounters 12", (100,) * 3, epochs=80),
    Recipe("advisory", "encounters 12", (64,) * 3, "sigmoid", epochs=80, rate=5e-3),
    Recipe("rings", "rings 2", (32, 32), loss="classes", epochs=100, rate=0.05, momentum=0.9),
    Recipe("rings", "rings 10", (64, 64, 64), loss="classes", epochs=60, rate=0.05, momentum=0.9),
    Recipe("rings", "rings 6", (50, 50), "tanh", "classes", 100, 0.05, momentum=0.9),
    Recipe("distilled", "logits", (48, 48), epochs=60),
    Recipe("distilled", "logits", (120, 120), "gelu", epochs=60),
    Recipe("distilled", "logits", (64,) * 5, epochs=100),
    Recipe("autoencoder", "digits", (32, 8, 32), epochs=60),
    Recipe("autoencoder", "digits", (32, 8, 32), "tanh", epochs=100),
    Recipe("autoencoder", "digits", (128, 24, 128), epochs=60),
    Recipe("denoiser", "noisy digits", (96, 96), "gelu", epochs=60),
    Recipe("denoiser", "noisy digits", (96, 96, 96), epochs=60, decay=1e-4),
    Recipe("polynomial", "cubic 3", (64, 64), epochs=100, decay=1e-4),
    Recipe("polynomial", "cubic 8", (80, 80), epochs=60),
    Recipe("polynomial", "cubic 20", (100, 100, 100), epochs=60, decay=1e-4),
    Recipe("polynomial", "cubic 8", (48, 48, 48), "sigmoid", epochs=100, rate=5e-3),
)


def trained_networks(number):
    """Names and networks of a recipe under its three inputs; weights are kept in `FOLDER`."""
    recipe = RECIPES[number]
    inputs, _ = data_of(recipe.data)
    weights, biases = kept(recipe)
    images = inputs.min() >= 0 and inputs.max() <= 1
    return [
        (f"{recipe.name}, {name}", cumprop.MLP(weights, biases, recipe.activation, mean, cov))
        for name, mean, cov in laws_of_inputs(inputs, number, images)
    ]


def laws_of_inputs(inputs, seed, images):
    rng, mean, cov = np.random.default_rng(100 + seed), inputs.mean(axis=0), np.cov(inputs.T)
    size = 0.3 if images else np.sqrt(np.trace(cov) / len(cov))
    yield "data", np.float32(mean), np.float32(cov)
    yield "noise", np.float32(mean), np.float32(size**2)
    near = float(np.exp(rng.uniform(np.log(0.01), np.log(0.3)))) * (1 if images else size)
    point = inputs[rng.integers(len(inputs))]
    yield f"{near:.2g} around a point", np.float32(point), np.float32(near**2)


def kept(recipe):
    key = hashlib.sha256(repr((VERSION, astuple(recipe))).encode()).hexdigest()[:16]
    path = FOLDER / f"{key}.npz"
    if not path.is_file():
        weights, biases = train(recipe)
        FOLDER.mkdir(parents=True, exist_ok=True)
        arrays = {f"W{i}": w for i, w in enumerate(weights)}
        np.savez(path, **arrays, **{f"b{i}": b for i, b in enumerate(biases)})
    with np.load(path, allow_pickle=False) as arrays:
        count = len(recipe.hidden) + 1
        return [[arrays[f"{letter}{i}"] for i in range(count)] for letter in "Wb"]


def train(recipe):
    """Weights and biases after epochs of batches of 64."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    inputs, targets = data_of(recipe.data)
    x, classes = torch.tensor(inputs, dtype=torch.float32), recipe.loss == "classes"
    y = torch.tensor(targets, dtype=torch.long if classes else torch.float32)
    n_outputs = int(targets.max()) + 1 if classes else targets.shape[1]
    widths = (inputs.shape[1], *recipe.hidden, n_outputs)
    maps = [torch.nn.Linear(a, b) for a, b in pairwise(widths)]
    bends = {"relu": "ReLU", "tanh": "Tanh", "gelu": "GELU", "sigmoid": "Sigmoid"}
    layers = []
    for m in maps:
        layers += [
            m,
            getattr(torch.nn, bends[recipe.activation])(),
            torch.nn.Dropout(recipe.dropout),
        ]
    network = torch.nn.Sequential(*layers[:-2])
    losses = {
        "squared": torch.nn.functional.mse_loss,
        "classes": torch.nn.functional.cross_entropy,
        "huber": torch.nn.functional.huber_loss,
        "absolute": torch.nn.functional.l1_loss,
        "hinge": lambda out, y: torch.relu(1 - out * y).square().mean(),
    }
    if recipe.momentum:
        optimiser = torch.optim.SGD(network.parameters(), recipe.rate, recipe.momentum)
    else:
        optimiser = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.decay)
    return descended(network, optimiser, losses[recipe.loss], x, y, recipe.epochs)


# --- data --------------------------------------------------------------------------------------


@cache
def data_of(name):
    kind, _, size = name.partition(" ")
    if size.isdigit():
        return SIZED[kind](int(size))
    return DATA[name]()


def pixels():
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    return inputs / 16, labels


def one_hot():
    inputs, labels = pixels()
    return inputs, np.eye(10)[labels]


def images():
    from scipy import ndimage

    inputs, labels = pixels()
    large = ndimage.zoom(inputs.reshape(-1, 8, 8), (1, 2.5, 2.5), order=1)
    placed = np.zeros((len(large), 28, 28))
    placed[:, 4:24, 4:24] = large
    return placed.reshape(-1, 784), labels


def parity():
    inputs, labels = pixels()
    return inputs, np.where(labels % 2, 1.0, -1.0)[:, None]


def table(name):
    from sklearn import datasets

    inputs, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    return standard(inputs), labels


def heavy(n):
    rng = np.random.default_rng(n)
    x = np.arcsinh(rng.standard_t(3, size=(3000, n)))
    y = np.sin(x[:, 0]) * x[:, 1] + np.abs(x @ rng.normal(size=n)) / np.sqrt(n)
    return standard(x), standard((y + 0.3 * rng.standard_t(3, size=3000))[:, None])


def pendulum():
    """Discounted cost of 100 steps of a damped pendulum that is pushed towards its top."""
    rng = np.random.default_rng(1)
    state = rng.normal(size=(4000, 2)) * [1.0, 2.0]
    angle, speed, cost = *state.T.copy(), np.zeros(4000)
    for step in range(100):
        push = np.clip(-4 * angle - speed, -2, 2)
        cost += 0.97**step * (angle**2 + 0.1 * speed**2 + 0.01 * push**2)
        speed = speed + 0.05 * (5 * np.sin(angle) - 0.2 * speed + push)
        angle = angle + 0.05 * speed
    return state, standard(np.log1p(cost)[:, None])


def lqr(n):
    rng = np.random.default_rng(10 + n)
    x = rng.normal(size=(4000, n))
    return x, np.clip(x @ rng.normal(size=(n, 2)), -1, 1)


def encounters(n):
    """Scores of five turn rates: how near other aircraft come within a minute, and the turn itself.

    Four inputs for each of the others (distance, bearing, heading, speed), and one's own speed
    where there is a fifth; all within ±0.5.
    """
    x = np.random.default_rng(20 + n).uniform(-0.5, 0.5, size=(5000, n))
    others = np.moveaxis(x[:, : n // 4 * 4].reshape(len(x), -1, 4), 2, 0)
    own = 0.2 + 0.1 * (x[:, -1] if n % 4 else np.zeros(len(x)))
    distance, angle, heading = 3 * (others[0] + 0.6), 2 * np.pi * others[1], 2 * np.pi * others[2]
    relative, speed = distance * np.exp(1j * angle), (0.2 + 0.2 * others[3]) * np.exp(1j * heading)
    scores = []
    for turn in np.radians([-3.0, -1.5, 0.0, 1.5, 3.0]):
        place, nearest = np.zeros(len(x), complex), np.full(distance.shape, np.inf)
        for second in range(0, 60, 2):
            place = place + 0.1 * own * np.exp(1j * turn * second)
            nearest = np.minimum(nearest, np.abs(relative + 0.05 * second * speed - place[:, None]))
        scores.append(np.exp(-2 * nearest.min(axis=1)) + 2 * abs(turn))
    return x, standard(np.stack(scores, axis=1))


def rings(n):
    x = np.random.default_rng(30 + n).normal(size=(3000, n))
    radius = np.linalg.norm(x, axis=1)
    return x, np.searchsorted(np.quantile(radius, [0.33, 0.67]), radius)


def logits():
    """Of a network trained on the digits: what a student imitates."""
    teacher = Recipe("teacher", "pixel labels", (64, 64), loss="classes", epochs=20)
    inputs, _ = pixels()
    weights, biases = kept(teacher)
    return inputs, standard(cumprop.MLP(weights, biases, "relu").forward(np.float32(inputs)))


def noisy():
    inputs, _ = pixels()
    noise = np.random.default_rng(5).normal(size=inputs.shape)
    return np.clip(inputs + 0.2 * noise, 0, 1), inputs


def cubic(n):
    rng = np.random.default_rng(40 + n)
    x, directions = rng.normal(size=(4000, n)), rng.normal(size=(n, 4)) / np.sqrt(n)
    z = x @ directions
    return x, standard(np.stack([z[:, 0] ** 3 - z[:, 1], z[:, 2] * z[:, 3] * z[:, 0]], axis=1))


def standard(x):
    scale = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(scale > 0, scale, 1)


SIZED = {f.__name__: f for f in (heavy, lqr, encounters, rings, cubic)}
DATA = {
    "images": lambda: (images()[0], np.eye(10)[images()[1]]),
    "pixels": one_hot,
    "image labels": images,
    "pixel labels": pixels,
    "parity": parity,
    "wine": lambda: table("wine"),
    "iris": lambda: table("iris"),
    "pendulum": pendulum,
    "logits": logits,
    "digits": lambda: (pixels()[0], pixels()[0]),
    "noisy digits": noisy,
}


# --- truths ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Truth:
    """Sampled: mean and its squared standard error, variance and its, per output."""

    mean: np.ndarray
    noise: np.ndarray
    variance: np.ndarray
    n_samples: int

    @property
    def unit(self):
        return float(self.variance.sum())

    def error(self, mean):
        """Squared, in output standard deviations, without bias; and the noise in it."""
        noise = float(self.noise.sum()) / self.unit
        return float(np.sum((mean - self.mean) ** 2)) / self.unit - noise, noise

    def std_error(self, cov):
        """Relative RMS error of the standard deviations."""
        std = np.sqrt(np.maximum(np.diag(cov).astype(np.float64), 0))
        return float(np.sqrt(np.sum((std - np.sqrt(self.variance)) ** 2) / self.unit))


def truth_of(network):
    """Of 4e11 FLOPs, or 4e6 samples; kept in `FOLDER`."""
    digest = hashlib.sha256(repr((VERSION, network.activations)).encode())
    arrays = (*network.weights, *network.biases, network.input_mean, network.input_cov)
    for array in arrays:
        digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    path = FOLDER / f"truth-{digest.hexdigest()[:16]}.npz"
    if not path.is_file():
        most = min(4e11 / (2 * sum(w.size for w in network.weights)), 4e6)
        found = sampled(network, int(most), np.random.default_rng(1))
        FOLDER.mkdir(parents=True, exist_ok=True)
        np.savez(path, **asdict(found))
    with np.load(path, allow_pickle=False) as arrays:
        return Truth(*(arrays[k] for k in ("mean", "noise", "variance")), int(arrays["n_samples"]))


def sampled(network, n_samples, rng):
    """A truth by orthogonal inputs, or a Sobol sequence of up to 2^20 where there are few."""
    plain, _ = standardised(network)
    if plain.widths[0] > 8:
        found = replicates(plain, n_samples, "orthogonal", rng)
    else:
        found = replicates(plain, 2 ** int(np.log2(min(n_samples, 2**20))), "sobol", rng)
    return Truth(found.mean, found.noise, found.variance, found.n_samples)


# --- random networks ---------------------------------------------------------------------------

ACTIVATIONS = ("relu", "gelu", "tanh", "sigmoid", "abs", "leaky_relu(0.1)")
SHAPES = (
    (8, 1),
    (12, 3),
    (24, 2),
    (40, 6),
    (48, 16),
    (80, 3),
    (112, 5),
    (160, 2),
    (224, 3),
    (512, 2),
)


def random_networks():
    """60 networks: six activations, ten shapes; half with biases, a third with few outputs."""
    for i, activation in enumerate(ACTIVATIONS):
        for j, (width, depth) in enumerate(SHAPES):
            seed = 5000 + 10 * i + j
            network = cumprop.random_mlp(width, depth, seed, activation)
            weights, biases, given = list(network.weights), [None] * (depth + 1), {}
            rng = np.random.default_rng(seed)
            if seed % 2:
                biases = [np.float32(0.4 * rng.normal(size=len(w))) for w in weights]
            if seed % 3 == 0:
                weights[-1] = weights[-1][:2]
                biases[-1] = None if biases[-1] is None else biases[-1][:2]
            if seed % 5 == 0:
                given = {"input_mean": np.float32(rng.normal(size=width)), "input_cov": 0.3}
            made = cumprop.MLP(weights, biases, activation, **given)
            yield f"random {activation} n={width} L={depth}", made
