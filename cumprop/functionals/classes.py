"""Class probabilities and the expected softmax of a network under a random input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop import streams
from cumprop.contract import Estimator
from cumprop.contract.printing import NORMAL_QUANTILE, between, status_words
from cumprop.errors import CumpropError
from cumprop.flops import Flops, added, counted, counting
from cumprop.functionals.certificates import Certificate, certified, noise_of
from cumprop.functionals.integrals import REMEDY, FromMoments, from_moments
from cumprop.functionals.samples import averages, checked, clopper_pearson, samples_asked
from cumprop.networks import MLP
from cumprop.parameters import typed
from cumprop.text import table

Array = NDArray[Any]

ROWS = 5
"""The number of classes that text shows, the likeliest first."""
LARGEST_HALF_WIDTH = 0.05
"""Probabilities with wider intervals that are not sampled are unreliable."""
ACCIDENT = 0.2
"""The change by the next order, in units of the spread (mathematics §11) and s.d. of a hit."""
UNIFORM = 0.01
"""The share, squared, of the error of the worst class that every class has at least."""


@dataclass(frozen=True, eq=False, repr=False)
class Decision:
    """P(argmax Y = c) of every class c and the expected softmax of Y, with 95% intervals.

    `probabilities` and `softmax` are (k,), `interval` and `softmax_interval` their 95% intervals,
    (2, k), None where nothing is known about errors. `n_samples` is None unless they were sampled;
    `certificate` is None unless it was asked for. `flops` are counted by component; `status` is
    "ok" or names a reason to doubt the numbers and a remedy. `print` shows the likeliest classes.

    >>> import cumprop
    >>> two = cumprop.MLP([[[3.0, 4.0], [0.0, 0.0]]], [[5.0, 0.0]])      # N(5, 25) against 0
    >>> cumprop.class_probabilities(two)                                # doctest: +ELLIPSIS
    Decision between 2 classes
    class  P(class)                      softmax
        0  0.841... (0.841... to 0.841...)  0.82672... (0.82672... to 0.82672...)
        1  0.158... (0.158... to 0.158...)  0.17327... (0.17327... to 0.17327...)
    2...e+06 FLOPs
    status: ok
    """

    probabilities: Array
    interval: Array | None
    softmax: Array
    softmax_interval: Array | None
    n_samples: int | None
    flops: Flops
    status: str
    certificate: Certificate | None = None

    def __repr__(self) -> str:
        order = np.argsort(-self.probabilities, kind="stable")
        rows = [
            {
                "class": int(c),
                "P(class)": _shown(self.probabilities, self.interval, c),
                "softmax": _shown(self.softmax, self.softmax_interval, c),
            }
            for c in order[:ROWS]
        ]
        more = len(order) - ROWS
        cost = f"{self.flops.total:.3g} FLOPs"
        if self.n_samples is not None:
            cost += f", {self.n_samples:,} samples"
        return "\n".join(
            [
                f"Decision between {len(order)} classes",
                table(rows),
                *([f"… and {more} more, less likely; to_dict() has them all"] if more > 0 else []),
                *([] if self.certificate is None else [str(self.certificate)]),
                cost,
                status_words(self.status),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields as lists, numbers and text that `json.dumps` takes; None where not known."""
        return {
            "probabilities": self.probabilities.tolist(),
            "interval": None if self.interval is None else self.interval.tolist(),
            "softmax": self.softmax.tolist(),
            "softmax_interval": (
                None if self.softmax_interval is None else self.softmax_interval.tolist()
            ),
            "n_samples": self.n_samples,
            "flops": self.flops.total,
            "flops_components": dict(self.flops),
            "status": self.status,
            "certificate": None if self.certificate is None else vars(self.certificate),
        }


def class_probabilities(
    network: MLP,
    estimator: str | Estimator = "cumulant",
    tolerance: float | None = None,
    certify: bool = False,
    seed: int = 0,
    **parameters: Any,
) -> Decision:
    """The probability of each class, the output that is largest, and the expected softmax.

    `estimator` is a backend with a covariance, with its `parameters`; its moments give the answer
    without a sample (mathematics §12). `cumulant` of order 3 and up gives third cumulants too, and
    with them intervals. `monte_carlo` samples: intervals of probabilities are then exact (Clopper
    and Pearson). With `tolerance`, the widest half width of intervals of probabilities, samples
    replace an answer whose intervals are wider or that is unreliable. `certify` adds the radius in
    which no change of the input's mean makes another class the likeliest, for noise N(μ, σ² I); it
    is always sampled. Raises CumpropError for other noise, for fewer than two outputs and for
    estimators that have no covariance. Cost: an estimate with third cumulants and 10 passes of 2^14
    points through the softmax; sampled, 0.96 / tolerance² forward passes.

    >>> import cumprop
    >>> two = cumprop.MLP([[[3.0, 4.0], [0.0, 0.0]]], [[5.0, 0.0]])      # N(5, 25) against 0
    >>> found = cumprop.class_probabilities(two)
    >>> bool(abs(found.probabilities[0] - 0.8413) < 1e-3), found.n_samples       # Φ(1)
    (True, None)
    >>> sampled = cumprop.class_probabilities(two, "monte_carlo", n_samples=1000)
    >>> low, high = sampled.interval[:, 0]
    >>> bool(low < 0.8413 < high)
    True
    """
    estimator, tolerance = checked(network, estimator, parameters, tolerance)
    if network.widths[-1] < 2:
        raise CumpropError("one output is no class; for a logit take --tail 'y>0', or above(0)")
    sigma = noise_of(network) if typed(certify, bool, "certify") else None
    asked, wanted = samples_asked(network, estimator), None
    if tolerance is not None:
        wanted = ceil((NORMAL_QUANTILE / (2 * tolerance)) ** 2 + 1 / tolerance)  # where P is 1/2
    if asked is not None:
        found = _sampled(network, wanted or asked, seed, Flops())
    else:
        found = _from_moments(network, estimator, seed)
        if tolerance is not None and (found.status != "ok" or _widest(found) > tolerance):
            found = _sampled(network, wanted, seed, found.flops)
    if sigma is None:
        return found
    likely = None if found.n_samples is not None else float(found.probabilities.max())
    certificate, flops = certified(network, sigma, likely, wanted, seed)
    return replace(found, certificate=certificate, flops=added(found.flops, flops))


def classified(y: Array) -> Array:
    """Which class wins, as 0 and 1, (N, k), beside the softmax: (N, 2 k) for outputs (N, k)."""
    y = counted(y)
    winner = np.zeros_like(y)
    winner[np.arange(len(y)), y.argmax(axis=1)] = 1
    grown = np.exp(y - y.max(axis=1)[:, None])
    return np.hstack([winner, grown / grown.sum(axis=1)[:, None]])


def _widest(found: Decision) -> float:
    if found.interval is None:
        return 1.0
    return float(np.abs(found.interval - found.probabilities).max())


def _from_moments(network: MLP, estimator: Estimator, seed: int) -> Decision:
    found = from_moments(network, estimator, classified, seed)
    (p, widths), (softmax, softmax_widths) = _halves(found)
    status = found.doubt
    if not status and widths is not None and widths.max() > LARGEST_HALF_WIDTH:
        status = f"unreliable: probabilities are known to {widths.max():.2g} only; {REMEDY}"
    return Decision(
        probabilities=p,
        interval=_about(p, widths),
        softmax=softmax,
        softmax_interval=_about(softmax, softmax_widths),
        n_samples=None,
        flops=found.flops,
        status=status or "ok",
    )


def _halves(found: FromMoments) -> list[tuple[Array, Array | None]]:
    """Probabilities and softmax, each with half widths.

    The next order changes a class by up to what the third cumulants change the worst one by, in
    proportion to the standard deviation 2 √(p (1 − p)) of a hit. That change may vanish by
    accident; a share of the spread does not.
    """
    pairs = []
    for part in found.integrals.split(2):
        widths = None
        if part.bent is not None:
            p = np.minimum(np.maximum(part.value, part.value - part.bent), 0.5).clip(0)
            shape = np.sqrt(UNIFORM + 4 * p * (1 - p))
            accident = ACCIDENT * part.spread * np.sqrt(p * (1 - p))
            widths = part.half_width(np.hypot(np.abs(part.bent).max() * shape, accident))
        pairs.append((part.value, widths))
    return pairs


def _about(value: Array, half_width: Array | None) -> Array | None:
    if half_width is None:
        return None
    return np.stack([value - half_width, value + half_width]).clip(0, 1)


def _sampled(network: MLP, n_samples: int | None, seed: int, before: Flops) -> Decision:
    assert n_samples is not None
    rng = streams.output_samples(seed, network.shape.width, 0)
    with counting() as flops:
        found = averages(network, classified, n_samples, rng)
    k, n = network.widths[-1], found.n_samples
    hits = np.rint(found.mean[:k] * n)
    return Decision(
        probabilities=hits / n,
        interval=clopper_pearson(hits, n),
        softmax=found.mean[k:],
        softmax_interval=_about(found.mean[k:], NORMAL_QUANTILE * found.stderr[k:] + 3 / n),
        n_samples=n,
        flops=added(before, flops),
        status="ok",
    )


def _shown(values: Array, interval: Array | None, c: Any) -> str:
    ends = (None, None) if interval is None else interval[:, c]
    return between(float(values[c]), *ends)
