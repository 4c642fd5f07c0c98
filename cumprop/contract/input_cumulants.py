"""The error of means where an order leaves out cumulants of independent input coordinates."""

from __future__ import annotations

from dataclasses import replace
from math import hypot, prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract.laws import QUANTILE
from cumprop.contract.trust import LARGEST_ERROR
from cumprop.flops import added, component, counted, counting, on_host

if TYPE_CHECKING:
    from cumprop.contract.estimator import Estimate, Estimator
    from cumprop.networks import MLP

Array = NDArray[Any]


def with_input_error(estimator: Estimator, network: MLP, found: Estimate) -> Estimate:
    """The estimate with the error of what it leaves out of the law of the input (mathematics §11).

    `network` is the one with a layer of coordinates. Estimates without signs are left as they are:
    samples take the law as it is.
    """
    signs = found.signs
    if signs is None or found.n_samples is not None or network.depth < 2:
        return found
    with counting() as flops, component("error"):
        missed = missed_by(network, getattr(estimator, "order", 2), getattr(estimator, "kind", ""))
    missed *= sqrt(max(1.0, prod(signs.cancellation[signs.depth - network.depth + 1 :])))
    error = hypot(found.expected_error or 0.0, missed)
    half_width, status = found.half_width, found.status
    if half_width is not None:
        half_width = np.hypot(half_width, QUANTILE * missed * np.sqrt(signs.unit * signs.shares))
    if status == "ok" and error > LARGEST_ERROR:
        status = f"unreliable: means are expected to be {error:.1g} output s.d. off; take adaptive"
    return replace(
        found,
        expected_error=error,
        half_width=half_width,
        status=status,
        flops=added(found.flops, flops),
    )


def missed_by(network: MLP, order: int, kind: str) -> float:
    """The RMS shift of E[X_2] by what an order leaves out, in standard deviations of the neurons.

    Z_2 of a `network` whose first layer has m independent coordinates r_a is a sum of them, with
    cumulants Σ_a B_ia^k κ_k(r_a). Its cumulants shift E[X_2] by s_3 = κ_3 w(3,1)/6 and
    s_4 = κ_4 w(4,1)/24, which order 2 leaves out. Order 3 has s_3, and takes the full trace of κ_4
    for equal in all directions (mathematics §3.3); trees and order 4 have both. All leave out
    (κ_3/6 ∂³ + κ_4/24 ∂⁴)²/2. Neurons are weighted by their share in the next layer's variance.
    Cost: about 10 n_1 n_0 FLOPs.
    """
    scale = on_host(network.weights[0]).diagonal().astype(np.float64)
    raw = network.activations[0].wick_table(np.zeros(len(scale)), scale * scale)
    m1, m2, m3, m4 = (counted(raw(0, p)) for p in (1, 2, 3, 4))
    variance = m2 - m1 * m1
    third = m3 - 3 * m1 * m2 + 2 * m1 * m1 * m1
    fourth = m4 - 4 * m1 * m3 - 3 * m2 * m2 + 12 * m1 * m1 * m2 - 6 * m1 * m1 * m1 * m1
    b = counted(on_host(network.weights[1])).astype(np.float64)
    squares = b * b
    mean, spread = b @ m1, squares @ variance
    if network.biases[1] is not None:
        mean = mean + on_host(network.biases[1])
    varying = spread > 0
    table = network.activations[1].wick_table(mean, np.where(varying, spread, 1))
    k3, k4 = (squares * b) @ third / 6, (squares * squares) @ fourth / 24
    if order <= 2:
        shift = k3 * table(3, 1) + k4 * table(4, 1)
    elif order == 3 and kind != "tree":
        m, sizes = len(scale), squares.sum(axis=1)
        radial = sizes * sizes * (float(fourth.sum()) / (8 * m * (m + 2)))
        shift = (k4 - radial) * table(4, 1)
    else:
        shift = 0 * k4
    beyond = (k3 * k3 * table(6, 1) + 2 * k3 * k4 * table(7, 1) + k4 * k4 * table(8, 1)) / 2
    outward = counted(on_host(network.weights[2])).astype(np.float64)
    shares = (outward * outward).sum(axis=0) * varying
    squared = float(shares @ (shift * shift + beyond * beyond))
    variances = float(shares @ np.maximum(table(0, 2) - table(0, 1) * table(0, 1), 0))
    return sqrt(squared / variances) if variances > 0 else 0.0
