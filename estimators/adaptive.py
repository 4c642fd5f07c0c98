"""Backend `adaptive`: the orders, or samples, that meet a tolerance (mathematics §10)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf, log2, sqrt
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from cumprop import streams
from cumprop.blending import CONFIDENCE, Blended, is_finite
from cumprop.designs import SCRAMBLINGS, block_size
from cumprop.errors import CumpropError
from cumprop.estimator import Cost, Estimate, Estimator, Shape, build, register
from cumprop.flops import counting
from cumprop.ladder import (
    CHEAP,
    LADDER,
    QUANTILE,
    SPREAD,
    Expansion,
    Rung,
    diverging,
    effective_inputs,
    unexplained,
)
from cumprop.memory import free_memory
from cumprop.networks import MLP
from cumprop.replicates import FEWEST, GROUPS, Replicates, added, replicates, standardised

Array = NDArray[Any]


CONTRADICTION = 1e-3
"""Samples so improbable, were an estimate right, refute it."""
SHARE = 0.05
"""Of an order's FLOPs go into samples that check it, or that show what sampling would take."""
SOBOL_INPUTS = 8
"""With so few a Sobol sequence is better than orthogonal inputs."""
MANY_BYTES = 1000
"""Orders up to trees take no more bytes per n² and layer."""
ENOUGH = 64
"""Passes before which none are believed to be enough: the pairs of fewer agree by chance."""
SAMPLED = "sampled"
"""The first word of a status where samples were taken."""
ROUNDING_ERRORS = 10
"""A change of the means by fewer of them says nothing of the expansion."""
TYPICAL_UNEXPLAINED = 0.2
"""A layer, on random networks; for predicted costs, as the next."""
TYPICAL_GAIN = {"antithetic": 0.6, "orthogonal": 0.25}
"""Variance per sample, iid = 1."""


@register("adaptive")
@dataclass(frozen=True)
class Adaptive(Estimator):
    """Means to an RMS error of `tolerance` output standard deviations over the outputs.

    Climbs orders 2, 3, trees and 4 of `cumulant` while sampling would take more, judges each by
    what is to be expected of it on such a network and by the change it makes, checks the last
    against paired samples (`screen` or half as many, or as many as take 5% of its FLOPs), and
    samples where the expansion does not converge or costs more. Samples are averaged with the last
    order that ran, weighed by its expected error. `half_width` are 95% intervals; `status` says
    what was chosen and why. At most `most_samples` are drawn. Without an `rng`, inputs are those of
    seed 0.

    Errors "in output standard deviations" are √(Σ squared errors / Σ variances), both sums over the
    outputs: one that varies little beside others weighs little, and is known as well as they are,
    not as well as it varies. Outputs that vary by no more than rounding count as constants.
    An order that fails or gives numbers that are not finite has its place taken by samples.
    Cost: what was run, orders that did not do included; as a rule no more than the cheapest order
    or sampling that would have met the tolerance, the next dearer one, and the larger of 64 passes
    and a tenth of both.

    >>> import cumprop
    >>> network = cumprop.random_mlp(width=64, depth=2, seed=0)
    >>> cumprop.estimate(network, "adaptive", tolerance=0.01).status.split(",")[0]
    'order 3'
    """

    version: ClassVar[int] = 2
    tolerance: float = 0.01
    screen: int = 32
    most_samples: int = 100_000_000

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < inf:
            raise CumpropError(f"adaptive: tolerance is {self.tolerance!r}; give a number > 0")
        if not 2 * FEWEST <= self.screen <= self.most_samples:
            raise CumpropError(
                f"adaptive: screen is {self.screen!r}; give {2 * FEWEST} to most_samples"
            )

    @classmethod
    def from_tolerance(cls, tolerance: float, shape: Shape, **parameters: Any) -> Self:
        """The same instance for all shapes: it finds its way on the network itself."""
        return cls(tolerance=tolerance, **parameters)

    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        return _Search(self, network, cov, rng or streams.sampling(0, network.shape.width)).result()

    def independent_samples(self, outputs: Estimate) -> int | None:
        """Where it sampled: what knows one tail to the tolerance in s.d., with confidence."""
        if not outputs.status.startswith(SAMPLED):
            return None
        needed = float(chdtri(1, 1 - CONFIDENCE)) / self.tolerance**2
        return ceil(min(max(needed, self.screen), self.most_samples))

    def predict_cost(self, shape: Shape) -> Cost:
        """Of the way that a random network of this shape usually takes; weights decide it."""
        nonlinearity = TYPICAL_UNEXPLAINED * shape.depth
        cost = _sampling(self.screen, "antithetic").predict_cost(shape)
        sampling = self._typical_samples(shape).predict_cost(shape)
        shape = replace(shape, gaussian_input=False)
        expansion = Expansion(shape, effective_inputs(shape), nonlinearity)
        error = expansion.error(LADDER[0])
        for k, rung in expansion.rungs(self.tolerance):
            if expansion.why_not(k, error, self.tolerance, sampling.flops):
                break
            cost += rung.estimator.predict_cost(shape)
            error = expansion.error(rung, error)
            if shape.depth <= 1 or SPREAD * error <= self.tolerance:
                return cost
        return cost + sampling

    def _typical_samples(self, shape: Shape) -> Estimator:
        wanted, orthogonal = 1.3 / self.tolerance**2, block_size("orthogonal", shape.widths[0])
        design = "antithetic"
        if TYPICAL_GAIN[design] * wanted >= 2 * FEWEST * orthogonal:
            design = "orthogonal"
        wanted = max(self.screen, min(TYPICAL_GAIN[design] * wanted, self.most_samples))
        return _sampling(int(wanted), design)


@dataclass
class _Search:
    """One estimate: what has been run so far, and what it says of the next step."""

    asked: Adaptive
    original: MLP
    cov: bool
    rng: np.random.Generator
    passes: int = 0
    known: Estimate | None = None
    """By the last order, unless something speaks against it. It is expected to be `error` output
    standard deviations off."""

    def __post_init__(self) -> None:
        self.network, flops = standardised(self.original)
        self.spent = [flops]
        self.samples = self.draw(self.asked.screen / 2, "antithetic", watch=unexplained)
        self.pass_flops = self.spent[-1].total / self.passes
        shape = self.network.shape
        variance = self.original.input_variance
        cov = self.original.input_cov if variance is None else variance
        inputs = effective_inputs(shape, cov)
        nonlinearity = shape.depth * float(np.mean(self.samples.watched or [0]))
        self.expansion = Expansion(shape, inputs, nonlinearity)
        self.error = self.expansion.error(LADDER[0])

    def result(self) -> Estimate:
        more = min(ENOUGH, self.asked.most_samples) - self.passes
        if more > 0 and (self.constant or self.need <= self.passes):
            self.draw_more(more)
        if self.constant:
            return self.sampled("the outputs vary by no more than rounding")
        if self.need <= self.passes:
            return self.sampled("the first samples are enough")
        tolerance, shape = self.asked.tolerance, self.network.shape
        changes = list[float]()
        for k, rung in self.expansion.rungs(tolerance):
            self.price_sampling(rung.flops(shape))
            if reason := self.expansion.why_not(k, self.error, tolerance, self.price):
                return self.sampled(reason)
            if self.is_large(rung) and (why := rung.estimator.supports(self.network)):
                return self.sampled(why)
            found = self.climbed(rung)
            if found is None:
                return self.sampled(f"{rung.name} overflows")
            if shape.depth <= 1:
                return self.accepted(found, 0.0, f"{rung.name}, exact for one hidden layer")
            reason, change = rung.name, inf
            if self.known:
                change = self.in_units(found.mean - self.known.mean)
                changes.append(change)
                reason += f", which moves the means by {change:.1g} s.d."
            before = change if self.known else self.error
            self.known, self.error = found, self.expansion.error(rung, before)
            if diverging(changes, ROUNDING_ERRORS * self.in_units(self.rounding(found))):
                self.known = None
                return self.sampled(
                    f"the expansion does not converge: {rung.name} moves the means by "
                    f"{changes[-1]:.1g} s.d., the order before it by {changes[-2]:.1g}"
                )
            if min(SPREAD * self.error, change) <= tolerance:
                if self.contradicted(found):
                    self.known = None
                    return self.sampled(f"{self.passes:,} samples contradict {rung.name}")
                return self.accepted(found, self.error, reason)
        return self.sampled(f"{rung.name} is expected to be {self.error:.1g} s.d. off")

    def climbed(self, rung: Rung) -> Estimate | None:
        """What the rung finds; None where its numbers leave the range of their type."""
        with counting() as flops, np.errstate(all="ignore"):
            try:
                found = rung.estimator.estimate(self.network, cov=self.cov)
            except CumpropError:
                self.spent.append(flops)
                return None
        self.spent.append(found.flops)
        return found if is_finite(found) else None

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
        """Samples of this design that meet the tolerance with confidence; 0 for constants."""
        if self.constant:
            return 0.0
        return self.samples_for(self.samples.quantile(CONFIDENCE))

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
        weights = np.abs(self.network.weights[-1]).astype(np.float64)
        inputs = found.layer_means[-1] if found.layer_means else np.zeros(weights.shape[1])
        sizes: Array = np.abs(found.mean) + weights @ np.abs(inputs)
        return float(np.finfo(self.network.dtype).eps) * sizes

    @property
    def constant(self) -> bool:
        """Whether no output varies by more than rounding."""
        return self.unit <= float(np.sum(self.rounding(self.samples) ** 2))

    def draw(self, n_samples: float, design: str, **options: Any) -> Replicates:
        drawn = replicates(self.network, ceil(n_samples), design, self.rng, cov=self.cov, **options)
        self.spent.append(drawn.flops)
        self.passes += drawn.n_samples
        return drawn

    def draw_more(self, n_samples: float) -> None:
        """So many more; of a Sobol sequence as many as its scramblings had before."""
        samples = self.samples
        if samples.design == "sobol":
            n_samples = SCRAMBLINGS * int(samples.sizes[0])
        self.samples = samples.joined(self.draw(n_samples, samples.design, fewest=1))

    def price_sampling(self, flops: float) -> None:
        """Look closer at what sampling takes, where it rivals an order of so many FLOPs."""
        if flops > CHEAP * self.price:
            if self.passes < self.asked.screen:
                self.draw_more(self.asked.screen - self.passes)
            if flops <= self.price:
                self.choose_design(SHARE * flops)

    def choose_design(self, flops: float) -> None:
        """Take a Sobol sequence, or try orthogonal inputs, for so many FLOPs."""
        n_0, most = self.network.widths[0], int(flops / self.pass_flops)
        frame = block_size("orthogonal", n_0)
        if self.samples.design != "antithetic":
            return
        if n_0 <= SOBOL_INPUTS and most >= 64:
            self.samples = self.draw(2 ** int(log2(min(most, 1024))), "sobol")
        elif n_0 > SOBOL_INPUTS and most >= FEWEST * frame:
            rival = self.draw(frame * min(GROUPS, most // frame), "orthogonal")
            self.samples = min(self.samples, rival, key=_noise)

    def contradicted(self, estimate: Estimate) -> bool:
        """Whether samples, SHARE of its FLOPs, refute it; if they seem to, twice as many."""
        spent = sum(flops.total - flops.get("input", 0) for flops in self.spent)
        more = SHARE * spent / self.pass_flops - self.passes
        if more >= self.asked.screen:
            self.draw_more(more)
        if self.samples.chance(estimate.mean) >= CONTRADICTION:
            return False
        self.draw_more(self.samples.n_samples)
        return self.samples.chance(estimate.mean) < CONTRADICTION

    @property
    def shares(self) -> Array:
        """Of each output in the squared error of an order: as the rows of the last map."""
        last = self.network.weights[-1].astype(np.float64)
        rows = np.square(last / (np.abs(last).max() or 1.0)).sum(axis=1)
        shares: Array = rows / (rows.sum() or 1.0)
        return shares

    def accepted(self, found: Estimate, error: float, reason: str) -> Estimate:
        """An order's estimate."""
        rounding = self.rounding(found)
        stderr = error * np.sqrt(self.unit * self.shares)
        return replace(
            found,
            stderr=stderr + rounding,
            half_width=QUANTILE * stderr + 2 * rounding,
            flops=added(*self.spent),
            n_samples=self.passes,
            status=_status(reason, error, found.status),
        )

    def sampled(self, reason: str) -> Estimate:
        """Samples of the best design seen, until they meet the tolerance with confidence."""
        self.choose_design(self.need * self.pass_flops / 4)
        if self.need > self.samples.n_samples and _noise(self.samples) > self.unit:
            self.samples = self.draw(self.asked.screen, "iid")
        most = self.asked.most_samples
        while (n := self.samples.n_samples) < (goal := min(self.need, most)):
            longer = sqrt(n * goal)  # of a Sobol sequence, whose variance falls as 1/n²
            if self.samples.design == "sobol" and longer >= 2 * n:
                self.samples = self.draw(2 ** int(log2(longer)), "sobol")
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
            status=_status(choice, 0.0 if self.constant else self.in_units(stderr), reason),
        )


def _noise(samples: Replicates) -> float:
    """Variance per sample, summed over outputs."""
    return float(samples.noise.sum()) * samples.n_samples


def _sampling(n_samples: int, design: str) -> Estimator:
    return build("monte_carlo", n_samples=n_samples, design=design)


def _status(choice: str, error: float, note: str) -> str:
    parts = [choice, f"estimated error {error:.2g} output s.d."]
    return "; ".join(parts if note == "ok" else [*parts, note])
