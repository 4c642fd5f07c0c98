"""Multilayer perceptrons and their random input (mathematics §1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop.activations import Activation
from cumprop.errors import CumpropError
from cumprop.flops import (
    WithZeros,
    counted,
    has_numbers,
    is_foreign,
    not_counting,
    on_host,
    plain,
    skipping_zeros,
)
from cumprop.inputs import Gaussian, Law, sized_law
from cumprop.inputs.arrays import numbers
from cumprop.inputs.covariances import Checked, compact, full
from cumprop.networks.checks import (
    OfLayer,
    check_chain,
    checked_activations,
    checked_scales,
    entries,
)
from cumprop.networks.saved import arrays_of
from cumprop.networks.shape import Shape, entries_of
from cumprop.networks.summaries import summary
from cumprop.parameters import typed

if TYPE_CHECKING:
    from cumprop import Probability, Quantile

Array = NDArray[Any]


class MLP:
    """A multilayer perceptron with L hidden layers and a random input (mathematics §1).

    Z_l = W_l X_{l-1} + b_l, X_l = φ_l(Z_l) for l = 1..L, output Y = W_{L+1} X_L + b_{L+1}.
    `weights` are L + 1 matrices (n_l, n_{l-1}); `biases` None or L + 1 vectors (n_l,) or Nones;
    `activations` one name or Activation for all layers, or L of them, of which each may again be a
    list of one for each of its n_l neurons. The input is N(input_mean, input_cov), None for 0 and
    the identity, or has another law, `input` (`cumprop.inputs`). `input_mean` is (n_0,) or a
    number; `input_cov` a matrix (n_0, n_0), a diagonal (n_0,) or a number, and is kept in its
    smallest form (`input_variance`). `init_scale`, the weight variance · fan-in of every map, is
    the number the average metric needs. Arrays are kept as read-only copies of one type, float32 or
    float64. PyTorch tensors are kept as they are; if one array is a tensor, all others become
    tensors. Raises CumpropError for shapes that do not fit, NaN or infinite numbers and an
    input_cov that is no covariance. Error messages count maps as npz files do, W0 first.

    >>> network = MLP([[[3.0, 4.0]], [[1.0]]])                             # relu(3 x_1 + 4 x_2)
    >>> network.widths, network.depth, network.forward([[1.0, 1.0], [-1.0, 0.0]]).tolist()
    ((2, 1, 1), 1, [[7.0], [0.0]])
    """

    def __init__(
        self,
        weights: Sequence[ArrayLike],
        biases: Sequence[ArrayLike | None] | None = None,
        activations: str | Activation | Sequence[OfLayer] = "relu",
        input_mean: ArrayLike | None = None,
        input_cov: ArrayLike | None = None,
        init_scale: ArrayLike | None = None,
        input: Law | None = None,
    ) -> None:
        weights = entries(weights, "weights", "a list of matrices (out, in)")
        if biases is not None:
            biases = entries(biases, "biases", "a list of vectors and Nones, or None")
        if isinstance(input, Gaussian) and input_mean is input_cov is None:
            scatter = input.scatter if input.n is None else Checked(np.asarray(input.scatter))
            input_mean, input_cov, input = input.location, scatter, None
        cov = input_cov.cov if isinstance(input_cov, Checked) else input_cov
        given = (*weights, *(() if biases is None else biases), input_mean, cov)
        self._tensor = next(filter(is_foreign, given), None)
        matrices = [numbers(w, f"W{layer}") for layer, w in enumerate(weights)]
        check_chain(matrices)
        self.dtype = np.result_type(np.float32, *(w.dtype for w in matrices))
        self.weights = tuple(skipping_zeros(self._kept(w)) for w in matrices)
        self.biases = self._check_biases(biases)
        self.activations = checked_activations(activations, self.widths[1:-1])
        self._mean = self._check_mean(input_mean)
        self._cov = self._check_cov(cov, isinstance(input_cov, Checked))
        if input is not None and not (self._mean is None and self._cov is None):
            raise CumpropError("input_mean and input_cov are those of a Gaussian; give input alone")
        self._law = None if input is None else sized_law(input, self.widths[0])
        self.init_scale = checked_scales(init_scale, len(matrices))

    def _check_biases(self, biases: Sequence[ArrayLike | None] | None) -> tuple[Array | None, ...]:
        if biases is None:
            return (None,) * len(self.weights)
        if len(biases) != len(self.weights):
            raise CumpropError(
                f"{len(biases)} biases for {len(self.weights)} weight matrices; "
                "give one for each, None where there is none"
            )
        return tuple(
            None if b is None else self._vector(b, f"b{layer}", len(w))
            for layer, (b, w) in enumerate(zip(biases, self.weights, strict=True))
        )

    def _check_mean(self, mean: ArrayLike | None) -> Array | None:
        if mean is None:
            return None
        values = numbers(mean, "input_mean")
        n = self.widths[0]
        return self._vector(values if values.ndim else values + np.zeros(n), "input_mean", n)

    def _check_cov(self, cov: ArrayLike | None, checked: bool) -> Array | None:
        if cov is None:
            return None
        n = self.widths[0]
        if checked and np.shape(cov) in ((), (n,), (n, n)):
            return self._kept(cov)
        return self._kept(compact(numbers(cov, "input_cov"), n, self.dtype))

    def _vector(self, values: ArrayLike, name: str, length: int) -> Array:
        vector = numbers(values, name)
        if vector.shape != (length,):
            raise CumpropError(f"{name} has shape {vector.shape}; give ({length},)")
        return self._kept(vector)

    def _kept(self, array: ArrayLike) -> Array:
        """A read-only copy, or a tensor beside tensors (the same one if it was one already)."""
        if self._tensor is not None:
            tensor: Array = plain(np.asarray(array, dtype=self.dtype, like=counted(self._tensor)))
            return tensor
        if not has_numbers(array) or (isinstance(array, WithZeros) and array.dtype == self.dtype):
            return cast(Array, array)
        with np.errstate(over="ignore"):
            copy = np.array(array, dtype=self.dtype, order="C")
        if not np.isfinite(copy).all():
            raise CumpropError(f"numbers too large for {self.dtype}; give float64 weights")
        copy.setflags(write=False)
        return copy

    @property
    def input(self) -> Law:
        """The law of the input; Gaussian unless another one was given."""
        if self._law is not None:
            return self._law
        mean = np.zeros(self.widths[0]) if self._mean is None else on_host(self._mean)
        return Gaussian(mean, 1.0 if self._cov is None else on_host(self._cov))

    @property
    def has_gaussian_input(self) -> bool:
        """Whether the input is Gaussian: N(`input_mean`, `input_cov`)."""
        return self._law is None

    @property
    def input_mean(self) -> Array | None:
        """The mean μ0 of the input, (n_0,), read-only; None for 0."""
        return self._mean if self._law is None else self._law.mean

    @property
    def input_cov(self) -> Array | None:
        """The covariance Σ0 of the input as a matrix (n_0, n_0), read-only; None for the identity.

        Cost: where `input_variance` holds all of it, the matrix is made anew each time.
        """
        if self._law is not None:
            return self._law.cov
        return None if self._cov is None else full(self._cov, self.widths[0])

    @property
    def input_variance(self) -> Array | None:
        """Σ0 where it is diagonal: σ², shape (), of σ² I, or the variances, shape (n_0,).

        None for the identity, where `input_cov` is None too, and for a matrix that is not diagonal.
        A matrix is known to be diagonal by its zeros; tensors keep the shape they were given in.

        >>> MLP([[[3.0, 4.0]]], input_cov=[[4.0, 0.0], [0.0, 1.0]]).input_variance.tolist()
        [4.0, 1.0]
        """
        return None if self._cov is None or self._cov.ndim == 2 else self._cov

    @property
    def depth(self) -> int:
        """Number of hidden layers L."""
        return len(self.weights) - 1

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """The widths n_0..n_{L+1} of the input, the hidden layers and the output."""
        return (self.weights[0].shape[1], *(len(w) for w in self.weights))

    @cached_property
    def shape(self) -> Shape:
        """Widths, names of activations and dtype: all that the cost of an estimate depends on."""
        return Shape(
            widths=self.widths,
            activations=tuple(a.name for a in self.activations),
            biased=any(b is not None for b in self.biases),
            gaussian_input=any(part is not None for part in (self._mean, self._cov, self._law)),
            dtype=self.dtype.name,
            entries=entries_of(self.weights),
        )

    @cached_property
    def sizes(self) -> tuple[tuple[float, float] | None, ...]:
        """The least and the largest size of an entry of each map, None where these are not known.

        They are not known of PyTorch tensors, which training changes, and of maps without entries.
        Cost: n_l n_{l-1} FLOPs for each map, the first time.

        >>> MLP([[[3.0, -4.0]], [[0.5]]]).sizes
        ((3.0, 4.0), (0.5, 0.5))
        """
        return tuple(map(_least_and_largest, self.weights))

    @property
    def homogeneous(self) -> bool:
        """Whether f(cx) = c f(x) for c > 0: no biases, every activation positively homogeneous."""
        return all(b is None or not b.any() for b in self.biases) and all(
            a.homogeneous for a in self.activations
        )

    def forward(self, x: ArrayLike) -> Array:
        """The outputs Y, (N, n_{L+1}), for inputs x, (N, n_0), in the network's dtype.

        Raises CumpropError for inputs of another width. Cost: 2 N n_l n_{l-1} FLOPs for every
        linear map, and the activations.
        """
        for z, _ in self.layers(x):
            y = z
        return y

    def layers(self, x: ArrayLike) -> Iterator[tuple[Array, Array | None]]:
        """The pairs (Z_l, X_l) for l = 1..L, then (Y, None); arrays of shape (N, n_l).

        `x` has the shape (N, n_0). Raises CumpropError for inputs of another width.
        """
        tensors = self._tensor is not None
        previous: Array = counted(self._kept(x)) if tensors else np.asanyarray(x, dtype=self.dtype)
        if previous.ndim == 0 or previous.shape[-1] != self.widths[0]:
            raise CumpropError(
                f"inputs have shape {previous.shape}; give (N, {self.widths[0]}), one per row"
            )
        for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = previous @ w.T
            if b is not None:
                z += b
            if layer == self.depth:
                yield (plain(z) if tensors else z), None
            else:
                previous = self.activations[layer].forward(z)
                yield (plain(z), plain(previous)) if tensors else (z, previous)

    def replace(self, **changes: Any) -> MLP:
        """The network with some arguments of the constructor changed and all others kept.

        Raises what the constructor raises. Cost: an input_cov that stays is not checked again.

        >>> MLP([[[3.0, 4.0]]], input_mean=1.0).replace(weights=[[[2.0, 5.0]]]).input_mean.tolist()
        [1.0, 1.0]
        """
        names = ("weights", "biases", "activations", "init_scale")
        kept: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self._law is not None and not changes.keys() & {"input_mean", "input_cov"}:
            kept["input"] = self._law
        elif "input" not in changes:
            kept["input_mean"] = self._mean
            kept["input_cov"] = None if self._cov is None else Checked(self._cov)
        return MLP(**(kept | changes))

    def __repr__(self) -> str:
        return summary(self)

    def prefix(self, depth: int) -> MLP:
        """The network of the first `depth` hidden layers, the next map being its output.

        Raises CumpropError for a depth that is not 0 to L.

        >>> MLP([[[1.0]], [[2.0]], [[3.0]]]).prefix(1).widths
        (1, 1, 1)
        """
        depth = typed(depth, int, "depth")
        if not 0 <= depth <= self.depth:
            raise CumpropError(f"the network has {self.depth} hidden layers, no prefix of {depth}")
        return self.replace(
            weights=self.weights[: depth + 1],
            biases=self.biases[: depth + 1],
            activations=self.activations[:depth],
            init_scale=None if self.init_scale is None else self.init_scale[: depth + 1],
        )

    def above(self, threshold: ArrayLike) -> MLP:
        """The network of one more layer whose expected outputs are P(Y_i > threshold).

        `threshold` is a number, or one for each output, (n_{L+1},).

        >>> import cumprop
        >>> tail = MLP([[[3.0, 4.0]]]).above(5.0)                  # Y is N(0, 25)
        >>> float(cumprop.estimate(tail, "cumulant", order=2).mean[0].round(4))
        0.1587
        """
        n = self.widths[-1]
        shift = self._vector(numbers(threshold, "threshold") + np.zeros(n), "threshold", n)
        last = self.biases[-1]
        return self.replace(
            weights=[*self.weights, np.eye(n, dtype=self.dtype)],
            biases=[*self.biases[:-1], -shift if last is None else last - shift, None],
            activations=[*self.activations, "heaviside"],
            init_scale=None if self.init_scale is None else [*self.init_scale, 1.0],
        )

    def probability(self, event: str, **options: Any) -> Probability:
        """The probability of an event of the outputs, with an interval: `cumprop.probability`.

        >>> MLP([[[3.0, 4.0]]]).probability("y0 > 25", tolerance=0.2).status
        'ok'
        """
        import cumprop

        return cumprop.probability(self, event, **options)

    def quantile(self, output: str, probability: float, **options: Any) -> Quantile:
        """The number that an output stays below with a probability: `cumprop.quantile`.

        >>> MLP([[[3.0, 4.0]]]).quantile("y0", 0.999, tolerance=0.2).status
        'ok'
        """
        import cumprop

        return cumprop.quantile(self, output, probability, **options)

    def save(self, path: str | Path) -> None:
        """Write the network to an npz file that `load` reads.

        Raises CumpropError for custom activations, because a Python function cannot be stored, and
        for inputs that are neither Gaussian nor uniform.
        """
        arrays = arrays_of(self)
        with Path(path).open("wb") as file:
            np.savez(file, **arrays)


def _least_and_largest(weight: Array) -> tuple[float, float] | None:
    if is_foreign(weight) or not has_numbers(weight) or not weight.size:
        return None
    with not_counting():
        sizes = np.abs(plain(weight))
    return float(sizes.min()), float(sizes.max())
