"""Tails: P(Y_i > t) as one more layer, and its truth by importance sampling (mathematics §9).

The probability is the mean of 1[Y − t > 0], so that an estimator needs only `tail_network`. The
truth draws each neuron's inputs where its own tail is likely, and weights them without bias.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop import streams
from cumprop.errors import CumpropError
from cumprop.networks import MLP
from cumprop.sampling.designs import normals
from cumprop.sampling.truth import GROUPS, Truth, TruthSpec

Array = NDArray[Any]

PILOT = 2**14
"""The number of plain samples that choose the tilts; they enter no probability."""
WORST = 0.2
"""The largest relative standard error of the truth of a neuron that is not dropped."""
BUCKET_COLUMNS = (
    "buckets", "bucket_neurons", "bucket_dropped",
    "bucket_squares", "bucket_zero", "bucket_relative",
)  # fmt: skip
"""Columns of a score, lists of one length; null where the readout is no tail."""

_GROUP_SAMPLES = 64
_TINY = 1e-10  # least variance of a neuron, relative to its layer's mean variance
_LEAST_REMAINDER = 0.02  # of a neuron's variance, left to what is not quadratic
_HIGHEST_TILT = 0.95  # of the tilt at which a direction's variance becomes infinite


def threshold(readout: str) -> float | None:
    """The threshold t of the readout "tail(t)", P(Y > t); None for any other readout.

    Raises CumpropError where t is no finite number.

    >>> threshold("tail(3)"), threshold("output")
    (3.0, None)
    """
    found = re.fullmatch(r"tail\(\s*([-+.\deE]+)\s*\)", readout)
    if found is None:
        return None
    try:
        value = float(found[1])
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise CumpropError(f"readout {readout}: give tail a finite threshold, as in tail(3)")
    return value


def tail_network(network: MLP, t: float) -> MLP:
    """The network whose last activations are 1[Y > t], so that E[X_L] is P(Y > t).

    The single output is the average of these activations.

    >>> import cumprop
    >>> body = MLP([[[3.0, 4.0]]], None, [])                              # Y ~ N(0, 25)
    >>> cumprop.estimate(tail_network(body, 5.0), order=1).layer_means[-1].round(4).tolist()
    [0.1587]
    """
    n = network.widths[-1]
    last = network.biases[-1]
    shifted = np.full(n, -t) if last is None else last - t
    return network.replace(
        weights=(*network.weights, np.full((1, n), 1 / n)),
        biases=(*network.biases[:-1], shifted, None),
        activations=(*network.activations, "heaviside"),
        init_scale=None if network.init_scale is None else (*network.init_scale, 1.0),
    )


@dataclass(frozen=True)
class TailSpec(TruthSpec):
    """The determinants of a `TailTruth`, P(Y > threshold) of a network of one depth.

    Raises CumpropError for a design other than importance.

    >>> TailSpec(width=8, depth=2, activation="relu", init="he", seed=0, threshold=3.0).key
    'c9a579d95d82b5a2'
    """

    kind: ClassVar[str] = "tail"

    design: str = "importance"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.design != "importance":
            raise CumpropError(f"a tail's truth is sampled by design importance, not {self.design}")

    @property
    def readout(self) -> str:
        """The readout in the words of a configuration."""
        return f"tail({self.threshold!r})"

    @cached_property
    def tilts(self) -> list[Tilt]:
        """The density that the inputs of each neuron are drawn from. Memory: n³ numbers."""
        surrogates = Surrogates(self.network, streams.tail_pilot(self.seed, self.width))
        return [surrogates.tilt(i, self.threshold) for i in range(self.width)]

    @property
    def empty(self) -> TailTruth:
        return TailTruth(self, 0, np.zeros((2, GROUPS, 1, self.width)), np.zeros((2, self.width)))

    @property
    def flops(self) -> int:
        """The FLOPs of a sample: one forward pass for each neuron."""
        return self.width * super().flops

    @property
    def bytes(self) -> int:
        return super().bytes + 8 * (self.width + self.depth) * self.width**2  # the tilts

    @property
    def group_samples(self) -> int:
        return _GROUP_SAMPLES


class TailTruth(Truth):
    """The weights of inputs with Y > threshold: sums (2, 16, 1, n), and squares (2, n).

    Every sample is one input for each neuron, drawn by its own tilt; n_samples counts both halves.
    Half h of chunk i draws from `streams.tail_truth(seed, width, h, i)`.
    """

    spec: TailSpec

    @property
    def relative_error(self) -> Array:
        """The relative error (s.e.) of each half's probabilities, (2, n); infinite without hits."""
        p, n = self.mean(self.spec.readout, self.spec.depth), self.n_samples / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = np.maximum(self.squares / n - p**2, 0) / n
            error: Array = np.where(p > 0, np.sqrt(variance) / p, np.inf)
        return error

    def variance(self, readout: str, depth: int) -> float:
        """The variance p(1 − p) of one pass of the indicator, averaged over the n neurons."""
        first, second = self.mean(readout, depth)
        return float(np.mean((first + second) / 2 - first * second))

    def buckets(self, estimate: ArrayLike) -> dict[str, list[Any]]:
        """Squared errors of an estimate, shape (n,), summed by bucket of the true probability.

        The first half of the truth, p_0, only chooses the bucket k, [10^(k-½), 10^(k+½)), and the
        neurons that are kept, with a relative error of p_0 up to `WORST`. Alternate groups of the
        second half give independent p_1 and p_2. The columns are `BUCKET_COLUMNS`: the buckets,
        their neurons kept and dropped, and the sums of (e − p_1)(e − p_2), which is unbiased for
        (e − p)², of p_1 p_2, the same of the estimate 0, and of (e − p_1)(e − p_2)/p_0².
        """
        choosing = self.mean(self.spec.readout, self.spec.depth)[0]
        groups = self.groups(self.spec.readout, self.spec.depth)[1]
        first, second = groups[::2].mean(axis=0), groups[1::2].mean(axis=0)
        e = np.asarray(estimate, dtype=np.float64)
        seen = choosing > 0
        kept = self.relative_error[0] <= WORST
        safe = np.where(seen, choosing, 1.0)
        bucket = np.floor(np.log10(safe) + 0.5).astype(int)
        squares = (e - first) * (e - second)
        terms = (
            kept,
            seen & ~kept,
            squares * kept,
            first * second * kept,
            squares / safe**2 * kept,
        )
        found = sorted(set(bucket[seen].tolist()), reverse=True)
        inside = [seen & (bucket == k) for k in found]
        sums = ([term[part].sum().item() for part in inside] for term in terms)
        return dict(zip(BUCKET_COLUMNS, (found, *sums), strict=True))

    def _sample(self, sums: Array, squares: Array) -> None:
        spec = self.spec
        for half in range(2):
            rng = streams.tail_truth(spec.seed, spec.width, half, self.start)
            for i, tilt in enumerate(spec.tilts):
                samples = tilt.sample(rng, GROUPS * spec.group_samples, spec.network.dtype)
                weights = tilt.weights(samples, tilt.rotated(spec.network, i), spec.threshold)
                sums[half, :, 0, i] = weights.reshape(GROUPS, -1).sum(axis=1)
                squares[half, i] = weights @ weights

    def _layer(self, readout: str, depth: int) -> int:
        if (threshold(readout), depth) != (self.spec.threshold, self.spec.depth):
            raise CumpropError(
                f"truth of {self.spec.readout} at depth {self.spec.depth} "
                f"has no {readout} at depth {depth}"
            )
        return 0


@dataclass(frozen=True, eq=False)
class Tilt:
    """The density N(0, I) · exp(θ s(x) − K(θ)), s(x) = g·x + ½ xᵀHx, which is Gaussian.

    In the eigenvectors of H (columns of `basis`) coordinates y = basisᵀ x are independent, with
    `slope` the g, `curvature` the eigenvalues λ there: N(θg/(1 − θλ), 1/(1 − θλ)).
    """

    basis: Array
    slope: Array
    curvature: Array
    theta: float

    def sample(self, rng: np.random.Generator, n_samples: int, dtype: Any) -> Array:
        """Inputs in coordinates y, (n_samples, n)."""
        y = np.empty((n_samples, len(self.slope)), dtype)
        normals(rng, y)
        precision = 1 - self.theta * self.curvature
        y *= (1 / np.sqrt(precision)).astype(dtype)
        y += (self.theta * self.slope / precision).astype(dtype)
        return y

    def rotated(self, network: MLP, i: int) -> MLP:
        """The network of output i alone, as a function of y. Cost: 2 n³ FLOPs."""
        *others, last = network.weights
        *biases, last_bias = network.biases
        first, *others = *others, last[i : i + 1]
        return network.replace(
            weights=(first @ self.basis, *others),
            biases=(*biases, None if last_bias is None else last_bias[i : i + 1]),
        )

    def weights(self, y: Array, rotated: MLP, t: float) -> Array:
        """Weights 1[Y_i > t] · N(0, I) / (this density) at y, shape (n_samples,)."""
        precision = 1 - self.theta * self.curvature
        k = np.sum(self.theta**2 * self.slope**2 / precision - np.log(precision)) / 2
        s = y @ self.slope.astype(y.dtype) + (y * y) @ (self.curvature / 2).astype(y.dtype)
        hit = rotated.forward(y)[:, 0] > t
        return np.exp(np.where(hit, k - self.theta * s.astype(np.float64), -np.inf))


class Surrogates:
    """Every output as c + g·x + ½ xᵀHx and a remainder, from layer means and variances.

    An output's g and H are the mean gradient and Hessian if all neurons are Gaussian and
    independent of each other: Σ_l J_lᵀ diag(b_l w(2,1)_l) J_l, J_l the mean Jacobian of Z_l and b_l
    the mean derivative of the output by X_l. They only choose the tilt, so that their errors do not
    bias the truth. `layer_means` are the averages of X_1..X_L over the samples.
    """

    def __init__(self, network: MLP, rng: np.random.Generator) -> None:
        self.network = network
        x = np.empty((PILOT, network.widths[0]), network.dtype)
        normals(rng, x)
        moments, self.layer_means = list[tuple[Array, Array]](), list[Array]()
        for z, activated in network.layers(x):
            if activated is not None:
                self.layer_means.append(activated.mean(axis=0))
            variance = z.var(axis=0, dtype=np.float64)
            moments.append((z.mean(axis=0), np.maximum(variance, _TINY * (variance.mean() or 1.0))))
        self.mean, self.variance = moments.pop()
        tables = [
            activation.wick_table(mean.astype(np.float64), variance)
            for activation, (mean, variance) in zip(network.activations, moments, strict=True)
        ]
        self.bends = [table(2, 1) for table in tables]
        slopes = [table(1, 1) for table in tables]
        self.jacobians = [network.weights[0]]
        for w, slope in zip(network.weights[1:], slopes, strict=True):
            self.jacobians.append((w * slope.astype(w.dtype)) @ self.jacobians[-1])
        self.backward = [network.weights[-1]]
        for w, slope in zip(network.weights[-2:0:-1], slopes[:0:-1], strict=True):
            self.backward.append((self.backward[-1] * slope.astype(w.dtype)) @ w)
        self.backward = self.backward[: network.depth][::-1]

    def tilt(self, i: int, t: float) -> Tilt:
        """The tilt of output i towards Y_i > t: the θ of mathematics §9.

        It is the exponential tilt of Y_i itself if the remainder is independent Gaussian noise.
        Cost: 2 L n³ FLOPs and the eigenvectors of an n × n matrix.
        """
        hessian = sum(
            (
                (j.T * (b[i] * bend).astype(j.dtype)) @ j
                for j, b, bend in zip(self.jacobians[:-1], self.backward, self.bends, strict=True)
            ),
            np.zeros((self.network.widths[0],) * 2, self.network.dtype),
        )
        curvature, basis = np.linalg.eigh(hessian)
        slope = (self.jacobians[-1][i] @ basis).astype(np.float64)
        curvature = curvature.astype(np.float64)
        variance = float(self.variance[i])
        explained = slope @ slope + curvature @ curvature / 2
        remainder = max(variance - explained, _LEAST_REMAINDER * variance)
        highest = _HIGHEST_TILT / max(curvature.max(), _TINY * variance**0.5)
        theta = _root(slope, curvature, remainder, t - float(self.mean[i]), highest)
        return Tilt(basis, slope, curvature, theta)


def _root(g: Array, lam: Array, remainder: float, missing: float, highest: float) -> float:
    """The θ in [0, highest] at which the tilted mean of surrogate and remainder is `missing`."""
    low, high = 0.0, max(0.0, min(highest, missing / remainder))  # K' ≥ 0 for θ ≥ 0
    for _ in range(50):
        theta = (low + high) / 2
        p = 1 - theta * lam
        rise = theta * np.sum(g**2 * (1 + p) / (2 * p**2)) + np.sum(lam * (1 / p - 1)) / 2
        low, high = (low, theta) if rise + theta * remainder > missing else (theta, high)
    return low
