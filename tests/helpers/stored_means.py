"""Sampled expected activations that are kept beside the tests: group means of random networks."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import cumprop
from cumprop.sampling.designs import expected_radius

FOLDER = Path(__file__).parents[1] / "goldens" / "truth"
MAPS = {"he": "he", "all 2/n": {"w_var": 2.0, "b_var": 0.0, "b_mean": 0.0}}
"""Initialisations by name; the first map of "he" has variance 1/n, that of "all 2/n" 2/n."""


@dataclass(frozen=True)
class Problem:
    """A ReLU network without biases, and what is read of it: "output" or "post", E[X_L]."""

    width: int
    depth: int
    seed: int
    init: str = "he"
    readout: str = "output"

    @property
    def network(self):
        return cumprop.random_mlp(self.width, self.depth, self.seed, init=MAPS[self.init])

    @property
    def path(self):
        return FOLDER / f"relu_n{self.width}_L{self.depth}_s{self.seed}_{self.readout}.npz"

    def of(self, estimate):
        """The means of an estimate that the problem asks for."""
        return estimate.mean if self.readout == "output" else estimate.layer_means[-1]


TINY = [Problem(32, 3, 0)]
WIDE = [Problem(1024, 16, seed, "all 2/n", "post") for seed in (0, 1)]
SHALLOW = [Problem(256, 4, seed) for seed in range(5)]
DEEP = [Problem(256, depth, seed) for depth, first in ((8, 10), (16, 20))
        for seed in range(first, first + 3)]  # fmt: skip


@dataclass(frozen=True)
class StoredMeans:
    """The sampled means of a problem: `groups` (2, B, n) of two independent halves.

    `variance` is that of a pass under N(0, I), averaged over neurons; `facts` say how, where and
    from how many inputs the means were sampled.
    """

    problem: Problem
    groups: np.ndarray
    variance: float
    facts: dict

    def write(self, path):
        """Means in float64, deviations of groups from them in float32: half the bytes."""
        mean = self.groups.mean(axis=(0, 1))
        header = json.dumps({"problem": asdict(self.problem), **self.facts}, sort_keys=True)
        deviations = (self.groups - mean).astype(np.float32)
        np.savez_compressed(
            path, header=header, mean=mean, deviations=deviations, variance=self.variance
        )


def read(path):
    with np.load(path, allow_pickle=False) as file:
        facts = json.loads(str(file["header"]))
        problem = Problem(**facts.pop("problem"))
        return StoredMeans(
            problem, file["mean"] + file["deviations"], float(file["variance"]), facts
        )


def iid_variance(width, mean_square, halves):
    """E[f²] − E[f]² under N(0, I), averaged over neurons, from inputs of the radius E|x|.

    f is homogeneous, so that E[f²] is rescaled by E|x|²/(E|x|)²; the product of two half means is
    an unbiased E[f]².
    """
    rescaled = mean_square * width / expected_radius(width) ** 2
    return float(rescaled - halves[0] @ halves[1] / width)
