"""The expected error of a deterministic estimate, from signs that the estimate computes itself.

The laws are fitted by `docs/calibrate.py` to networks whose truth was sampled (mathematics §11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import hypot, inf, isfinite, prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.contract.laws import LAWS, QUANTILE
from cumprop.contract.printing import percent
from cumprop.flops import on_host

Array = NDArray[Any]

LARGEST_ERROR = 0.1
"""Means with a larger expected error, in output standard deviations, are unreliable."""
LEAST_ROUGH_ERROR, LARGEST_ROUGH_ERROR = 2e-3, 0.01
"""The least and the largest expected error where only a second `rough` estimate shows the error.

Both estimates may be wrong alike, so that a nonlinear network never has less than the first."""
LARGEST_STD_ERROR, LARGEST_ROUGH_STD_ERROR = 0.2, 0.1
"""Standard deviations with a larger expected relative error are unreliable."""
DIRECTIONS = 0.65
"""A network looks random if it has at least this share of the directions of random weights."""
CANCELLATION = (0.9, 1.35)
"""The range of the cancellations in the maps between layers of a network that looks random."""
LAST_CANCELLATION = (0.6, 1.6)
"""The same range for the output map."""
ACCIDENT = 0.2
"""The share of `bend` that neglected terms have at least, unless by accident or symmetry."""
NOTHING = 1e-12
"""A nonlinearity below this is rounding."""
LOCAL, COHERENT = 2 / 3, 10.0
"""The share of zeros in a map from which it is taken for a convolution, and the factor by which
errors are larger there: its neurons share weights, so that their errors add up, like means, and the
laws have them add up like noise. The factor reached 15 at order 2 and 5 at order 3."""
FEW = 5.0
"""Fewer directions of a layer are named in the reason of a status."""


@dataclass(frozen=True, eq=False)
class Signs:
    """Signs of its own errors that a propagation through L hidden layers computes.

    `participation` are effective numbers of directions of Z_l: (tr B)² / tr B², B the correlations
    weighted by what each neuron contributes to the variance of the next layer; `nonlinearity` ν_l
    is the share of that variance which no linear function of Z_l explains, l = 1..L;
    `cancellation` of the maps 2..L+1 is the variance of their results, were their inputs
    independent, over the variance itself; `common` is the share of it that comes from what the
    bends of any two neurons have in common, looked at where Z_l has few directions. `neglected` is
    the effect on the output means of the terms beyond leading order, to first order, in output
    standard deviations: of those that an order leaves out, or of those that it has and order 2
    leaves out. `correction` is the root of what they change of the variances of neurons, relative.
    `unit` is the sum of the output variances, 0 where it is a matter of rounding; `rounding` the
    root of the summed squares of the errors that arithmetic is expected to make, in units of the
    outputs, and `shares` (n_{L+1},) deals out the squared errors to the outputs. `zeros` is the
    largest share of zeros in a map between layers, where neurons see more than one other.

    >>> signs = Signs((50, 50), (0.3, 0.2, 0.1), (1, 1, 1), (0, 0, 0), 0.01, 0, 0, 1.0, np.ones(1))
    >>> round(signs.step, 3), round(signs.bend, 4), round(signs.blur, 4)
    (0.2, 0.0057, 0.0072)
    """

    participation: tuple[float, ...]
    nonlinearity: tuple[float, ...]
    cancellation: tuple[float, ...]
    common: tuple[float, ...]
    neglected: float
    correction: float
    rounding: float
    unit: float
    shares: NDArray[np.float64]
    zeros: float = 0.0

    @property
    def depth(self) -> int:
        """Number of hidden layers L."""
        return len(self.nonlinearity)

    @property
    def step(self) -> float:
        """The size q of a step of the expansion, q² = Σ 1/participation over Z_1..Z_{L-1}."""
        return sqrt(sum(1 / p for p in self.participation[: max(self.depth - 1, 0)]))

    @property
    def nonlinear(self) -> float:
        """ν, the sum of the ν_l."""
        return sum(self.nonlinearity)

    @cached_property
    def bend(self) -> float:
        """Non-Gaussian shares of the layers, bent by the next, as errors of the output means.

        Layer l makes ν_l / participation_l of the variance of layer l + 1 non-Gaussian, of which
        the most nonlinear layer behind makes an error of its mean. The errors of neurons count as
        independent: the maps behind amplify them by their cancellation.
        """
        behind = [*accumulate(self.nonlinearity[:0:-1], max)][::-1]
        errors = [
            sqrt(after) * (sqrt(share) / directions + sqrt(common))
            for after, share, directions, common in zip(
                behind, self.nonlinearity, self.participation, self.common, strict=False
            )
        ]
        return self._transported(errors, 1)

    @property
    def moved(self) -> float:
        """`neglected`, or where its terms cancel a fifth of `bend`."""
        return hypot(self.neglected, ACCIDENT * self.bend)

    @property
    def blur(self) -> float:
        """Non-Gaussian shares of the layers as errors of the output variances."""
        shares = zip(self.nonlinearity, self.participation, self.common, strict=False)
        return self._transported([share / p + common for share, p, common in shares], 0)

    @property
    def spread(self) -> float:
        """`correction` and `blur` together: 0 only where the covariance is exact."""
        return hypot(self.correction, self.blur)

    @property
    def unsettled(self) -> float:
        """The error that stays in variances which change by `correction`²: half its square."""
        return self.correction**4 / 2

    @property
    def curved(self) -> float:
        """Half of ν q²: how far few directions, bent layer after layer, are from Gaussian."""
        return self.nonlinear * self.step**2 / 2

    def _transported(self, errors: Sequence[float], behind: int) -> float:
        total, maps = 0.0, self.cancellation[behind:]
        for error, cancellation in zip(errors, maps, strict=False):
            total = (total + error * error) * cancellation
        return sqrt(total * prod(maps[len(errors) :]))


def looks_random(signs: Signs, widths: Sequence[int], inputs: float) -> bool:
    """Whether directions and cancellations are those of random weights of these widths.

    With random weights Z_l has about 1 / (1/n_0 + … + 1/n_l) directions, `inputs` being n_0, and
    the cancellations are about 1. On 47 random networks the directions were at least 0.67 of that,
    and the cancellations 0.93 to 1.3 (0.66 to 1.4 in the last map); in wider networks both are
    nearer to 1. Training changes at least one of them.

    >>> few = Signs((3.0,), (0.3, 0.2), (1.0, 1.0), (0.0, 0.0), 0.1, 0.0, 0.0, 1.0, np.ones(1))
    >>> looks_random(few, (64, 64, 64, 1), 64.0)
    False
    """
    expected = np.cumsum([1 / inputs, *(1 / n for n in widths[1:-1])])[1:]
    ratios = [share * n for share, n in zip(expected, signs.participation, strict=False)]
    *hidden, last = signs.cancellation or (1.0,)
    return (
        all(ratio >= DIRECTIONS for ratio in ratios)
        and all(is_usual(c, CANCELLATION) for c in hidden)
        and is_usual(last, LAST_CANCELLATION)
    )


def is_usual(cancellation: float, limits: tuple[float, float], error: float = 1.0) -> bool:
    """Whether random weights may have this cancellation, known up to a factor of `error`.

    >>> is_usual(0.8, CANCELLATION), is_usual(0.8, CANCELLATION, error=1.25)
    (False, True)
    """
    least, most = limits
    return least / error <= cancellation <= most * error


@dataclass(frozen=True, eq=False)
class Trust:
    """The errors and the status of an estimate: the fields of `Estimate` with these names."""

    expected_error: float | None
    expected_std_error: float | None
    half_width: Array | None
    status: str
    signs: Signs


def trust(
    name: str, signs: Signs, mean: Array, std: bool, notes: Sequence[str] = (), lost: bool = False
) -> Trust:
    """The expected errors of the estimate `name` ("order 2", "gaussian"), and its status.

    `mean` is the estimated mean, (n_{L+1},); `std` says whether standard deviations are estimated
    too; `notes` are further reasons for the status "unreliable"; `lost` says that negative
    variances were taken as 0, so that nothing is known of outputs without variance. The error is
    the law of the name in `laws.LAWS` (mathematics §11), and rounding.
    """
    if lost and signs.unit == 0:
        return Trust(None, None, None, _status(notes), signs)
    means, stds = LAWS[name]
    size = sqrt(signs.unit)
    rounding = signs.rounding / size if size > 0 else 0.0
    alike = COHERENT if signs.zeros > LOCAL else 1.0
    error = alike * _expected(means, signs) + rounding if size > 0 else 0.0
    std_error = (alike * _expected(stds, signs) + rounding if size > 0 else 0.0) if std else None
    if name == "gaussian" and size > 0:  # variances that are off move means by the next bend
        error = max(error, signs.curved * sqrt(signs.nonlinear) / 2)
    if std_error is not None and size > 0:
        beyond = signs.curved if name in ("order 2", "gaussian") else signs.unsettled
        std_error = max(std_error, beyond)  # where the laws were not calibrated
    reasons = [*notes]
    rough = name in ("linearized", "unscented")
    if rough and size > 0 and signs.nonlinear > NOTHING:
        error = max(error, signs.neglected, LEAST_ROUGH_ERROR)
    if rounding > LARGEST_ERROR:
        reasons.append("rounding is a matter of output s.d.: take float64")
    if not np.isfinite(on_host(mean)).all() or not isfinite(error):
        error, reasons = inf, [*reasons, "the numbers leave the range of their type"]
    elif error - rounding > (LARGEST_ROUGH_ERROR if rough else LARGEST_ERROR):
        reasons.append(f"means are expected to be {error:.1g} output s.d. off{_why(signs)}")
    largest = LARGEST_ROUGH_STD_ERROR if rough else LARGEST_STD_ERROR
    if std_error is not None and rounding <= LARGEST_ERROR and not std_error <= largest:
        reasons.append(f"standard deviations are expected to be {percent(std_error)} off")
    half_width = (
        QUANTILE * (error * size + (0 if size > 0 else signs.rounding)) * np.sqrt(signs.shares)
    )
    return Trust(error, std_error, half_width, _status(reasons), signs)


def _status(reasons: Sequence[str]) -> str:
    return f"unreliable: {'; '.join(reasons)}; take adaptive" if reasons else "ok"


def _expected(law: Mapping[str, float], signs: Signs) -> float:
    """scale · Π sign^power."""
    powers = (getattr(signs, sign) ** power for sign, power in law.items() if sign != "scale")
    return float(law["scale"] * prod(powers))


def _why(signs: Signs) -> str:
    fewest = min(signs.participation, default=FEW)
    return f" ({fewest:.1f} directions carry a layer)" if fewest < FEW else ""
