"""Backend `blend`: an order and samples, weighted by their errors (mathematics §10)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, ClassVar, Self

import numpy as np

from cumprop import streams
from cumprop.contract import Cost, Estimate, Estimator, build, get, register
from cumprop.contract.printing import NORMAL_QUANTILE
from cumprop.errors import CumpropError
from cumprop.flops import added
from cumprop.networks import MLP, Shape
from cumprop.sampling import FEWEST, replicates, standardised

from .weights import Blended, is_finite


@register("blend")
@dataclass(frozen=True)
class Blend(Estimator):
    """The average of an order of cumulants and of samples, weighted by their errors.

    The means are w · order + (1 - w) · samples with one weight w = V / (V + B) for all outputs. V
    is the noise of the samples, summed over outputs; B is the squared bias of `order` and `kind`
    that the same samples show: |e - m|² less its 95% quantile under zero bias, 0 if negative. So w
    is 1 unless the samples contradict the order, and about V/B where they do. `stderr` includes the
    bias that the samples show, or the largest that they allow; `half_width` adds it to the noise,
    because the bias is the same in every draw. An order that fails, or gives numbers that are not
    finite, has weight 0. Without an `rng`, inputs are those of seed 0. Raises CumpropError for
    parameters that `cumulant` or `monte_carlo` refuses, design sobol, and too few samples.
    Cost: that of the order and of the samples.

    >>> import cumprop
    >>> network = cumprop.random_mlp(width=64, depth=2, seed=0)
    >>> cumprop.estimate(network, "blend", order=3, n_samples=256).status
    'weight 1 on order 3 basic, 0 on 256 antithetic samples'
    """

    version: ClassVar[int] = 3
    order: int = 3
    kind: str = "basic"
    n_samples: int = 1024
    design: str = "antithetic"

    def __post_init__(self) -> None:
        self._cumulant, self._sampling  # noqa: B018  (their errors are ours)
        if self.design == "sobol" or self.n_samples < FEWEST:
            raise CumpropError(
                f"blend: design {self.design}, n_samples {self.n_samples}: choose iid, "
                f"antithetic or orthogonal, and at least {FEWEST} samples"
            )

    @property
    def _cumulant(self) -> Estimator:
        return build("cumulant", order=self.order, kind=self.kind)

    @property
    def _sampling(self) -> Estimator:
        return build("monte_carlo", n_samples=self.n_samples, design=self.design)

    @classmethod
    def from_tolerance(cls, tolerance: float, shape: Shape, **parameters: Any) -> Self:
        """The order and the number of samples that would each meet the tolerance in theory."""
        cumulant: Any = get("cumulant").from_tolerance(tolerance, shape)
        sampling: Any = get("monte_carlo").from_tolerance(tolerance, shape)
        return cls(order=cumulant.order, n_samples=sampling.n_samples, **parameters)

    def with_share(self, share: float) -> Estimator:
        return replace(self, n_samples=max(FEWEST, round(share * self.n_samples)))

    def supports(self, network: MLP) -> str | None:
        return super().supports(network) or self._cumulant.supports(network)

    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        network, preparing = standardised(network)
        rng = rng or streams.sampling(0, network.shape.width)
        order = self._known(network, cov)
        found = replicates(network, self.n_samples, self.design, rng, cov=cov)
        both = Blended(found, order)
        w = both.weight
        known = order or Estimate(
            found.mean, found.layer_means, found.spread, status="the order overflows"
        )
        distance = both.distance if order else 0.0
        possible = max(distance - both.noise, both.noise * np.sqrt(2 / found.freedom))
        biased = w**2 * possible / len(found.mean)
        variance = (1 - w) ** 2 * found.noise + biased
        unit = float(found.variance.sum())
        parts = (
            f"weight {w:.3g} on order {self.order} {self.kind}, {1 - w:.3g} on "
            f"{found.n_samples:,} {self.design} samples"
        )

        def blended(order: Any, samples: Any) -> Any:
            return both.mean(order, samples).astype(network.dtype)

        return Estimate(
            mean=blended(known.mean, found.mean),
            layer_means=tuple(map(blended, known.layer_means, found.layer_means)),
            cov=blended(known.cov, found.spread) if cov else None,
            stderr=np.sqrt(variance),
            half_width=(1 - w) * found.half_width + NORMAL_QUANTILE * np.sqrt(biased),
            expected_error=sqrt(float(variance.sum()) / unit) if unit > 0 else 0.0,
            expected_std_error=found.std_error,
            flops=added(preparing, known.flops, found.flops),
            n_samples=found.n_samples,
            status=parts if known.status == "ok" else f"{parts}; {known.status}",
        )

    def _known(self, network: MLP, cov: bool) -> Estimate | None:
        """The order's estimate; None where it fails or its numbers overflow."""
        with np.errstate(all="ignore"):
            try:
                found = self._cumulant.estimate(network, cov=cov)
            except CumpropError:
                return None
        return found if is_finite(found) else None

    def predict_cost(self, shape: Shape) -> Cost:
        return self._cumulant.predict_cost(shape) + self._sampling.predict_cost(shape)
