"""The factor of the next order in intervals of class probabilities, and the ridge, by coverage.

python docs/calibrate_classes.py        # 3 minutes on one core

Classifiers of digits with cross-entropy and of clusters (`calibration_networks.py`), three levels
of noise around two points each, 50,000 samples as the truth. Prints how many 95% intervals hold,
of all classes and of those of 5% or more, for some factors; then RMS errors for some ridges.
"""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import calibration_networks as known
import numpy as np

import cumprop
from cumprop.functionals import classes, integrals, output_law
from cumprop.functionals.samples import averages

SAMPLES, POINTS = 50_000, 2
LEVELS = {"digits": (0.1, 0.25, 0.5), "clusters": (0.3, 0.7, 1.4)}
FACTORS, RIDGES = (1.0, 1.5, 2.0, 2.5, 3.0), (1e-6, 1e-3, 1e-2, 1e-1)


def main() -> None:
    cases = list(measured())
    print("factor  all     5% and more")
    for factor in FACTORS:
        with mock.patch.object(integrals, "NEXT_ORDER", factor):
            held, likely = [], []
            for network, truth in cases:
                found = cumprop.class_probabilities(network)
                if found.interval is None or not found.status.startswith(
                    ("ok", "unreliable: prob")
                ):
                    continue
                error = 2 * np.sqrt(truth * (1 - truth) / SAMPLES) + 3 / SAMPLES
                holds = np.abs(truth - found.interval).min(axis=0) <= error
                holds |= (truth >= found.interval[0]) & (truth <= found.interval[1])
                held.extend(holds)
                likely.extend(holds[found.probabilities > 0.05])
        print(f"{factor:<6}  {np.mean(held):.1%}  {np.mean(likely):.1%}", flush=True)
    print("ridge   RMS error over the classes of a case")
    for ridge in RIDGES:
        with mock.patch.object(output_law, "RIDGE", ridge):
            squares = [
                np.square(cumprop.class_probabilities(network).probabilities - truth).sum()
                for network, truth in cases
            ]
        print(f"{ridge:<6g}  {np.sqrt(np.mean(squares)):.4f}", flush=True)


def measured() -> Iterator[tuple[cumprop.MLP, known.Array]]:
    """Networks under noise, and their class probabilities."""
    for number, recipe in enumerate(known.RECIPES):
        if recipe.kind not in LEVELS or (recipe.kind == "clusters" and recipe.inputs > 100):
            continue
        inputs, targets = known.DATA[recipe.kind](recipe.inputs)
        weights, biases = known.trained(recipe, inputs, targets, seed=number)
        rng = np.random.default_rng(number)
        for level in LEVELS[recipe.kind]:
            for point in inputs[rng.choice(len(inputs), POINTS, replace=False)]:
                given = np.float32(point), np.float32(level**2)
                network = cumprop.MLP(weights, biases, recipe.activation, *given)
                found = averages(network, classes.classified, SAMPLES, rng)
                yield network, found.mean[: network.widths[-1]]
        print(f"  {recipe}", flush=True)


if __name__ == "__main__":
    main()
