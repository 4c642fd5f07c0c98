"""What `adaptive` does next: a pure function of what a search has seen (mathematics §10)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

SPREAD = 1.3
"""Of a network that looks random an order is accepted if so many times its expected RMS error are
within the tolerance."""
DOUBTED = 2.0
"""Of any other network: 98% of the errors are below so many expected ones (docs/calibration.md)."""
SPENT = 0.04
"""Of what sampling takes may be spent on orders for a network that does not look random."""


@dataclass(frozen=True)
class Order:
    """What the last order that ran says of itself.

    Errors are in output standard deviations; `change` is that of the means since the order before,
    `std_error` relative (None: no standard deviations are asked for). `doubt` is a reason not to
    believe it.
    """

    name: str
    error: float
    looks_random: bool = True
    exact: bool = False
    change: float = inf
    doubt: str | None = None

    def meets(self, tolerance: float) -> bool:
        """Whether the error is within the tolerance, as far as the network can be trusted."""
        if self.looks_random:
            return min(SPREAD * self.error, self.change) <= tolerance
        return DOUBTED * self.error <= tolerance


@dataclass(frozen=True)
class Seen:
    """What a search knows: of its samples, of the last order and of the next one.

    `passes` are drawn, `enough` meet the tolerance with confidence as they scatter, and before
    `confirmed` of them none are believed. `constant`: no output varies by more than rounding, as
    samples and weights have it; `still`: none has varied in the samples. `candidate` is the next
    order (None: there is none left), whose means may be `exact`, and `against` a reason not to run
    it, known once sampling is `priced`. `stands` says whether samples agree with the last order,
    None if they were not asked.
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
    """Draw so many more passes."""

    n_samples: float


@dataclass(frozen=True)
class Price:
    """Look closer at what sampling takes."""


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
