"""The search for an estimate that meets a tolerance, by the steps that `decision` chooses."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, log2, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from cumprop.contract import Estimate, build, looks_random
from cumprop.errors import CumpropError
from cumprop.flops import counting
from cumprop.memory import free_memory
from cumprop.networks import MLP
from cumprop.sampling import UNSEEN

from ..blend.weights import CONFIDENCE, Blended, is_finite
from .answers import accepted, sampled
from .check import contradicted
from .decision import SPENT, SPREAD, Accept, Check, Draw, Order, Price, Run, Sample, Seen, next_step
from .error_laws import CANDIDATES, CHEAP, Candidate, Expansion, diverging, effective_inputs
from .sampler import Sampler, noise_per_sample

if TYPE_CHECKING:
    from . import Adaptive

Array = NDArray[Any]

SHARE = 0.05
"""The share of an order's FLOPs for samples that show the cost of sampling."""
SAME = 0.25
"""An order is never expected to have less than this share of the error that it reports."""
MANY_BYTES = 1000
"""The most bytes per n² and layer of orders up to trees."""
ENOUGH, CONFIRMED = 64, 2**12
"""The limits of 3/tolerance, the least number of passes that can be enough.

Fewer pairs of passes can agree by chance, or miss a rare event."""
STILL = 2**20
"""The number of passes without variation of any output that ends a search for variation."""
ROUNDING_ERRORS = 10
"""A change of the means by fewer rounding errors says nothing about the expansion."""


@dataclass
class Search:
    """The search for one estimate: all that has run so far, and the state for the next step.

    The order that was `found` last has an expected `error` in output standard deviations, by the
    law of random networks; `on_orders` are the FLOPs of the orders that ran.
    """

    asked: Adaptive
    original: MLP
    cov: bool
    rng: np.random.Generator
    on_orders: int = 0
    found: Estimate | None = None
    order: Order | None = None
    stands: bool | None = None

    def __post_init__(self) -> None:
        self.sampler = Sampler(self.original, self.cov, self.rng, self.asked.screen)
        shape = self.sampler.network.shape
        variance = self.original.input_variance
        cov = self.original.input_cov if variance is None else variance
        inputs = effective_inputs(shape, cov)
        bent = [layer.unexplained for layer in self.sampler.samples.watched]
        self.expansion = Expansion(shape, inputs, shape.depth * float(np.mean(bent or [0])))
        self.error = self.expansion.error(CANDIDATES[0])
        self.candidates = self.expansion.candidates(self.asked.tolerance)
        self.priced = self.exact
        self.changes = list[float]()

    @property
    def known(self) -> Estimate | None:
        """The last order's estimate, if the network looks random and no sample contradicts it."""
        order = self.order
        if order is None or order.doubt or not order.looks_random or self.stands is False:
            return None
        return self.found

    @property
    def confirmed(self) -> int:
        """The least number of passes that can be enough."""
        return min(max(ENOUGH, ceil(UNSEEN / self.asked.tolerance)), CONFIRMED)

    @property
    def exact(self) -> bool:
        """Whether order 2 is exact: for linear networks, and for means after one hidden layer."""
        return self.sampler.network.depth <= 1

    def result(self) -> Estimate:
        while True:
            match next_step(self.seen()):
                case Draw(n_samples):
                    self.sampler.draw_more(n_samples)
                case Price():
                    self.price_sampling(self.candidates[0][1].flops(self.sampler.network.shape))
                    self.priced = True
                case Run():
                    self.run(self.candidates.pop(0)[1])
                case Check():
                    assert self.found is not None
                    self.stands = not contradicted(self.sampler, self.found, self.asked.screen)
                case Accept():
                    assert self.found is not None and self.order is not None
                    return accepted(self.sampler, self.found, self.order, self.asked.tolerance)
                case Sample(reason):
                    return self.sampled(reason)

    def seen(self) -> Seen:
        candidate = self.candidates[0][1] if self.candidates else None
        most = self.asked.most_samples
        return Seen(
            tolerance=self.asked.tolerance,
            passes=self.sampler.passes,
            enough=self.need,
            confirmed=min(ENOUGH if self.sampler.constant else self.confirmed, most),
            most_samples=min(most, STILL),
            constant=self.sampler.constant,
            still=self.sampler.still,
            order=self.order,
            stands=self.stands,
            candidate=None if candidate is None else candidate.name,
            exact=self.exact,
            priced=self.priced,
            against=self.against() if self.priced and candidate else None,
        )

    def against(self) -> str | None:
        """The reason to sample instead of running the next candidate, None if there is none."""
        k, candidate = self.candidates[0]
        sampling, flops = self.price, candidate.flops(self.sampler.network.shape)
        if self.is_large(candidate) and (why := candidate.estimator.supports(self.sampler.network)):
            return why
        if self.exact:
            return None
        if self.order and not self.order.looks_random:
            if self.on_orders + flops > SPENT * sampling:
                return f"{self.order.name} is expected to be {self.order.error:.1g} s.d. off"
            return None
        why = self.expansion.why_not(k, self.error, self.asked.tolerance, sampling)
        if why is None and flops > SPENT * sampling and self.looks_trained:
            return "the variances of its layers are not those of random weights"
        return why

    @property
    def looks_trained(self) -> bool:
        """Whether the network does not look random, by the last order or else the first samples."""
        return self.sampler.cancels if self.order is None else not self.order.looks_random

    def run(self, candidate: Candidate) -> None:
        """Run an order, and keep its estimate and its expected errors."""
        known, exact_cov = self.known, self.sampler.cov and self.sampler.network.depth == 1
        estimator = build("gaussian") if exact_cov else candidate.estimator  # order 2 has it not
        self.priced, self.stands = self.exact, None
        with counting() as flops, np.errstate(all="ignore"):
            try:
                found = estimator.estimate(self.sampler.network, cov=self.sampler.cov)
            except CumpropError:
                found = None
        self.sampler.spent.append(flops if found is None else found.flops)
        self.on_orders += self.sampler.spent[-1].total
        if found is None or not is_finite(found):
            self.order = Order(candidate.name, inf, doubt=f"{candidate.name} overflows")
            return
        self.found = found
        if self.exact:
            self.order = Order(candidate.name, 0.0, exact=True)
            return
        change = inf if known is None else self.sampler.in_units(found.mean - known.mean)
        self.error = self.expansion.error(candidate, self.error if known is None else change)
        inputs = self.expansion.inputs
        if found.signs is not None and not looks_random(
            found.signs, self.sampler.network.widths, inputs
        ):
            error = inf if found.expected_error is None else found.expected_error
            self.order = Order(candidate.name, error, looks_random=False)
            return
        self.error = max(self.error, SAME * (found.expected_error or 0.0))
        if change < inf:
            self.changes.append(change)
        doubt = None
        if diverging(
            self.changes, ROUNDING_ERRORS * self.sampler.in_units(self.sampler.rounding(found))
        ):
            doubt = (
                f"the expansion does not converge: {candidate.name} moves the means by "
                f"{self.changes[-1]:.1g} s.d., the order before it by {self.changes[-2]:.1g}"
            )
        self.order = Order(candidate.name, self.error, change=change, doubt=doubt)

    def is_large(self, candidate: Candidate) -> bool:
        """Whether memory must be predicted, which takes about as long as running the candidate."""
        n = max(self.sampler.network.widths)
        return (
            bool(candidate.power) or MANY_BYTES * self.sampler.network.depth * n**2 > free_memory()
        )

    @property
    def blended(self) -> Blended:
        expected = (SPREAD * self.error) ** 2 * self.sampler.unit if self.known else inf
        return Blended(self.sampler.samples, self.known, expected)

    def samples_for(self, quantile: float) -> float:
        """The number of samples of this design that meet the tolerance at a quantile."""
        return self.blended.samples_for(self.asked.tolerance**2 * self.sampler.unit, quantile)

    @property
    def need(self) -> float:
        """The number of samples of this design that meet the tolerance with confidence.

        It is 0 for constants. Standard deviations meet the tolerance, too, if a covariance is
        wanted.
        """
        if self.sampler.constant:
            return 0.0
        means = self.samples_for(self.sampler.samples.quantile(CONFIDENCE))
        stds = self.sampler.samples.std_error or 0.0
        return max(means, self.sampler.samples.n_samples * (stds / self.asked.tolerance) ** 2)

    @property
    def price(self) -> float:
        """The expected FLOPs of sampling."""
        freedom = self.sampler.samples.freedom
        return self.sampler.pass_flops * self.samples_for(
            float(chdtri(freedom, 1 - CONFIDENCE)) / freedom
        )

    def price_sampling(self, flops: float) -> None:
        """Measure the cost of sampling more precisely if it is near that of an order of `flops`.

        On most networks that do not look random, the answer uses these samples.
        """
        if self.looks_trained:
            self.sampler.choose_design(flops)
        elif flops > CHEAP * self.price:
            self.sampler.look_closer(self.asked.screen)
            if flops <= self.price:
                self.sampler.choose_design(SHARE * flops)

    def sampled(self, reason: str) -> Estimate:
        """The answer of samples of the best design, drawn until they meet the tolerance."""
        sampler = self.sampler
        sampler.choose_design(self.need * sampler.pass_flops / 4)
        if (
            self.need > sampler.samples.n_samples
            and noise_per_sample(sampler.samples) > sampler.unit
        ):
            sampler.samples = sampler.draw(sampler.samples.n_samples, "iid")
        most, least = self.asked.most_samples, 0 if sampler.constant else self.confirmed
        while (n := sampler.samples.n_samples) < (goal := min(max(self.need, least), most)):
            longer = sqrt(n * goal)  # of a Sobol sequence, whose variance falls as 1/n²
            if sampler.samples.design == "sobol" and longer >= 2 * n:
                sampler.samples = sampler.draw_sobol(2 ** int(log2(longer)))
            else:
                sampler.draw_more(goal - n if goal < 1.1 * n else min((goal - n) / 2, n))
        if sampler.samples.n_samples < self.need:
            reason = f"tolerance {self.asked.tolerance:g} takes more than most_samples; {reason}"
        return sampled(sampler, self.known, self.blended, reason)
