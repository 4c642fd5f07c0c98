"""Backend `gaussian`: every pre-activation vector is taken as Gaussian (mathematics §3.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import KEPT, NODES, stand_in
from cumprop.contract import Cost, Estimate, Estimator, build, register, shape_only_network, trust
from cumprop.errors import CumpropError
from cumprop.flops import Work, arena, component, counted, counting, plain
from cumprop.networks import MLP, Shape

from ..cumulant.evidence import Evidence
from ..cumulant.standardised import AffineMap, Wanted, check_range, standard_input, standardised_map
from .activated import TYPICAL, Activated, typical_terms

Array = NDArray[Any]


@register("gaussian")
@dataclass(frozen=True)
class Gaussian(Estimator):
    """Moment matching: means and covariances of each layer, without higher cumulants.

    Every pre-activation vector is taken as Gaussian (mathematics §3.5). Covariances after an
    activation are right to `series_tolerance` times the standard deviations (to rounding in
    float32). The method is exact for linear networks, for the mean after one hidden layer and, to
    that tolerance, for its covariance; of an input that is not Gaussian it takes mean and
    covariance alone. Raises CumpropError for a `series_tolerance` out of range.
    Cost: 4 n³ FLOPs per layer of width n for W C Wᵀ, and 3 n² for each of up to 40 terms.

    >>> network = MLP([[[3.0, 4.0]], [[1.0]]])                              # relu(3 x_1 + 4 x_2)
    >>> estimate = Gaussian().estimate(network, cov=True)
    >>> float(estimate.mean[0].round(6)), float(estimate.cov[0, 0].round(6))
    (1.994711, 8.521126)
    """

    version: ClassVar[int] = 1
    draws: ClassVar[bool] = False
    series_tolerance: float = 1e-10

    def __post_init__(self) -> None:
        if not 0 < self.series_tolerance < 1:
            raise CumpropError(
                f"gaussian: series_tolerance is {self.series_tolerance!r}; "
                "give a number between 0 and 1"
            )

    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        layer_means, precision, negative = list[Array](), 0.0, 0
        with counting() as flops, np.errstate(over="ignore", invalid="ignore"):  # `trust` sees it
            mean, C, unit = standard_input(network)
            maps = [*map(AffineMap.in_range, map(counted, network.weights), network.biases)]
            evidence, (*hidden, last) = Evidence(maps, C, unit, leading=True, exact=True), maps
            for layer, affine in enumerate(hidden):
                wanted: Wanted = "covariance" if cov or layer < network.depth - 1 else "mean"
                with component("linear"):
                    half = affine.half(C)
                    z = standardised_map(affine, mean, C, half, wanted)
                with component("nonlinear"):
                    activated = Activated(network.activations[layer], z, unit)
                    w = activated.coefficients
                    before, C = (
                        C,
                        (
                            activated.cov(z.C, self._tolerance(network.dtype))
                            if z.covariance is not None
                            else None
                        ),
                    )
                    mean, unit = activated.mean.astype(network.dtype), activated.unit
                evidence.add(z, w, w(0, 1), None, before, half)
                check_range(float(np.abs(plain(mean)).max()), network.dtype)
                layer_means.append(plain(mean))
                precision, negative = (
                    max(precision, activated.precision),
                    negative + int(z.negative),
                )
            with component("linear"):
                covariance = last.covariance(last.half(C)) if cov else None
                if covariance is not None:
                    covariance = last.in_units(covariance, unit)
                output = last.mean(mean)
            [signs] = evidence.signs(output, mean, unit)
        notes = []
        if negative:
            notes.append(f"the variances of {negative} neurons came out negative: taken as 0")
        if precision:
            notes.append(f"quadrature is stable to {precision:.1e} only")
        return Estimate(
            mean=plain(output),
            layer_means=tuple(layer_means),
            cov=plain(covariance),
            flops=flops,
            layer_variances=tuple(evidence.variances),
            **vars(trust("gaussian", signs, plain(output), cov, notes)),
        )

    def _tolerance(self, dtype: Any) -> float:
        return max(self.series_tolerance, float(np.finfo(dtype).eps))

    def predict_cost(self, shape: Shape) -> Cost:
        """FLOPs to about 5% on random networks; the terms depend on the largest correlation.

        The largest correlation is taken as √(4 ln n / fan-in), that of independent weight rows, and
        no pair of neurons as so close to ±1 that it is integrated. In networks of few inputs,
        smooth functions of pre-activations of s.d. 6 take up to 6 times as many FLOPs, of s.d. 20
        up to 30 times, and more where most pairs of neurons are nearly the same.
        """
        widths = shape.widths
        flops, multiplied = 2.0 * sum(shape.products), 0
        for layer, name in enumerate(shape.activations):
            fan_in, n = widths[layer : layer + 2]
            last = layer == shape.depth - 1
            taken = shape.products[layer]
            products = 2 * taken * (fan_in + (1 if last else n))
            if layer == 0 and not shape.gaussian_input:
                symmetric = not last and taken == n * fan_in
                products = (n + 1) * taken if symmetric else 2 * taken * (1 if last else n)
            rho = 0.0 if last else min(TYPICAL, math.sqrt(4 * math.log(max(n, 2)) / fan_in))
            terms, per_neuron = typical_terms(name, rho, self._tolerance(shape.dtype))
            multiplied += products
            flops += products + 2 * n * per_neuron + (0 if last else (3 * terms + 2) * n**2)
        with arena():  # signs of errors are gathered as by order 2
            likely = shape_only_network(replace(shape, activations=("relu",) * shape.depth))
            flops += build("cumulant", order=2).estimate(likely).flops["error"]
        itemsize = np.dtype(shape.dtype).itemsize
        alive = 4 + 2 * min(shape.depth - 1, 3)  # matrices: few layers hold few at a time
        peak = alive * itemsize * max(widths) ** 2 + 1500 * max(widths)
        if max(widths) * NODES <= KEPT and any(
            stand_in(a).by_quadrature for a in shape.activations
        ):
            peak += 2 * 2 * 8 * NODES * max(widths)  # two sets of nodes, of two layers
        work = Work(products=multiplied, entrywise=int(flops) - multiplied)
        return Cost(int(flops), peak, work)
