"""Benchmark: estimators against sampling, on the clock of this machine.

One run measures the rates of this machine, forward passes per second of sampling, and seconds of
each estimator. Errors take too long for a benchmark; they come from a sweep.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from math import ceil, inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cumprop import files
from cumprop.contract import Estimator
from cumprop.estimators.cumulant.entrywise import compiles
from cumprop.experiments.columns import DONE, PARAMETERS, failure
from cumprop.flops import CONVENTION
from cumprop.memory import traced_peak
from cumprop.networks import MLP, random_mlp
from cumprop.reproduction.reference_scores import KnownError, KnownErrors
from cumprop.reproduction.throughput import check_threads, sampling_rate
from cumprop.results.provenance import conditions, provenance
from cumprop.sweep.rates import Effort, Rates, by_turns, measured

if TYPE_CHECKING:
    import pandas as pd

Entry = dict[str, Any]

SCHEMA_VERSION = 4
"""The version of the JSON file, raised when a key changes its meaning."""

DESIGNS = ("iid", "orthogonal")
NETWORK_SEED = 0
SIDE = 512
"""The neurons of the matrix products that estimates take turns with."""
TURNS = 3
"""The turns of each number of threads."""


def run(
    estimators: Sequence[Estimator],
    shapes: Iterable[tuple[int, int]],
    threads: Sequence[int],
    effort: Effort,
    errors: KnownErrors | None,
    progress: Callable[[str], None] = lambda line: None,
    limit: float = inf,
) -> list[dict[str, Any]]:
    """Measure `estimators` on He-initialised float32 ReLU networks of (width, depth) `shapes`.

    There is a report for each number of `threads`, which take turns. Estimators run in this process
    on so many BLAS threads, sampling in as many processes of one thread each, because its entrywise
    half would otherwise use one core. `ratio_iid` is the time of iid sampling to the vn-MSE of an
    estimator over the estimator's own, `ratio_orthogonal` the same for the orthogonal design with
    its measured gain; both are None where `errors` has no vn-MSE. `ratio_iid_expected` takes the
    square of the expected error for the vn-MSE.
    An estimate that would take more than `limit` seconds is left out. A report can be stored as
    JSON. Raises CumpropError where BLAS does not take `threads`. Cost: about `effort.seconds` for
    each estimator, shape and number of threads, and thrice for sampling.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    progress("rates of this machine")
    reports = [_started(n, load, effort, errors) for n in threads]
    for width, depth in shapes:
        network = random_mlp(width, depth, NETWORK_SEED)
        problem = problem_of(width, depth)
        progress(f"sampling, width {width}, depth {depth}")
        for report in reports:
            report["sampling"] += _rivals(network, problem, report, effort, errors)
        rates = Rates(**reports[0]["rates"])
        for estimator in estimators:
            progress(f"{estimator.label}, width {width}, depth {depth}")
            known = errors.of(estimator, problem) if errors else None
            entries = measure(estimator, network, threads, effort, rates, limit)
            for report, entry in zip(reports, entries, strict=True):
                rivals = report["sampling"][-len(DESIGNS) :]
                seconds, error = entry["seconds"], entry["expected_error"]
                expected = ratio(error**2, seconds, rivals[0]) if error and seconds else None
                entry |= compared(known, seconds, rivals) | {"ratio_iid_expected": expected}
                report["estimators"].append(problem | entry)
    return reports


def _started(
    threads: int, load: float | None, effort: Effort, errors: KnownErrors | None
) -> dict[str, Any]:
    """A report without measurements, but of the rates of this machine."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads):
        check_threads(threads)
    return {
        "schema_version": SCHEMA_VERSION,
        "provenance": provenance(threads, workers=1),
        "load_before": load,
        "effort": asdict(effort),
        "flops_convention": CONVENTION,
        "compiled": compiles(),
        "errors_from": errors.source if errors else None,
        "rates": asdict(measured("float32", threads=threads)),
        "sampling": [],
        "estimators": [],
    }


def _rivals(
    network: MLP, problem: Entry, report: Entry, effort: Effort, errors: KnownErrors | None
) -> list[Entry]:
    """Sampling by each design, on the threads of the report."""
    rivals = []
    for design in DESIGNS:
        rate = sampling_rate(network, design, report["provenance"]["threads"], effort)
        passed = rate["flops_per_pass"] * rate["passes_per_second"]
        gain = 1.0 if design == "iid" else errors.gain(problem) if errors else None
        share = passed / report["rates"]["products"]
        rivals.append(problem | rate | {"matmul_share": share, "gain": gain})
    return rivals


def problem_of(width: int, depth: int) -> Entry:
    """The columns that name the network of this shape, and what is estimated of it."""
    return {
        "width": width, "depth": depth, "readout": "output",
        "activation": "relu", "init": "he", "dtype": "float32",
    }  # fmt: skip


def measure(
    estimator: Estimator,
    network: MLP,
    threads: Sequence[int],
    effort: Effort,
    rates: Rates,
    limit: float,
) -> list[Entry]:
    """The median seconds, FLOPs and memory of one estimate on so many `threads` each.

    The first run traces the memory and warms up. Later runs are timed, by turns with matrix
    products of 512 neurons: `matmul_share` is the share of their FLOP/s, `products_per_second`; and
    the numbers of threads take turns, too. An estimator that cannot run, or would take more than
    `limit` seconds by the `rates` of the first number of threads, has the outcome "failed", the
    reason as `note`, and null numbers.
    """
    from threadpoolctl import threadpool_limits

    parameters = asdict(estimator)
    entry: Entry = {
        "estimator": estimator.name,
        "estimator_version": estimator.version,
        "label": estimator.label,
        "parameters": json.dumps(parameters, sort_keys=True),
        "seed": NETWORK_SEED,
        **{name: parameters.get(name) for name in PARAMETERS},
        **dict.fromkeys(["seconds", "seconds_low", "seconds_high", "flops", "peak_bytes"]),
        **dict.fromkeys(["products_per_second", "matmul_share", "expected_error"]),
        "repeats": 0,
        **dict.fromkeys(["outcome", "note", "status"]),
    }
    cost = estimator.predict_cost(network.shape)
    entry |= {"flops_predicted": cost.flops, "bytes_predicted": cost.bytes}
    reason = estimator.supports(network)
    if reason is None and rates.seconds(cost) > limit:
        reason = f"left out: it takes about {rates.seconds(cost):.2g} s"
    if reason is not None:
        return [entry | failure(reason) for _ in threads]
    estimates = []
    with threadpool_limits(threads[0]):
        peak = traced_peak(lambda: estimates.append(estimator.estimate(network)))
    [estimate] = estimates
    entry |= {
        "flops": estimate.flops.total,
        "expected_error": estimate.expected_error,
        "peak_bytes": peak,
        "outcome": DONE,
        "status": estimate.status,
    }
    found = _times(lambda: estimator.estimate(network), threads, effort)
    return [entry | _speed(estimate.flops.total, *times) for times in found]


def _times(
    work: Callable[[], object], threads: Sequence[int], effort: Effort
) -> list[tuple[list[float], list[float]]]:
    """The seconds of calls of `work` and of matrix products, on each number of threads by turns."""
    from threadpoolctl import threadpool_limits

    turns = min(TURNS, effort.least)
    part = Effort(effort.seconds / turns, ceil(effort.least / turns), ceil(effort.most / turns))
    matrix = np.ones((SIDE, SIDE), np.float32)
    found = [(list[float](), list[float]()) for _ in threads]
    for _ in range(turns):
        for n, (times, products) in zip(threads, found, strict=True):
            with threadpool_limits(n):
                more = by_turns(work, lambda: matrix @ matrix, part)
            times += more[0]
            products += more[1]
    return found


def _speed(flops: int, times: Sequence[float], products: Sequence[float]) -> Entry:
    """The columns of times: quartiles, and the speed beside that of matrix products."""
    rate = 2 * SIDE**3 / float(np.median(products))
    low, median, high = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
    return {
        "seconds": median,
        "seconds_low": low,
        "seconds_high": high,
        "repeats": len(times),
        "products_per_second": rate,
        "matmul_share": flops / median / rate,
    }


def compared(known: KnownError | None, seconds: float | None, rivals: Sequence[Entry]) -> Entry:
    """The error of an estimator that takes `seconds`, and the ratios of sampling times to it.

    `rivals` are iid and orthogonal sampling: `passes_per_second` and `gain`. The interval comes
    from that of the error; where the error's lower end is 0 or less, the ratio has no upper end.
    """
    columns = ["vn_mse", "vn_mse_low", "vn_mse_high", "resolved", "n_networks"]
    columns += ["ratio_iid", "ratio_iid_low", "ratio_iid_high", "ratio_orthogonal"]
    entry: Entry = dict.fromkeys(columns)
    if known is None:
        return entry
    entry |= zip(columns, asdict(known).values(), strict=False)
    if seconds is None:
        return entry
    iid, orthogonal = rivals
    entry["ratio_iid"] = ratio(known.vn_mse, seconds, iid)
    entry["ratio_iid_low"] = ratio(known.high, seconds, iid)
    entry["ratio_iid_high"] = ratio(known.low, seconds, iid)
    entry["ratio_orthogonal"] = ratio(known.vn_mse, seconds, orthogonal)
    return entry


def ratio(vn_mse: float, seconds: float, rival: Entry) -> float | None:
    """The seconds of a sampling `rival` to `vn_mse`, N = gain / vn_mse passes, over `seconds`.

    >>> ratio(1e-6, 0.1, {"gain": 1.0, "passes_per_second": 1e5})      # 10 s against 0.1 s
    100.0
    """
    if rival["gain"] is None or vn_mse <= 0:
        return None
    return float(rival["gain"] / (vn_mse * rival["passes_per_second"] * seconds))


def rows(report: dict[str, Any]) -> pd.DataFrame:
    """The estimators of a report with the columns that figures of costs read."""
    import pandas as pd

    table = pd.DataFrame(report["estimators"])
    return table.assign(
        config="bench",
        tolerance=None,
        conditions=conditions(report["provenance"]),
        flops_convention=report["flops_convention"],
    )


def write(report: dict[str, Any], path: Path) -> None:
    """Write a report as JSON, atomically."""
    files.write_text(path, json.dumps(report, indent=1, allow_nan=False) + "\n")
