"""The contract of an estimator backend, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_type_hints

import numpy as np
from numpy.typing import NDArray

from cumprop import streams
from cumprop.contract import printing
from cumprop.contract.cost import Cost
from cumprop.contract.third import ThirdCumulants
from cumprop.errors import CumpropError
from cumprop.flops import Flops, is_foreign
from cumprop.parameters import typed

if TYPE_CHECKING:
    import pandas as pd

    from cumprop.contract.trust import Signs
    from cumprop.networks import MLP, Shape

Array = NDArray[Any]

_TELLING = ("order", "n_samples")
"""Parameters that a label names even where they have their default."""


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """The moments of Y = f(x) for random x, with their errors, their cost and a status.

    `mean` is E[Y], (n_{L+1},), and `cov` Cov[Y], (n_{L+1}, n_{L+1}); `layer_means` are
    E[X_1]..E[X_L], (n_l,) each, and `layer_variances` the variances of the same neurons. `stderr`
    is the standard error of `mean` where sampling gives one; `half_width` the half width of a 95%
    interval of each mean, where the backend knows more than 1.96 `stderr`. `expected_error` is the
    expected RMS error of `mean` in output standard deviations: √(Σ squared errors / Σ variances),
    both sums over the outputs. `expected_std_error` is the expected relative RMS error of the
    standard deviations that `cov` gives; `signs` are the observations that both were computed from.
    `third` are the third cumulants of Y.
    A field that is not known is None. `flops` are counted by component; `status` is "ok" or names
    a reason to doubt the numbers and a remedy. `print` and notebooks show a few lines.

    >>> import cumprop
    >>> found = cumprop.estimate(cumprop.random_mlp(width=64, depth=2, seed=0), cov=True)
    >>> found.mean.shape, len(found.layer_means), found.cov.shape, found.stderr, found.status
    ((64,), 2, (64, 64), None, 'ok')
    >>> f"{found.expected_error:.1g}"                              # output standard deviations
    '0.005'
    >>> cumprop.estimate(cumprop.MLP([[[3.0, 4.0]], [[1.0]]]), "gaussian", cov=True)
    ... # doctest: +ELLIPSIS
    Estimate of 1 output after 1 hidden layer
    output  mean ± 95%         s.d.
    0       1.99471 ± ...e-15  2.9191
    148 FLOPs
    expected error ...e-16 output s.d., of the s.d. ...e-14%
    status: ok
    """

    mean: Array
    layer_means: tuple[Array, ...]
    cov: Array | None = None
    stderr: Array | None = None
    flops: Flops = field(default_factory=Flops)
    status: str = "ok"
    n_samples: int | None = None
    half_width: Array | None = None
    expected_error: float | None = None
    expected_std_error: float | None = None
    layer_variances: tuple[Array, ...] | None = None
    signs: Signs | None = None
    third: ThirdCumulants | None = None

    def __repr__(self) -> str:
        return printing.as_text(self)

    def _repr_html_(self) -> str:
        return printing.as_html(self)

    def to_frame(self) -> pd.DataFrame:
        """A table with a row per output; columns are named as in `to_dict`.

        Columns that are not known are left out. `expected_error`, `expected_std_error` and `status`
        are the same in every row.
        """
        return printing.as_frame(self)

    def to_dict(self) -> dict[str, Any]:
        """The fields as lists, numbers and text that `json.dumps` takes; None where not known.

        `signs` and `third` are left out. An entry of `std` is None where its variance came out
        negative.
        """
        return printing.as_dict(self)


@dataclass(frozen=True)
class Estimator(ABC):
    """A backend: a frozen dataclass whose fields are its YAML keys, and four verbs.

    Raises CumpropError for a field of another type than declared, however the instance is made.
    `cumprop.contract.check_estimator` tests an instance against the whole contract.

    >>> import cumprop
    >>> from cumprop.contract import build
    >>> one = build("cumulant", order=2)
    >>> network = cumprop.random_mlp(width=8, depth=3, seed=0)
    >>> one.supports(network), one.estimate(network).mean.shape
    (None, (8,))
    """

    name: ClassVar[str]
    version: ClassVar[int]
    renamed: ClassVar[Mapping[str, str]] = {}
    """Former names of parameters, and the present ones; the error for a former name says both."""
    by_moments: ClassVar[bool] = False
    """Whether the backend takes independent coordinates as a Gaussian of the same two moments."""
    draws: ClassVar[bool] = True
    """Whether `estimate` draws samples: other backends are given no `rng`, which takes time."""
    gives_third: ClassVar[bool] = False
    """Whether `estimate` takes `third=True` and then gives third cumulants, or None."""

    @property
    def label(self) -> str:
        """The estimator in words: its order or samples, and parameters that are not the usual ones.

        >>> from cumprop.contract import build
        >>> build("cumulant", order=2, kind="augmented").label
        'cumulant order=2 kind=augmented'
        """
        usual = {f.name: f.default for f in fields(self)}
        return label(self.name, asdict(self), [usual])

    def supports(self, network: MLP) -> str | None:
        """The reason why this network cannot be estimated, with a remedy; None where it can."""
        if any(map(is_foreign, network.weights)):
            return f"{self.name} takes NumPy weights, not tensors: give tensor.numpy(), or cumulant"
        return None

    def __init_subclass__(cls, **options: Any) -> None:
        """Let a backend see converted parameters in `__post_init__`, and Gaussian inputs only."""
        super().__init_subclass__(**options)
        if "estimate" in vars(cls):
            cls.estimate = _under_any_input(cls.estimate)  # type: ignore[method-assign]
        own = vars(cls).get("__post_init__")
        if own is not None:

            @wraps(own)
            def checked(self: Estimator) -> None:
                Estimator.__post_init__(self)
                own(self)

            cls.__post_init__ = checked  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        """Convert every parameter to its declared type; raise CumpropError where that fails."""
        for key, hint in _types(type(self)).items():
            object.__setattr__(self, key, typed(getattr(self, key), hint, key))

    @abstractmethod
    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        """Estimate E[f(x)], shape (n_{L+1},), and with `cov` Cov[f(x)] too.

        A backend is called with networks of Gaussian input only: a mixture is the weighted sum of
        its components, and independent coordinates are one more hidden layer
        (`networks.gaussian_parts`). Those that sample may also get rows of data (`over_rows`).
        Samples are drawn from `rng`, or of seed 0 without one. Raises CumpropError where the
        numbers cannot be computed: a network that the backend does not support, or too few samples.
        """

    def estimate_batch(self, network: MLP, means: Array, *, cov: bool = False) -> list[Estimate]:
        """The estimates of `network` under Gaussian inputs of its covariance and these means.

        `means` are (B, n_0). Backends that compute them side by side take less time and give the
        same numbers.
        """
        return [self.estimate(network.replace(input_mean=mean), cov=cov) for mean in means]

    def independent_samples(self, outputs: Estimate) -> int | None:
        """The number of independent inputs whose quantiles are as accurate as the estimated tails.

        None where `outputs`, an estimate of this backend, is no average of samples.
        """
        return None

    def with_share(self, share: float) -> Estimator:
        """The estimator for a component that has this share, 0 < share < 1, of a mixture."""
        return self

    def over_rows(self, n_rows: int) -> Estimator | None:
        """The estimator that averages over rows of data; None where the backend takes none."""
        return None

    @abstractmethod
    def predict_cost(self, shape: Shape) -> Cost:
        """FLOPs and peak bytes of `estimate` on a network of this shape, without running it."""

    @classmethod
    def from_tolerance(cls, tolerance: float, shape: Shape, **parameters: Any) -> Self:
        """The cheapest instance that theory expects to meet `tolerance` (mathematics §5).

        `tolerance` is the RMS error of the means, in output standard deviations. A backend without
        its own definition has one cost for all tolerances. Raises CumpropError where no instance
        meets the tolerance.
        """
        return cls(**parameters)


def _under_any_input(own: Callable[..., Estimate]) -> Callable[..., Estimate]:
    """The method `estimate` of a backend for networks of any input."""

    @wraps(own)
    def estimate(
        self: Estimator, network: MLP, *, rng: np.random.Generator | None = None, **wanted: bool
    ) -> Estimate:
        if network.has_gaussian_input:
            return own(self, network, rng=rng, **wanted)
        from cumprop.contract.any_input import under_any_input

        rng = rng or streams.sampling(0, network.shape.width)

        def run(estimator: Estimator, part: MLP) -> Estimate:
            if estimator is self:
                return own(self, part, rng=rng, **wanted)
            return estimator.estimate(part, rng=rng, **wanted)

        return under_any_input(self, network, run)

    return estimate


def label(name: str, parameters: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> str:
    """An estimator in words: its order or samples, and parameters that `others` have differently.

    >>> label("cumulant", {"order": 3, "kind": "tree"}, [{"order": 3, "kind": "basic"}])
    'cumulant order=3 kind=tree'
    """
    shown = {
        key: value
        for key, value in parameters.items()
        if key in _TELLING or any(other.get(key) != value for other in others)
    }
    return " ".join([name, *(f"{key}={value}" for key, value in shown.items())])


@cache
def _types(cls: type[Estimator]) -> dict[str, Any]:
    """The declared type of every parameter."""
    try:
        hints = get_type_hints(cls)
    except NameError as error:
        raise CumpropError(
            f"{cls.__name__}: the type of a field is not known ({error}); import it in its module"
        ) from None
    return {f.name: hints[f.name] for f in fields(cls) if f.init}
