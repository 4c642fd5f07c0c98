"""FLOPs, memory and agreement of the algorithms at full size."""

import time

import numpy as np
import pytest

import cumprop
from cumprop.estimators.cumulant import Cumulant
from cumprop.estimators.monte_carlo import MonteCarlo
from cumprop.memory import traced_peak
from cumprop.networks import Shape

pytestmark = pytest.mark.verify


def shape(width, depth=4):
    return Shape((width,) * (depth + 2), ("relu",) * depth)


@pytest.mark.parametrize(("kind", "limit"), [("basic", 1e-10), ("augmented_factorised", 1e-10)])
def test_structured_order_three_is_dense_at_width_256(record, kind, limit):
    network = cumprop.random_mlp(256, 4, 0, dtype="float64")
    dense, structured = (
        Cumulant(3, kind, algorithm=algorithm).estimate(network).mean
        for algorithm in ("dense", "structured")
    )
    error = np.abs(dense - structured).max() / np.abs(dense).max()
    record(f"structured = dense, order 3 {kind}, n=256, L=4, float64", f"{error:.0e}",
           f"≤ {limit:.0e}", error <= limit)  # fmt: skip


@pytest.mark.parametrize(("order", "limit"), [(3, 1.4e9), (4, 5e11)])
def test_flops_at_width_256(record, order, limit):
    flops = Cumulant(order).estimate(cumprop.random_mlp(256, 4, 0)).flops.total
    predicted = Cumulant(order).predict_cost(shape(256)).flops
    record(f"FLOPs of order {order}, n=256, L=4, ReLU (predicted {predicted:.4g})", f"{flops:.4g}",
           f"≤ {limit:g} and as predicted", flops <= limit and flops == predicted)  # fmt: skip


def test_order_three_grows_with_the_cube_of_the_width(record):
    widths = [128, 181, 256, 362, 512, 724, 1024]
    flops = [Cumulant(3).predict_cost(shape(width)).flops for width in widths]
    slope = np.polyfit(np.log(widths), np.log(flops), 1)[0]
    record("exponent of order 3's FLOPs in n, 128 to 1024", f"{slope:.2f}", "3.0 ± 0.1",
           abs(slope - 3) <= 0.1)  # fmt: skip


def test_memory_of_order_four(record):
    network = cumprop.random_mlp(256, 4, 0)
    predicted = Cumulant(4).predict_cost(network.shape).bytes
    peak = traced_peak(lambda: Cumulant(4).estimate(network))
    record("peak memory of order 4, n=256, L=4, float32", f"{peak / 1e9:.2f} GB, "
           f"predicted {predicted / 1e9:.2f}", "≤ 1.2 GB, predicted within 20%",
           peak <= 1.2e9 and abs(predicted / peak - 1) <= 0.2)  # fmt: skip


def test_order_three_at_width_1024_depth_16(record):
    """Run twice: timed, then traced."""
    network = cumprop.random_mlp(1024, 16, 0)
    predicted = Cumulant(3).predict_cost(network.shape).bytes
    start = time.perf_counter()
    Cumulant(3).estimate(network)
    seconds = time.perf_counter() - start
    peak = traced_peak(lambda: Cumulant(3).estimate(network))
    measured = f"{seconds:.0f} s, peak {peak / 1e9:.2f} GB, predicted {predicted / 1e9:.2f}"
    record("time and memory of order 3, n=1024, L=16, float32", measured, "< 180 s, < 4 GB",
           seconds < 180 and max(peak, predicted) < 4e9)  # fmt: skip


def test_sampling_runs_at_the_speed_of_matrix_products(record):
    """iid Monte Carlo, random numbers included, against the products of its forward passes.

    Timed by turns, so that other work on the machine slows both.
    """
    network = cumprop.random_mlp(256, 4, 0)
    x, out = np.ones((512, 256), np.float32), np.empty((512, 256), np.float32)

    def seconds(work):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def products():
        for _ in range(5 * 32_768 // 512):  # those of as many forward passes
            np.matmul(x, network.weights[0].T, out=out)

    def sampling():
        MonteCarlo(32_768).estimate(network)

    sampling()
    share = np.median([seconds(products) / seconds(sampling) for _ in range(15)])
    record("iid Monte Carlo's share of the float32 matrix-product rate, n=256, L=4",
           f"{share:.0%}", "≥ 60%", share >= 0.6)  # fmt: skip
