"""Networks whose activations are steep, or steps, beside their pre-activations."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from helpers.estimators import CUMULANT
from joblib import Parallel, delayed
from verify.test_adaptive import of_samples, searched

import cumprop
from cumprop.results.provenance import cores

pytestmark = pytest.mark.verify

ACTIVATIONS = ("tanh", "sigmoid", "erf", "gelu", "silu", "softplus", "hard_swish", "relu6")
GAINS = (1.0, 3.0, 10.0, 100.0, 1e4, 1e6)
WIDTHS = (40, 64, 100, 150, 200)
N_TRUTH = 400_000
ESTIMATORS = [*CUMULANT[:3], CUMULANT[4], ("gaussian", {}), ("blend", {"n_samples": 2000})]
TOLERANCES = (1e-1, 3e-2, 1e-2)


def networks():
    """48 networks of 3 to 5 layers, of float32 and float64 by turns, with biases.

    Each layer multiplies what the layer before gives it by the gain; maps are scaled to the size of
    the activation's values there, so that no layer saturates on its biases alone.
    """
    rng = np.random.default_rng(41)
    for number, (activation, gain) in enumerate((a, g) for a in ACTIVATIONS for g in GAINS):
        widths = rng.choice(WIDTHS, int(rng.integers(5, 8)))
        weights, biases, size = [], [], 1.0
        for fan_in, fan_out in pairwise(widths):
            weights.append(gain / size * rng.normal(size=(fan_out, fan_in)) / np.sqrt(fan_in))
            biases.append(0.3 * gain * rng.normal(size=fan_out))
            size = max(1.0, gain) if activation in ("gelu", "silu", "softplus") else 1.0
        dtype = (np.float32, np.float64)[number % 2]
        yield (
            f"{activation}, gain {gain:g}, {'-'.join(map(str, widths))}",
            cumprop.MLP(
                [w.astype(dtype) for w in weights], [b.astype(dtype) for b in biases], activation
            ),
        )


@dataclass
class Row:
    """An estimate: its status, its error over the expected one, and the outputs it covers."""

    name: str
    status: str
    ratio: float
    covered: np.ndarray

    @property
    def sure(self):
        return not self.status.startswith("unreliable")


def rows_of(name, network):
    """The truth, and a row per estimate.

    Errors count as far as they stand out from twice the truth's noise, in output s.d.
    """
    truth = of_samples(name, network, N_TRUTH)
    groups = truth.groups.reshape(-1, truth.groups.shape[-1])
    noise = np.sum(groups.var(axis=0, ddof=1)) / len(groups)
    total, rows = truth.variance * groups.shape[-1], []
    for backend, parameters in ESTIMATORS:
        found = cumprop.estimate(network, backend, **parameters)
        square = np.sum((found.mean - groups.mean(axis=0)) ** 2)
        error = np.sqrt(max(square - 4 * noise, 0) / total)
        label = f"{' '.join(map(str, (backend, *parameters.values())))}, {name}"
        rows.append(Row(label, found.status, error / found.expected_error, truth.covered(found)))
    return truth, rows


@pytest.fixture(scope="module")
def measured():
    """Of every network the truth, the rows of its estimates, and what `adaptive` finds."""

    def measure(name, network):
        truth, rows = rows_of(name, network)
        return rows, [searched(truth, tolerance) for tolerance in TOLERANCES]

    return Parallel(n_jobs=cores())(delayed(measure)(*one) for one in networks())


def test_expected_errors_hold(measured, record):
    rows = [row for rows, _ in measured for row in rows]
    sure = [row for row in rows if row.sure]
    ratios = np.array([row.ratio for row in sure])
    record(
        f"{len(measured)} networks with steep layers, 6 estimators: true errors that are at most "
        "twice the expected ones, where the status is not unreliable",
        f"{np.mean(ratios <= 2):.1%} of {len(sure)}, of {len(rows)} estimates; the largest is "
        f"{ratios.max():.2f} times the expected one ({sure[ratios.argmax()].name})",
        "≥ 97%, none above 5",
        np.mean(ratios <= 2) >= 0.97 and ratios.max() <= 5,
    )


def test_half_widths_cover(measured, record):
    covered = [row.covered for rows, _ in measured for row in rows if row.sure]
    every = np.concatenate(covered)
    record(
        "networks with steep layers: half widths hold the truth",
        f"{every.mean():.1%} of {every.size:,} outputs; in the worst estimate "
        f"{min(np.mean(one) for one in covered):.0%}",
        "≥ 93%",
        every.mean() >= 0.93,
    )


def test_adaptive(measured, record):
    pairs = [pair for _, pairs in measured for pair in pairs]
    missed = [str(pair) for pair in pairs if not pair.met]
    covered = np.concatenate([pair.known.covered(pair.estimate) for pair in pairs])
    orders = sum(not pair.estimate.status.startswith("sampled") for pair in pairs)
    record(
        "`adaptive`: tolerances 0.1, 0.03, 0.01 on networks with steep layers",
        f"{len(pairs) - len(missed)} of {len(pairs)} met, {orders} by orders; {covered.mean():.1%} "
        f"of {covered.size:,} outputs covered" + "".join(f"; missed: {pair}" for pair in missed),
        "≥ 95% met, ≥ 93% covered",
        len(missed) <= 0.05 * len(pairs) and covered.mean() >= 0.93,
    )
