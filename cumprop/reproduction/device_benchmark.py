"""Benchmark on one device of PyTorch: estimators of tensors against sampling on the same device.

Networks, errors and ratios are those of `cumprop.reproduction.benchmark`; times are synchronised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from cumprop.contract import Estimator
from cumprop.networks import MLP, random_mlp
from cumprop.reproduction.benchmark import NETWORK_SEED, Entry, problem_of, ratio
from cumprop.reproduction.device import (
    PRODUCT,
    SHARE,
    Device,
    on_device,
    product_rate,
    sampling,
    tf32,
)
from cumprop.reproduction.reference_scores import KnownErrors
from cumprop.results.power_laws import PowerLaw
from cumprop.results.provenance import provenance
from cumprop.sweep.rates import Effort

Tensor = Any

SCHEMA_VERSION = 1
"""The version of the JSON file, raised when a key changes its meaning."""
NUMPY_WIDTH = 256
"""The widest network whose estimate is compared with NumPy's on the host, both in float64."""
NARROWEST = 64
"""The least width of the law by which errors of wider networks are extrapolated."""
TRAINED_SECONDS = 2.0
"""Estimates that take longer have no gradients timed."""


def run(
    device: Device,
    estimators: Sequence[Estimator],
    shapes: Sequence[tuple[int, int]],
    effort: Effort,
    errors: KnownErrors | None,
    progress: Callable[[str], None] = lambda line: None,
) -> Entry:
    """Measure `estimators` and sampling on a device, on the networks of `benchmark.run`.

    Rates of products and of sampling are measured with and without TF32; estimators run without.
    `ratio_iid` is the time of iid sampling to the vn-MSE of an estimator over the estimator's own,
    `ratio_gradient` the same for a gradient of each. A vn-MSE that `errors` does not hold is
    extrapolated by the law of its widths, which `extrapolated` tells. The report can be stored as
    JSON. Cost: about `effort.seconds` for each measurement, of which an estimator has two and
    sampling eight.
    """
    with tf32(False):
        report: Entry = {
            "schema_version": SCHEMA_VERSION,
            "provenance": provenance(torch.get_num_threads(), workers=1),
            "device": device.model,
            "torch": torch.__version__,
            "effort": asdict(effort),
            "errors_from": errors.source if errors else None,
            "product_width": PRODUCT[device.kind],
            "products": product_rate(device, effort),
            "sampling": [],
            "estimators": [],
        }
        with tf32(True):
            report["products_tf32"] = product_rate(device, effort)
        for width, depth in shapes:
            network = random_mlp(width, depth, NETWORK_SEED)
            problem = problem_of(width, depth)
            progress(f"sampling, width {width}, depth {depth}")
            rival = sampling(device, network, effort)
            rival["matmul_share"] = (
                rival["passes_per_second"] * 2 * sum(network.shape.products) / report["products"]
            )
            report["sampling"].append(problem | rival)
            for estimator in estimators:
                progress(f"{estimator.label}, width {width}, depth {depth}")
                entry = problem | _measured(device, estimator, network, rival["variance"], effort)
                if entry["seconds"]:
                    rate = entry["flops"] / entry["seconds"]
                    entry["matmul_share"] = rate / report["products"]
                known = _known(errors, estimator, problem) if errors else None
                report["estimators"].append(entry | _compared(known, entry, rival))
    return report


def _measured(
    device: Device, estimator: Estimator, network: MLP, variance: float, effort: Effort
) -> Entry:
    """The seconds of an estimate and of its gradient, its memory, and what float32 changes."""
    names = ["seconds", "gradient_seconds", "flops", "peak_bytes", "matmul_share"]
    names += ["rounding_vn_mse", "float64_error", "note"]
    entry: Entry = {"estimator": estimator.name, "label": estimator.label, **dict.fromkeys(names)}
    needed, free = estimator.predict_cost(network.shape).bytes, device.free()
    if needed > SHARE * free:
        return entry | {"note": f"needs {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free"}
    tensors, found = on_device(network, device, torch.float32), []
    try:
        with torch.no_grad():
            peak = device.peak(lambda: found.append(estimator.estimate(tensors)))
            seconds = device.seconds(lambda: estimator.estimate(tensors), effort)
        entry |= {"seconds": seconds, "flops": found[0].flops.total, "peak_bytes": peak}
        entry |= _exactness(device, estimator, network, found[0].mean, variance)
        if seconds < TRAINED_SECONDS:
            trained = on_device(network, device, torch.float32, gradients=True)

            def step() -> None:
                mean: Tensor = estimator.estimate(trained).mean
                mean.square().sum().backward()

            entry["gradient_seconds"] = device.seconds(step, effort)
    except torch.OutOfMemoryError:
        entry["note"] = "out of memory" + (
            " for float64 or the gradient" if entry["seconds"] else ""
        )
    return entry


def _exactness(
    device: Device, estimator: Estimator, network: MLP, mean: Tensor, variance: float
) -> Entry:
    """The mean squared difference of float32 and float64 over the outputs' variance.

    `float64_error` is the largest difference of the device's float64 from NumPy's over the largest
    mean, of networks that the host can do.
    """
    with torch.no_grad():
        exact: Tensor = estimator.estimate(on_device(network, device, torch.float64)).mean
        change = float((mean.double() - exact).square().mean())
    entry = {"rounding_vn_mse": change / variance, "float64_error": None}
    if network.shape.width <= NUMPY_WIDTH:
        double = MLP([np.array(w, np.float64) for w in network.weights])
        wanted = estimator.estimate(double).mean
        largest = np.abs(exact.cpu().numpy() - wanted).max() / np.abs(wanted).max()
        entry["float64_error"] = float(largest)
    return entry


def _known(errors: KnownErrors, estimator: Estimator, problem: Entry) -> tuple[float, bool] | None:
    """The vn-MSE of an order and kind, and whether it is extrapolated from narrower networks."""
    wanted = {name: getattr(estimator, name, None) for name in ("order", "kind", "truncation")}
    wanted |= {name: value for name, value in problem.items() if name != "width"}
    wanted["estimator"] = estimator.name
    measured = {
        int(point["width"]): float(point["y"])
        for point in errors.points
        if point["resolved"] and all(point[name] == value for name, value in wanted.items())
    }
    width = problem["width"]
    if width in measured:
        return measured[width], False
    wide = {w: vn_mse for w, vn_mse in measured.items() if w >= NARROWEST}
    if len(wide) < 3 or width < max(wide):
        return None
    return float(PowerLaw.fit([*wide], [*wide.values()]).at(width)), True


def _compared(known: tuple[float, bool] | None, entry: Entry, rival: Entry) -> Entry:
    """The ratios of times of sampling to those of an estimator with a known error."""
    names = ["vn_mse", "extrapolated", "ratio_iid", "ratio_tf32", "ratio_gradient"]
    names += ["ratio_gradient_tf32"]
    found: Entry = dict.fromkeys(names)
    if known is None:
        return found
    vn_mse, extrapolated = known
    found |= {"vn_mse": vn_mse, "extrapolated": extrapolated}
    for name, seconds, rate in [
        ("ratio_iid", "seconds", "passes_per_second"),
        ("ratio_tf32", "seconds", "passes_per_second_tf32"),
        ("ratio_gradient", "gradient_seconds", "gradients_per_second"),
        ("ratio_gradient_tf32", "gradient_seconds", "gradients_per_second_tf32"),
    ]:
        if entry[seconds]:
            sampler = {"gain": 1.0, "passes_per_second": rival[rate]}
            found[name] = ratio(vn_mse, entry[seconds], sampler)
    return found
