"""Forward passes per second of sampling, in one process per thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop import streams
from cumprop.contract import Estimator, build
from cumprop.errors import CumpropError
from cumprop.networks import MLP
from cumprop.sweep.rates import Effort

Array = NDArray[np.float64]

QUICK = Effort(0.5, 1)
_LEAST = 4


def sampling_rate(network: MLP, design: str, processes: int, effort: Effort) -> dict[str, Any]:
    """Forward passes per second of sampling, all `processes` of one BLAS thread together.

    Random numbers, sums and standard errors are included; the start of processes is not.
    """
    from joblib import Parallel, delayed

    sampling, flops_per_pass, n_samples = _steady(network, design, effort.seconds / 20)
    pool = Parallel(n_jobs=processes, batch_size=1, max_nbytes=None)
    for seconds in (0.0, effort.seconds):  # the first round starts the processes
        spans = pool(
            delayed(_sample)(sampling, network, place, seconds) for place in range(processes)
        )
    rate, repeats = joint_rate(spans, n_samples)
    return {
        "design": design,
        "n_samples": n_samples,
        "processes": processes,
        "threads": 1,
        "passes_per_second": rate,
        "flops_per_pass": flops_per_pass,
        "repeats": repeats,
    }


def _steady(network: MLP, design: str, seconds: float) -> tuple[Estimator, float, int]:
    """The sampling that takes `seconds` or a little more, its FLOPs per pass, and its passes."""
    from threadpoolctl import threadpool_limits

    n_samples, taken = 512, 0.0
    with threadpool_limits(1):
        build("monte_carlo", n_samples=n_samples, design=design).estimate(network)  # warms up
        while taken < seconds:
            n_samples *= 2
            sampling = build("monte_carlo", n_samples=n_samples, design=design)
            start = time.perf_counter()
            estimate = sampling.estimate(network)
            taken = time.perf_counter() - start
    assert estimate.n_samples is not None
    return sampling, estimate.flops.total / estimate.n_samples, estimate.n_samples


def _sample(sampling: Estimator, network: MLP, place: int, seconds: float) -> Array:
    """The begin and end of each estimate in `seconds`, of at least four, on the common clock.

    Several are needed to run beside those of processes that start a little later.
    """
    from threadpoolctl import threadpool_limits

    rng = streams.sampling(0, network.shape.width, place)
    spans: list[tuple[float, float]] = []
    with threadpool_limits(1):
        while len(spans) < _LEAST or spans[-1][1] - spans[0][0] < seconds:
            begin = time.monotonic()
            sampling.estimate(network, rng=rng)
            spans.append((begin, time.monotonic()))
    return np.array(spans)


def joint_rate(spans: Sequence[Array], n_samples: int) -> tuple[float, int]:
    """Passes per second of several processes, and the estimates it rests on.

    `spans` has begin and end, (k, 2), of each process's estimates of `n_samples` passes. Only
    estimates that ran while all processes were at work count, with the median of each process.

    >>> joint_rate([np.array([[0.0, 1.0], [1.0, 2.0]]), np.array([[0.0, 2.0]])], n_samples=100)
    (150.0, 3)
    """
    begin, end = max(span[0, 0] for span in spans), min(span[-1, 1] for span in spans)
    inside = [span[(span[:, 0] >= begin) & (span[:, 1] <= end)] for span in spans]
    if not all(map(len, inside)):
        raise CumpropError(
            "the sampling processes did not run side by side; free the machine's cores, "
            "or take fewer --threads"
        )
    rate = sum(n_samples / float(np.median(np.diff(span, axis=1))) for span in inside)
    return rate, sum(map(len, inside))


def check_threads(threads: int) -> None:
    """Raise CumpropError where BLAS did not take a limit of `threads`."""
    from threadpoolctl import threadpool_info

    set_to = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    if set_to - {threads}:
        raise CumpropError(f"BLAS runs {max(set_to)} threads, not {threads}; set --threads to that")
