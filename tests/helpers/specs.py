"""Random networks, so many of each kind, for the acceptance of `adaptive`."""

import numpy as np

from cumprop.sampling import MeanSpec


def dealt_out(activations, widths, first_seed):
    """Each activation with each width, depths dealt out at random; every other one has biases."""
    rng, specs = np.random.default_rng(first_seed), []
    for i, activation in enumerate(activations):
        depths = map(int, rng.permutation(len(widths)) + 1)
        for j, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            init = {"w_var": 2.0, "b_var": 0.1} if (i + j) % 2 else "he"
            specs.append(MeanSpec(width, depth, activation, init, first_seed + len(specs)))
    return specs
