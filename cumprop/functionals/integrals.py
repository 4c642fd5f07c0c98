"""Expected values of functions of the outputs from their moments, with their errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop import streams
from cumprop.contract import Estimator, Signs, ThirdCumulants, estimate
from cumprop.contract.laws import QUANTILE
from cumprop.contract.printing import is_unreliable
from cumprop.errors import CumpropError
from cumprop.flops import Flops, added, component, counting, plain
from cumprop.functionals.output_law import OutputLaw
from cumprop.functionals.samples import Function
from cumprop.inputs import Mixture
from cumprop.networks import MLP
from cumprop.sampling import SCRAMBLINGS

Array = NDArray[Any]

POINTS, MOST_NUMBERS = 2**14, 2**21
"""The number of points, and the most numbers that points of many outputs have; at least 2^11."""
REMEDY = "give a tolerance"
ERRORS = 8
"""The number of sets of signs by which the errors of means and deviations are tried."""
NEXT_ORDER = 2.5
"""The half width of a 95% interval for what the next order would change, in changes that the third
cumulants make. Calibrated by docs/calibrate_classes.py."""
UNSEEN = 0.1
"""The half width for bends far out, which moments do not show, of a probability or in standard
deviations of a function: this share of the square of the share ν of nonlinear variance."""
STUDENT = 2.365
"""Student's 97.5% quantile for 8 scramblings."""
RARE = 0.01
"""The share of the points that counts as rare."""


@dataclass(frozen=True, eq=False)
class Integrals:
    """Expected values of m functions of the outputs, (m,), with their errors.

    `bent` is the change by third cumulants, None where these are not known; `noise` the standard
    error of the points, `moved` the expected error by those of means and deviations, `deviation`
    the standard deviation of each function, `unseen` the square of the nonlinear share ν,
    `spread` the sign of that name (mathematics §11), and `rare` the share of the function's
    absolute deviations from its median that the largest 1% of them hold; a normal law has 0.04, a
    mixture the average of its components, weighted by their deviations.
    """

    value: Array
    bent: Array | None
    noise: Array
    moved: Array
    deviation: Array
    unseen: Array
    spread: Array
    rare: Array

    def split(self, pieces: int) -> list[Integrals]:
        """The integrals of equal pieces of the functions, in their order."""
        known = [
            [None] * pieces if values is None else np.split(values, pieces)
            for values in vars(self).values()
        ]
        return [Integrals(*values) for values in zip(*known, strict=True)]

    def half_width(self, next_order: Array, unit: float = 1.0) -> Array:
        """The half width of a 95% interval of each value, (m,).

        `next_order` is the expected size of what the next order would change, `unit` that in which
        `unseen` is.
        """
        parts = (
            STUDENT * self.noise,
            QUANTILE * self.moved,
            NEXT_ORDER * next_order,
            UNSEEN * unit * self.unseen,
        )
        half_width: Array = np.sqrt(sum(np.square(part) for part in parts))
        return half_width


def integrals(
    law: OutputLaw, function: Function, signs: Signs | None, rng: np.random.Generator
) -> Integrals:
    """The expected values of a function of the outputs whose values are (N, m), for rows (N, k).

    Cost: 10 values of the function at 2^14 points (fewer from 128 outputs on).
    """
    k = len(law.mean)
    n_points = max(2**11, min(POINTS, 2 ** int(np.log2(MOST_NUMBERS / k))))
    z = law.normals(n_points, rng)
    y = law.points(z)
    values = plain(function(y))
    blocks = values.reshape(-1, SCRAMBLINGS, values.shape[1]).mean(axis=0)
    value = blocks.mean(axis=0)
    flips = rng.choice((-1.0, 1.0), (ERRORS, 2, k))
    shifts = [plain(function(law.moved(y, flip))).mean(axis=0) - value for flip in flips]
    bent = None
    if law.bend is not None:
        bent = value - plain(function(law.gaussian(z))).mean(axis=0)
    return Integrals(
        value=value,
        bent=bent,
        noise=blocks.std(axis=0, ddof=1) / np.sqrt(SCRAMBLINGS),
        moved=np.sqrt(np.mean(np.square(shifts), axis=0)),
        deviation=values.std(axis=0),
        unseen=np.full_like(value, signs.nonlinear**2 if signs else 0.0),
        spread=np.full_like(value, signs.spread if signs else 0.0),
        rare=_rare(values),
    )


def _rare(values: Array) -> Array:
    away = np.abs(values - np.median(values, axis=0))
    total, few = away.sum(axis=0), int(RARE * len(away))
    largest = np.partition(away, -few, axis=0)[-few:].sum(axis=0)
    share: Array = np.divide(largest, total, out=np.zeros_like(total), where=total > 0)
    return share


def mixed(weights: Sequence[float], parts: Sequence[Integrals]) -> Integrals:
    """The integrals over a mixture; errors of its components may be alike, their noise is not.

    `bent` is then the sum of the sizes of what third cumulants change.
    """

    def total(values: Sequence[Any]) -> Any:
        return sum(w * value for w, value in zip(weights, values, strict=True))

    value = total([part.value for part in parts])
    known = [np.abs(part.bent) for part in parts if part.bent is not None]
    deviations = total([part.deviation for part in parts])
    scatter = [np.square(part.deviation) + np.square(part.value - value) for part in parts]
    noise = [np.square(w * part.noise) for w, part in zip(weights, parts, strict=True)]
    return Integrals(
        value=value,
        bent=total(known) if len(known) == len(parts) else None,
        noise=np.sqrt(sum(noise)),
        moved=total([part.moved for part in parts]),
        deviation=np.sqrt(total(scatter)),
        unseen=total([part.unseen for part in parts]),
        spread=total([part.spread for part in parts]),
        rare=np.divide(
            total([part.rare * part.deviation for part in parts]),
            deviations,
            out=np.zeros_like(value),
            where=deviations > 0,
        ),
    )


@dataclass(frozen=True, eq=False)
class FromMoments:
    """The integrals of a network's outputs, the cost, and reasons to doubt them; "" for none."""

    integrals: Integrals
    flops: Flops
    doubt: str


def from_moments(
    network: MLP, estimator: Estimator, function: Function, seed: int, quadratic: bool = False
) -> FromMoments:
    """The integrals by the moments that an estimator gives of the outputs, without a sample.

    A `quadratic` function reads mean and covariance alone. Raises CumpropError where the estimator
    samples or has no covariance. Cost: an estimate with third cumulants for each component of a
    mixture, and the cost of `integrals`.
    """
    weights, parts = zip(*_components(network), strict=True)
    found = [estimate(part, estimator, cov=True, seed=seed, third=not quadratic) for part in parts]
    if quadratic:
        found = [replace(one, third=ThirdCumulants.none(one.mean)) for one in found]
    rng = streams.output_points(seed, network.shape.width)
    if any(one.n_samples is not None for one in found):
        raise CumpropError(
            f"{estimator.name} samples: take cumulant, or monte_carlo, which counts its samples"
        )
    with counting() as flops, component("outputs"):
        pieces = [integrals(OutputLaw.of(one), function, one.signs, rng) for one in found]
    doubts = [one.status for one in found if is_unreliable(one.status)]
    doubt = f"{doubts[0].removesuffix('; take adaptive')}; {REMEDY}" if doubts else ""
    if not doubt and any(one.third is None for one in found):
        doubt = (
            f"unreliable: outputs are taken as Gaussian, because {estimator.label} has no third "
            f"cumulants of them; take order 3, or {REMEDY}"
        )
    return FromMoments(mixed(weights, pieces), added(*(one.flops for one in found), flops), doubt)


def _components(network: MLP) -> list[tuple[float, MLP]]:
    law = network.input
    if not isinstance(law, Mixture):
        return [(1.0, network)]
    return [
        (weight * share, part)
        for weight, component in law.parts
        for share, part in _components(network.replace(input=component))
    ]
