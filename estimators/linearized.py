"""Backend `linearized`: the network as its tangent at the mean input (mathematics §3.6)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cumprop.activations import Activation, Step
from cumprop.contract import Cost, Estimate, Estimator, register, shape_only_network, trust
from cumprop.flops import arena, component, count, counted, counting, plain, without_numbers
from cumprop.networks import Shape

from .cumulant.neglected import probes
from .cumulant.rough import compared
from .cumulant.standardised import AffineMap, input_of

if TYPE_CHECKING:
    from cumprop.networks import MLP

Array = NDArray[Any]


@register("linearized")
@dataclass(frozen=True)
class Linearized(Estimator):
    """First order in the input, the delta method: E[Y] ≈ f(μ), Cov[Y] ≈ J Σ Jᵀ, J = f'(μ).

    Extended Kalman filters use the same formulas (mathematics §3.6). They are exact for linear
    networks, and good where f is nearly linear within the spread of the input, of which they take
    mean and covariance alone. At a kink, J takes the derivative's value there, and `status` says
    so; steps are not supported.
    Cost: a forward pass; a covariance 2 n_{L+1} Σ_l n_l n_{l-1} FLOPs more.

    >>> import cumprop
    >>> network = cumprop.MLP([[[3.0, 4.0]], [[1.0]]], input_mean=1.0)      # relu(3 x_1 + 4 x_2)
    >>> estimate = Linearized().estimate(network, cov=True)
    >>> estimate.mean.tolist(), estimate.cov.tolist()
    ([7.0], [[25.0]])
    """

    version: ClassVar[int] = 1
    draws: ClassVar[bool] = False
    by_moments: ClassVar[bool] = True

    def supports(self, network: MLP) -> str | None:
        for activation in network.activations:
            if isinstance(activation, Step):
                return (
                    f"linearized: {activation} has no slope; take unscented, gaussian or cumulant"
                )
        return super().supports(network)

    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        with counting() as flops:
            found = self._propagated(network, cov)
        return replace(found, flops=flops)

    def _propagated(self, network: MLP, cov: bool, root: Array | None = None) -> Estimate:
        x, c = input_of(network)
        layer_means, slopes, kinks = [], [], 0
        smooth = all(activation.differentiable for activation in network.activations)
        *hidden, last = map(AffineMap, network.weights, network.biases)
        for affine, activation in zip(hidden, network.activations, strict=True):
            with component("forward"):
                z = affine.mean(x)
                x = activation.forward(z)
                layer_means.append(plain(x))
            if cov or smooth:
                with component("jacobian"):
                    slopes.append(activation.derivative(z))
                    kinks += _on_kinks(activation, plain(z))
        with component("forward"):
            mean = last.mean(x)
        with component("jacobian"):
            tangent = AffineMap(_jacobian(network, slopes), None) if cov else None
            covariance = None if tangent is None else tangent.covariance(tangent.half(c))
        with component("error"):
            unit = _sum_of_variances(network, slopes, c) if cov or smooth else 0.0
        signs = compared(network, mean, unit, root)
        notes = [f"{kinks} neurons are on a kink at the mean input"] if kinks else []
        return Estimate(
            mean=plain(mean),
            layer_means=tuple(layer_means),
            cov=plain(covariance),
            **vars(trust("linearized", signs, plain(mean), cov, notes)),
        )

    @lru_cache  # noqa: B019  (instances are few, small and equal by value)
    def predict_cost(self, shape: Shape) -> Cost:
        """The exact cost of a mean without a covariance, by a run on arrays without numbers."""
        n, root = shape.widths[0], None
        with arena() as memory, counting() as flops:
            if shape.gaussian_input:
                root = without_numbers((n, n), 1.0)
                count(n**3 // 3 + 3 * n * n)
            self._propagated(shape_only_network(shape), False, root)
        return Cost(flops.total, memory.peak, memory.work(flops.total))


def _sum_of_variances(network: MLP, slopes: list[Array], c: Array | None) -> float:
    """The sum of the output variances of the tangent."""
    g, share = probes(network.widths[-1])
    v = _jacobian(network, slopes, counted(g.T.astype(network.dtype))).T.astype(np.float64)
    return float((v * (v if c is None else c @ v)).sum()) * share


def _jacobian(network: MLP, slopes: list[Array], left: Array | None = None) -> Array:
    """The product W_{L+1} D_L W_L … D_1 W_1 from the left, after a matrix `left` if given."""
    jacobian: Array = counted(network.weights[-1])
    if left is not None:
        jacobian = left @ jacobian
    for w, slope in zip(network.weights[-2::-1], reversed(slopes), strict=True):
        jacobian = (jacobian * slope) @ w
    return jacobian


def _on_kinks(activation: Activation, z: Array) -> int:
    return int(activation.at_breakpoints(z).sum())
