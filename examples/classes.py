"""Class probabilities of the digits classifier of `trained.py` over noise, against samples.

    python examples/classes.py                     # 2 minutes on one core

Draws figures/reference/class_probabilities.png: the RMS error of P(argmax = c) over ten classes and
eight images, for estimates without a sample and for sampling at equal FLOPs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import trained
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import cumprop
from cumprop.plots import style

Array = NDArray[Any]

FIGURE = Path(__file__).parents[1] / "figures" / "reference" / "class_probabilities.png"
LEVELS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
"""Standard deviations of the noise; pixels are in [0, 1]."""
IMAGES, TRUTH = 8, 200_000
METHODS = (
    ("order 1", {"order": 1}, "#E69F00", "o"),
    ("order 2, Gaussian outputs", {"order": 2}, "#CC79A7", "^"),
    ("order 3", {"order": 3}, "#0072B2", "s"),
    ("order 3, tree", {"order": 3, "kind": "tree"}, "#009E73", "v"),
)
STATED = {"order": 3}
EQUAL = {"order 2, Gaussian outputs": "--", "order 3": "-"}
"""Methods whose FLOPs sampling gets, too, and its lines."""


def main() -> None:
    draw(*measured())


def measured() -> tuple[Array, Array, Array, Array]:
    """RMS errors, (methods, levels), those stated by order 3 and of one sample, (levels,).

    The fourth array are the samples that cost as much as each method.
    """
    network = trained.digits()
    pixels, _ = load_digits(return_X_y=True)
    images = pixels[np.random.default_rng(0).choice(len(pixels), IMAGES, replace=False)] / 16
    errors, flops = np.zeros((len(METHODS), len(LEVELS))), np.zeros(len(METHODS))
    stated, scatter = np.zeros((2, len(LEVELS)))
    for at, level in enumerate(LEVELS):
        for image in images:
            noisy = network.replace(input_mean=image, input_cov=level**2)
            truth = cumprop.class_probabilities(noisy, "monte_carlo", n_samples=TRUTH, seed=1)
            one = np.sum(truth.probabilities * (1 - truth.probabilities))
            scatter[at] += one
            for method, (_, parameters, _, _) in enumerate(METHODS):
                found = cumprop.class_probabilities(noisy, "cumulant", **parameters)
                squared = np.square(found.probabilities - truth.probabilities).sum()
                errors[method, at] += squared - one / TRUTH
                flops[method] = found.flops.total / (truth.flops.total / TRUTH)
                if parameters == STATED and found.interval is not None:
                    stated[at] += np.square(np.diff(found.interval, axis=0) / 2 / 1.96).sum()
        print(f"noise {level:g}: done", flush=True)
    number = IMAGES * 10
    rms = [np.sqrt(np.maximum(a, 0) / number) for a in (errors, stated, scatter)]
    return rms[0], rms[1], rms[2], flops


def draw(errors: Array, stated: Array, scatter: Array, flops: Array) -> None:
    """One panel: RMS error over the noise."""
    costs = {name: flops[i] for i, (name, *_) in enumerate(METHODS) if name in EQUAL}
    legend = [
        *(Line2D([], [], color=c, marker=m, label=name) for name, _, c, m in METHODS),
        Line2D([], [], color="#0072B2", linestyle=":", label="stated by order 3"),
        *(
            Line2D([], [], color="0.5", linestyle=line, label=f"{n:,.0f} samples")
            for n, line in zip(costs.values(), EQUAL.values(), strict=True)
        ),
    ]
    text = (
        "RMS error of P(argmax y = c) over ten classes and eight images of the digits classifier "
        "of examples/trained.py (64-64-64-10, ReLU), under Gaussian noise of this s.d. on every "
        f"pixel; truth: {TRUTH:,} samples, whose noise is subtracted. Open: below that noise, "
        "which is drawn instead. Samples: as many as have the FLOPs of order 2 and of order 3. "
        "Dotted: the root mean square of the half widths of 95% intervals over 1.96."
    )
    with style.context():
        figure, (ax,) = style.sheet(1, "s.d. of the noise", "RMS error of P(class)", legend, text)
        ax.set(xscale="log", yscale="log")
        ax.set_xticks(LEVELS, [f"{level:g}" for level in LEVELS])
        ax.xaxis.set_minor_formatter("")
        noise = scatter / np.sqrt(TRUTH)
        for error, (_, _, colour, marker) in zip(errors, METHODS, strict=True):
            ax.plot(LEVELS, np.maximum(error, noise), marker=marker, color=colour)
            hidden = error < noise
            ax.plot(
                np.array(LEVELS)[hidden], noise[hidden], marker, color=colour, mfc="w", zorder=3
            )
        ax.plot(LEVELS, stated, ":", color="#0072B2")
        for n, line in zip(costs.values(), EQUAL.values(), strict=True):
            ax.plot(LEVELS, scatter / np.sqrt(n), line, color="0.5", zorder=1)
        style.save_one(figure, FIGURE)


if __name__ == "__main__":
    main()
