"""The next step of `adaptive`: a pure function of what a search has seen (mathematics §10)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

SPREAD = 1.3
"""On a network that looks random, an order is accepted if its expected RMS error times this factor
is within the tolerance."""
DOUBTED = 2.0
"""The factor for other networks: 98% of their errors are below it (docs/calibration.md)."""
SPENT = 0.04
"""The share of the FLOPs of sampling for orders, on a network that does not look random."""


@dataclass(frozen=True)
class Order:
    """The errors that the last order expects of itself.

    Errors are in output standard deviations; `change` is the change of the means since the order
    before, `std_error` is relative (None: no standard deviations are wanted). `doubt` is a reason
    not to accept the order.
    """

    name: str
    error: float
    looks_random: bool = True
    exact: bool = False
    change: float = inf
    doubt: str | None = None

    def meets(self, tolerance: float) -> bool:
        """Whether the error times the factor for this kind of network is within the tolerance."""
        if self.looks_random:
            return min(SPREAD * self.error, self.change) <= tolerance
        return DOUBTED * self.error <= tolerance


@dataclass(frozen=True)
class Seen:
    """The state of a search: its samples, the last order and the next one.

    `passes` are drawn; by their scatter, `enough` passes meet the tolerance with confidence; fewer
    than `confirmed` passes are never enough. `constant`: by samples and weights, no output varies
    by more than rounding; `still`: no output has varied in the samples. `candidate` is the next
    order (None: there is none left), whose means may be `exact`, and `against` a reason not to run
    it, known once sampling is `priced`. `stands` says whether samples agree with the last order,
    None before the comparison.
    """

    tolerance: float
    passes: int
    enough: float
    confirmed: int
    most_samples: int
    constant: bool = False
    still: bool = False
    order: Order | None = None
    stands: bool | None = None
    candidate: str | None = None
    exact: bool = False
    priced: bool = False
    against: str | None = None


@dataclass(frozen=True)
class Draw:
    """Draw this number of further passes."""

    n_samples: float


@dataclass(frozen=True)
class Price:
    """Measure the cost of sampling more precisely."""


@dataclass(frozen=True)
class Run:
    """Run the candidate."""


@dataclass(frozen=True)
class Check:
    """Compare samples with the order, in all layers."""


@dataclass(frozen=True)
class Accept:
    """Answer with the order."""


@dataclass(frozen=True)
class Sample:
    """Answer with samples."""

    reason: str


Step = Draw | Price | Run | Check | Accept | Sample


def next_step(seen: Seen) -> Step:
    """The next step of a search.

    >>> from dataclasses import replace
    >>> seen = Seen(0.01, passes=64, enough=5e4, confirmed=64, most_samples=10**8)
    >>> next_step(replace(seen, candidate="order 2"))
    Price()
    >>> next_step(replace(seen, candidate="order 2", priced=True))
    Run()
    >>> next_step(replace(seen, order=Order("order 2", error=0.004)))
    Check()
    >>> next_step(replace(seen, order=Order("order 2", error=0.006, looks_random=False)))
    Sample(reason='order 2 is expected to be 0.006 s.d. off')
    """
    if seen.order is None and seen.exact and seen.against is None:
        return Run()
    if seen.order is None:
        if (seen.constant or seen.enough <= seen.passes) and seen.passes < seen.confirmed:
            return Draw(seen.confirmed - seen.passes)
        if seen.constant:
            return Sample("the outputs vary by no more than rounding")
        if seen.still:
            if 2 * seen.passes <= seen.most_samples:
                return Draw(seen.passes)
            return Sample(f"no output varied in {seen.passes:,} samples")
        if seen.enough <= seen.passes:
            return Sample("the first samples are enough")
    elif seen.order.doubt:
        return Sample(seen.order.doubt)
    elif seen.order.exact:
        return Accept()
    elif seen.order.meets(seen.tolerance):
        if seen.stands is None:
            return Check()
        if seen.stands:
            return Accept()
        return Sample(f"{seen.passes:,} samples contradict {seen.order.name}")
    if seen.candidate is None:
        assert seen.order is not None
        return Sample(f"{seen.order.name} is expected to be {seen.order.error:.1g} s.d. off")
    if not seen.priced:
        return Price()
    return Run() if seen.against is None else Sample(seen.against)
