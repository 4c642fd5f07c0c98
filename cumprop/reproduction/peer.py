"""Seconds of the paper's own public implementation beside ours, by turns in one process.

Its code is not part of this package: `load` imports it from a checkout.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cumprop.contract import build
from cumprop.errors import CumpropError
from cumprop.networks import MLP, random_mlp
from cumprop.reproduction.benchmark import NETWORK_SEED, Entry, problem_of
from cumprop.results.provenance import git_revision, provenance
from cumprop.sweep.rates import Effort, by_turns

Array = NDArray[Any]

SCHEMA_VERSION = 1
"""The version of the JSON file, raised when a key changes its meaning."""
REPOSITORY = "github.com/alignment-research-center/mlp_cumulant_propagation"
REVISION = "881e500e"
FACTORED = (3, 4)
"""The orders whose top cumulant the implementation keeps factorised, its fastest way."""
AGREEMENT = 1e-3
"""The largest difference of two means of the same diagrams, over the root mean square of ours."""
SMALL = (32, 3)
"""The width and depth at which these diagrams, which we have dense only, are cheap."""


def compare(
    path: Path,
    orders: Sequence[int],
    shapes: Sequence[tuple[int, int]],
    effort: Effort,
    progress: Callable[[str], None] = lambda line: None,
) -> Entry:
    """Measure `cumulant` of `orders` 1 to 4 and the checkout at `path`, on one thread each.

    Networks are those of `benchmark.run`. Both sides have the metric average, which the checkout
    has by default, and the diagrams of their fastest way, which at orders 3 and 4 are not the
    same. `ratio` is the median over rounds of the checkout's seconds over ours, `ratio_low` and
    `ratio_high` its quartiles; `difference` is the largest of the means, over the root mean square
    of ours. The report can be stored as JSON. Raises CumpropError for a path that holds no such
    checkout, and where `check` fails. Cost: `effort.seconds` for each order and shape, and half a
    minute for the diagrams of order 4.
    """
    report: Entry = {
        "schema_version": SCHEMA_VERSION,
        "provenance": provenance(threads=1, workers=1),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "peer_revision": git_revision(path),
        "effort": asdict(effort),
        "orders": [],
    }
    with _one_thread(), torch.no_grad():
        for order in orders:
            check(path, order)
        for width, depth in shapes:
            network = random_mlp(width, depth, NETWORK_SEED)
            for order in orders:
                progress(f"order {order}, width {width}, depth {depth}")
                entry = _measured(path, network, order, effort)
                report["orders"].append(problem_of(width, depth) | {"order": order} | entry)
    return report


def load(path: Path) -> tuple[Any, Any]:
    """The class of networks and the propagation of the checkout at `path`."""
    source = path / "src"
    if not (source / "mlp_kprop").is_dir():
        raise CumpropError(f"{path} has no src/mlp_kprop: give --peer a checkout of {REPOSITORY}")
    sys.path.insert(0, str(source))
    try:
        networks = import_module("mlp_kprop.mlp")
        propagation = import_module("mlp_kprop.kprop_harmonic")
    except (ImportError, SyntaxError) as error:
        reason = f"{path} cannot be imported ({error})"
        raise CumpropError(f"{reason}: use the Python and the packages that it asks for") from None
    finally:
        sys.path.remove(str(source))
    return networks.MLP, propagation.mlp_kprop


def mean_of(path: Path, network: MLP, order: int) -> Callable[[], Array]:
    """A function that computes the mean of `network` by the checkout at `path`."""
    network_class, propagate = load(path)
    n = network.shape.width
    twin = network_class(input_dim=n, hidden_dim=n, output_dim=n, num_layers=network.depth + 1)
    for linear, weight in zip(twin.Ws, network.weights, strict=True):
        linear.weight.copy_(torch.tensor(weight))
    cumulants, factor = {1: torch.zeros(n), 2: torch.eye(n)}, order in FACTORED
    return lambda: propagate(twin, cumulants, k_max=order, factor=factor)[1].to_tensor().numpy()


def check(path: Path, order: int) -> None:
    """Raise CumpropError unless both sides find the same mean of a small network."""
    network = random_mlp(*SMALL, NETWORK_SEED)
    same = build("cumulant", order=order, metric="average", truncation="published")
    error = _difference(mean_of(path, network, order)(), same.estimate(network).mean)
    if not error <= AGREEMENT:
        reason = f"order {order}: the means of {path} are off by {error:.1g} of their scale"
        raise CumpropError(f"{reason}: check out revision {REVISION}")


def _measured(path: Path, network: MLP, order: int, effort: Effort) -> Entry:
    ours, theirs = build("cumulant", order=order, metric="average"), mean_of(path, network, order)
    difference = _difference(theirs(), ours.estimate(network).mean)
    times, rivals = by_turns(lambda: ours.estimate(network), theirs, effort)
    low, ratio, high = np.quantile(np.divide(rivals, times), [0.25, 0.5, 0.75]).tolist()
    return {
        "seconds": float(np.median(times)),
        "peer_seconds": float(np.median(rivals)),
        "rounds": len(times),
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "difference": difference,
    }


def _difference(theirs: Array, ours: Array) -> float:
    return float(np.abs(theirs - ours).max() / np.sqrt(np.mean(ours**2)))


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
