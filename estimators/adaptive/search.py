"""A search for what meets a tolerance: it takes the steps that `decision` says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, inf, log2, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from cumprop.contract import Estimate, Signs, build, looks_random
from cumprop.errors import CumpropError
from cumprop.flops import Flops, counting, plain
from cumprop.memory import free_memory
from cumprop.networks import MLP
from cumprop.sampling import (
    FEWEST,
    MOST_GROUPS,
    SCRAMBLINGS,
    UNSEEN,
    Replicates,
    added,
    block_size,
    replicates,
    standardised,
)

from ..blend.weights import CONFIDENCE, Blended, is_finite
from ..cumulant import rough
from .decision import (
    DOUBTED,
    SPENT,
    SPREAD,
    Accept,
    Check,
    Draw,
    Order,
    Price,
    Run,
    Sample,
    Seen,
    next_step,
)
from .error_laws import (
    CHEAP,
    LADDER,
    QUANTILE,
    Expansion,
    Rung,
    diverging,
    effective_inputs,
)
from .first_look import cancels, scatter

if TYPE_CHECKING:
    from . import Adaptive

Array = NDArray[Any]

CONTRADICTION = 1e-3
"""Samples so improbable, were an estimate right, refute it."""
APART = 3.0
"""Output variances that differ by such a factor from those of an order's refute it."""
SHARE = 0.05
"""Of an order's FLOPs go into samples that check it, or that show what sampling would take."""
SAME = 0.25
"""Of its own expected error an order has at least, whatever the law of random networks says."""
SOBOL_INPUTS = 8
"""With so few a Sobol sequence is better than orthogonal inputs."""
MANY_BYTES = 1000
"""Orders up to trees take no more bytes per n² and layer."""
ENOUGH, CONFIRMED = 64, 2**12
"""Passes before which none are believed to be enough, 3/tolerance between these: the pairs of
fewer agree by chance, or miss what happens to one of them."""
STILL = 2**20
"""Passes in which no output varies before a search for variation ends."""
SAMPLED = "sampled"
"""The first word of a status where samples were taken."""
LOST = 1e-4
"""Of an output's s.d.: rounding that is more at the output may be much in the layers before it."""
ROUNDING_ERRORS = 10
"""A change of the means by fewer of them says nothing of the expansion."""


@dataclass
class Search:
    """One estimate: what has been run so far, and what it says of the next step.

    The law of random networks expects the order that was `found` last to be `error` output standard
    deviations off; `on_orders` are the FLOPs of those that ran.
    """

    asked: Adaptive
    original: MLP
    cov: bool
    rng: np.random.Generator
    passes: int = 0
    on_orders: int = 0
    found: Estimate | None = None
    order: Order | None = None
    stands: bool | None = None

    def __post_init__(self) -> None:
        self.network, flops = standardised(self.original)
        self.spent = [flops]
        self.samples = self.draw(self.asked.screen / 2, "antithetic", watch=scatter)
        self.first = self.samples
        self.pass_flops = self.spent[-1].total / self.passes
        shape = self.network.shape
        variance = self.original.input_variance
        cov = self.original.input_cov if variance is None else variance
        inputs = effective_inputs(shape, cov)
        bent = [layer.unexplained for layer in self.samples.watched]
        self.expansion = Expansion(shape, inputs, shape.depth * float(np.mean(bent or [0])))
        self.error = self.expansion.error(LADDER[0])
        self.candidates = self.expansion.rungs(self.asked.tolerance)
        self.priced = self.exact
        self.changes = list[float]()

    @property
    def known(self) -> Estimate | None:
        """The last order's estimate, where its network looks random and nothing contradicts it."""
        order = self.order
        if order is None or order.doubt or not order.looks_random or self.stands is False:
            return None
        return self.found

    @property
    def confirmed(self) -> int:
        """Passes before which none are believed to be enough."""
        return min(max(ENOUGH, ceil(UNSEEN / self.asked.tolerance)), CONFIRMED)

    @property
    def exact(self) -> bool:
        """Whether order 2 is: for linear networks, and for means behind one hidden layer."""
        return self.network.depth <= 1

    def result(self) -> Estimate:
        while True:
            match next_step(self.seen()):
                case Draw(n_samples):
                    self.draw_more(n_samples)
                case Price():
                    self.price_sampling(self.candidates[0][1].flops(self.network.shape))
                    self.priced = True
                case Run():
                    self.run(self.candidates.pop(0)[1])
                case Check():
                    assert self.found is not None
                    self.stands = not self.contradicted(self.found)
                case Accept():
                    assert self.found is not None and self.order is not None
                    return self.accepted(self.found, self.order)
                case Sample(reason):
                    return self.sampled(reason)

    def seen(self) -> Seen:
        candidate = self.candidates[0][1] if self.candidates else None
        most = self.asked.most_samples
        return Seen(
            tolerance=self.asked.tolerance,
            passes=self.passes,
            enough=self.need,
            confirmed=min(ENOUGH if self.constant else self.confirmed, most),
            most_samples=min(most, STILL),
            constant=self.constant,
            still=self.still,
            order=self.order,
            stands=self.stands,
            candidate=None if candidate is None else candidate.name,
            exact=self.exact,
            priced=self.priced,
            against=self.against() if self.priced and candidate else None,
        )

    def against(self) -> str | None:
        """Why not to run the next candidate, but to sample."""
        k, rung = self.candidates[0]
        sampling, flops = self.price, rung.flops(self.network.shape)
        if self.is_large(rung) and (why := rung.estimator.supports(self.network)):
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
        """Whether the network does not look random; first samples tell before an order has run."""
        return self.cancels if self.order is None else not self.order.looks_random

    @cached_property
    def cancels(self) -> bool:
        """Whether the first samples show cancellations of no random weights."""
        first = self.first
        with counting() as flops:
            found = cancels(self.network, first.watched, float(first.variance.sum()))
        self.spent.append(flops)
        return found

    def run(self, rung: Rung) -> None:
        """Run an order, and note what it says of itself."""
        known, exact_cov = self.known, self.cov and self.network.depth == 1
        estimator = build("gaussian") if exact_cov else rung.estimator  # order 2 has it not
        self.priced, self.stands = self.exact, None
        with counting() as flops, np.errstate(all="ignore"):
            try:
                found = estimator.estimate(self.network, cov=self.cov)
            except CumpropError:
                found = None
        self.spent.append(flops if found is None else found.flops)
        self.on_orders += self.spent[-1].total
        if found is None or not is_finite(found):
            self.order = Order(rung.name, inf, doubt=f"{rung.name} overflows")
            return
        self.found = found
        if self.exact:
            self.order = Order(rung.name, 0.0, exact=True)
            return
        change = inf if known is None else self.in_units(found.mean - known.mean)
        self.error = self.expansion.error(rung, self.error if known is None else change)
        inputs = self.expansion.inputs
        if found.signs is not None and not looks_random(found.signs, self.network.widths, inputs):
            error = inf if found.expected_error is None else found.expected_error
            self.order = Order(rung.name, error, looks_random=False)
            return
        self.error = max(self.error, SAME * (found.expected_error or 0.0))
        if change < inf:
            self.changes.append(change)
        doubt = None
        if diverging(self.changes, ROUNDING_ERRORS * self.in_units(self.rounding(found))):
            doubt = (
                f"the expansion does not converge: {rung.name} moves the means by "
                f"{self.changes[-1]:.1g} s.d., the order before it by {self.changes[-2]:.1g}"
            )
        self.order = Order(rung.name, self.error, change=change, doubt=doubt)

    def is_large(self, rung: Rung) -> bool:
        """Whether memory must be predicted, which takes about as long as to run the rung."""
        n = max(self.network.widths)
        return bool(rung.power) or MANY_BYTES * self.network.depth * n**2 > free_memory()

    @property
    def unit(self) -> float:
        """Variance of a forward pass, summed over outputs."""
        return float((self.samples.variance + self.samples.noise).sum())

    @property
    def blended(self) -> Blended:
        expected = (SPREAD * self.error) ** 2 * self.unit if self.known else inf
        return Blended(self.samples, self.known, expected)

    def samples_for(self, quantile: float) -> float:
        """Samples of this design that meet the tolerance."""
        return self.blended.samples_for(self.asked.tolerance**2 * self.unit, quantile)

    @property
    def need(self) -> float:
        """Samples of this design that meet the tolerance with confidence; 0 for constants.

        Standard deviations meet it, too, where a covariance is wanted.
        """
        if self.constant:
            return 0.0
        means = self.samples_for(self.samples.quantile(CONFIDENCE))
        stds = self.samples.std_error or 0.0
        return max(means, self.samples.n_samples * (stds / self.asked.tolerance) ** 2)

    @property
    def price(self) -> float:
        """FLOPs of sampling, to expect."""
        freedom = self.samples.freedom
        return self.pass_flops * self.samples_for(float(chdtri(freedom, 1 - CONFIDENCE)) / freedom)

    def in_units(self, difference: Array) -> float:
        """RMS over outputs, in output standard deviations; 0 where none of them varies."""
        squares = float(np.sum(difference.astype(np.float64) ** 2))
        return sqrt(squares / self.unit) if self.unit else 0.0

    def rounding(self, found: Estimate | Replicates) -> Array:
        """Of each output mean: an ulp of the numbers that are added up to it."""
        inputs = found.layer_means[-1] if found.layer_means else np.zeros(self.terms.shape[1])
        sizes: Array = np.abs(found.mean) + self.terms @ np.abs(inputs)
        return float(np.finfo(self.network.dtype).eps) * sizes

    @cached_property
    def terms(self) -> Array:
        """Absolute weights of the outputs."""
        terms: Array = np.abs(self.network.weights[-1]).astype(np.float64)
        return terms

    def is_rounding(self, unit: float) -> bool:
        """Whether output variances of this sum are a matter of rounding."""
        return unit <= float(np.sum(self.rounding(self.samples) ** 2))

    @property
    def still(self) -> bool:
        """Whether no output varied by more than rounding in the samples."""
        return self.is_rounding(self.unit)

    @property
    def constant(self) -> bool:
        """Whether none varies, as the weights have it, too."""
        return self.still and self.is_rounding(0.0 if self.rough is None else self.rough.unit)

    @cached_property
    def rough(self) -> Signs | None:
        """Signs of independent neurons, which take n² FLOPs; None where they overflow."""
        with counting() as flops:
            try:
                _, signs = rough.run(self.network)
            except CumpropError:
                return None
        self.spent.append(flops)
        return signs

    def draw(self, n_samples: float, design: str, **options: Any) -> Replicates:
        drawn = replicates(self.network, ceil(n_samples), design, self.rng, cov=self.cov, **options)
        self.spent.append(drawn.flops)
        self.passes += drawn.n_samples
        return drawn

    def draw_sobol(self, n_samples: int) -> Replicates:
        """Two draws, for one outlier among 8 scramblings hides in their scatter."""
        return self.draw(n_samples / 2, "sobol").joined(self.draw(n_samples / 2, "sobol"))

    def draw_more(self, n_samples: float) -> None:
        """So many more; of a Sobol sequence as many as its scramblings had before."""
        samples = self.samples
        if samples.design == "sobol":
            n_samples = SCRAMBLINGS * int(samples.sizes[0])
        self.samples = samples.joined(self.draw(n_samples, samples.design, fewest=1))

    def price_sampling(self, flops: float) -> None:
        """Look closer at what sampling takes, where it rivals an order of so many FLOPs.

        Samples answer for most networks that do not look random, so that theirs are not wasted.
        """
        if self.looks_trained:
            self.choose_design(flops)
        elif flops > CHEAP * self.price:
            if self.passes < self.asked.screen:
                more = self.draw(
                    self.asked.screen - self.passes, "antithetic", watch=scatter, fewest=1
                )
                self.samples = self.first = self.samples.joined(more)
            if flops <= self.price:
                self.choose_design(SHARE * flops)

    def choose_design(self, flops: float) -> None:
        """Take a Sobol sequence, or try orthogonal inputs, for so many FLOPs."""
        n_0, most = self.network.widths[0], int(flops / self.pass_flops)
        frame = block_size("orthogonal", n_0)
        if self.samples.design != "antithetic":
            return
        if n_0 <= SOBOL_INPUTS and most >= 64:
            self.samples = self.draw_sobol(2 ** int(log2(min(most, 1024))))
        elif n_0 > SOBOL_INPUTS and most >= FEWEST * frame:
            rival = self.draw(frame * min(MOST_GROUPS, most // frame), "orthogonal")
            self.samples = min(self.samples, rival, key=_noise)

    def contradicted(self, estimate: Estimate) -> bool:
        """Whether samples, SHARE of its FLOPs, refute it; if they seem to, twice as many."""
        spent = sum(flops.total - flops.get("input", 0) for flops in self.spent)
        more = SHARE * spent / self.pass_flops - self.passes
        if more >= self.asked.screen:
            self.draw_more(more)
        if self.agrees(estimate, self.asked.screen):
            return False
        self.draw_more(self.samples.n_samples)
        return not self.agrees(estimate, 2 * self.asked.screen)

    def agrees(self, estimate: Estimate, n_samples: int) -> bool:
        """Whether outputs and, of so many new passes, the neurons of all layers agree with it."""
        if self.samples.chance(estimate.mean) < CONTRADICTION:
            return False
        if estimate.signs is not None:
            ratio = self.unit / estimate.signs.unit if estimate.signs.unit > 0 else inf
            if not 1 / APART < ratio < APART:
                return False
        if not estimate.layer_variances:
            return True
        pairs = self.draw(n_samples, "antithetic", watch=_kept)
        depth, columns = self.network.depth, []
        for layer, variances in enumerate(estimate.layer_variances):
            sides = pairs.watched[layer::depth]  # of inputs x, then of -x
            both = zip(sides[::2], sides[1::2], strict=True)
            means, varies = np.concatenate([(a + b) / 2 for a, b in both]), variances > 0
            off = pairs.layer_means[layer] - estimate.layer_means[layer]
            off = means - means.mean(axis=0) + off  # passes may be deviations
            columns.append(off[:, varies] / np.sqrt(variances[varies]))
        groups = np.concatenate(columns, axis=1)
        sizes = np.full(len(groups), 2)
        pooled = Replicates("antithetic", sizes, groups, np.ones(groups.shape[1]), (), Flops())
        return pooled.chance(np.zeros(groups.shape[1])) >= CONTRADICTION

    @property
    def shares(self) -> Array:
        """Of each output in the squared error of an order: as the rows of the last map."""
        last = self.network.weights[-1].astype(np.float64)
        rows = np.square(last / (np.abs(last).max() or 1.0)).sum(axis=1)
        shares: Array = rows / (rows.sum() or 1.0)
        return shares

    def accepted(self, found: Estimate, order: Order) -> Estimate:
        """An order's estimate."""
        rounding, reason = self.rounding(found), order.name
        if order.looks_random:
            stderr = order.error * np.sqrt(self.unit * self.shares)
            half_width = QUANTILE * stderr
        else:
            assert found.half_width is not None and found.signs is not None
            stderr = order.error * np.sqrt(found.signs.unit * found.signs.shares)
            half_width = DOUBTED * found.half_width
        if order.exact:
            reason += ", exact for one hidden layer" if self.network.depth else ", exact"
        elif order.change < inf:
            reason += f", which moves the means by {order.change:.1g} s.d."
        return replace(
            found,
            stderr=stderr + rounding,
            half_width=half_width + 2 * rounding,
            expected_error=order.error + self.in_units(rounding),
            flops=added(*self.spent),
            n_samples=self.passes,
            status=_status(reason, order.error, self.about_std(found.expected_std_error)),
        )

    def about_std(self, error: float | None) -> str:
        """What a status says of standard deviations that miss the tolerance."""
        if error is None or error <= self.asked.tolerance:
            return "ok"
        return f"standard deviations are expected to be {error:.1%} off"

    def sampled(self, reason: str) -> Estimate:
        """Samples of the best design seen, until they meet the tolerance with confidence."""
        self.choose_design(self.need * self.pass_flops / 4)
        if self.need > self.samples.n_samples and _noise(self.samples) > self.unit:
            self.samples = self.draw(self.samples.n_samples, "iid")
        most, least = self.asked.most_samples, 0 if self.constant else self.confirmed
        while (n := self.samples.n_samples) < (goal := min(max(self.need, least), most)):
            longer = sqrt(n * goal)  # of a Sobol sequence, whose variance falls as 1/n²
            if self.samples.design == "sobol" and longer >= 2 * n:
                self.samples = self.draw_sobol(2 ** int(log2(longer)))
            else:
                self.draw_more(goal - n if goal < 1.1 * n else min((goal - n) / 2, n))
        found, both = self.samples, self.blended
        if found.n_samples < self.need:
            reason = f"tolerance {self.asked.tolerance:g} takes more than most_samples; {reason}"
        choice = f"{SAMPLED} {found.n_samples:,} {found.design} inputs"
        if self.known:
            choice += f", with weight {both.weight:.2g} on the last order"
        known = self.known or Estimate(found.mean, found.layer_means, found.spread)
        order, w = both.left * np.sqrt(self.shares), both.weight
        stderr = np.hypot((1 - w) * np.sqrt(found.noise), order)
        half_width = np.hypot((1 - w) * found.half_width, QUANTILE * order)
        eps = float(np.finfo(self.network.dtype).eps)
        rounding = eps * np.sqrt(found.variance + found.mean**2)
        if (rounding > LOST * np.sqrt(found.variance)).any() and self.rough is not None:
            rounding = np.maximum(rounding, self.rough.rounding * np.sqrt(self.rough.shares))

        def mean(order: Any, samples: Any) -> Any:
            return both.mean(order, samples).astype(self.network.dtype)

        return Estimate(
            mean=mean(known.mean, found.mean),
            layer_means=tuple(map(mean, known.layer_means, found.layer_means)),
            cov=mean(known.cov, found.spread) if self.cov else None,
            stderr=np.hypot(stderr, rounding),
            half_width=np.hypot(half_width, 2 * rounding),
            flops=added(*self.spent),
            n_samples=self.passes,
            expected_error=0.0 if self.constant else self.in_units(stderr),
            expected_std_error=found.std_error,
            status=_status(choice, 0.0 if self.constant else self.in_units(stderr), reason),
        )


def _noise(samples: Replicates) -> float:
    """Variance per sample, summed over outputs."""
    return float(samples.noise.sum()) * samples.n_samples


def _kept(z: Array, x: Array) -> Array:
    """A copy of the activations of a batch."""
    kept: Array = plain(x).astype(np.float64)
    return kept


def _status(choice: str, error: float, note: str) -> str:
    parts = [choice, f"estimated error {error:.2g} output s.d."]
    return "; ".join(parts if note == "ok" else [*parts, note])
