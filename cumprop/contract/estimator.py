"""The contract of an estimator backend, and `estimate`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_type_hints

import numpy as np
from numpy.typing import NDArray

from cumprop import streams
from cumprop.contract import printing
from cumprop.contract.cost import Cost
from cumprop.contract.registry import build
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
    """Moments of f(x), x Gaussian, with their errors; `print` and notebooks show a few lines.

    `mean` is E[Y], shape (n_{L+1},); `layer_means` E[X_1]..E[X_L]; `cov` Cov[Y] or None;
    `layer_variances` the variances of their neurons, None where they are not known;
    `stderr` the standard error of `mean` where sampling gives one; `half_width` that of a 95%
    interval of each mean, where the backend knows more than 1.96 `stderr`; `flops` by component;
    `status` is "ok" or says what to know before trusting the numbers. `expected_error` is the
    expected RMS error of `mean`, √(Σ squared errors / Σ variances), both sums over the outputs: in
    output standard deviations; `expected_std_error` the expected relative RMS error of the output
    standard deviations that `cov` gives; `signs` are what a propagation showed of its errors. They
    are None where they are not known.

    >>> import cumprop
    >>> found = cumprop.estimate(cumprop.random_mlp(width=64, depth=2, seed=0), cov=True)
    >>> found.mean.shape, len(found.layer_means), found.cov.shape, found.stderr, found.status
    ((64,), 2, (64, 64), None, 'ok')
    >>> f"{found.expected_error:.1g}"                              # output standard deviations
    '0.004'
    >>> cumprop.estimate(cumprop.MLP([[[3.0, 4.0]], [[1.0]]]), "gaussian", cov=True)
    ... # doctest: +ELLIPSIS
    Estimate of 1 output after 1 hidden layer
    output  mean ± 95%         s.d.
    0       1.99471 ± ...e-15  2.9191
    164 FLOPs
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

    def __repr__(self) -> str:
        return printing.as_text(self)

    def _repr_html_(self) -> str:
        return printing.as_html(self)

    def to_frame(self) -> pd.DataFrame:
        """A row per output: `mean`, `status`, and what else is known, as `to_dict` names it.

        `expected_error`, `expected_std_error` and `status` are the same in every row.
        """
        return printing.as_frame(self)

    def to_dict(self) -> dict[str, Any]:
        """All that is known, as lists, numbers and text that `json.dumps` takes, None elsewhere.

        An entry of `std` is None where its variance came out negative.
        """
        return printing.as_dict(self)


@dataclass(frozen=True)
class Estimator(ABC):
    """A backend: a frozen dataclass whose fields are its YAML keys, and four verbs.

    A field of another type than declared raises CumpropError, however the instance is made.
    `cumprop.contract.check_estimator` puts one through the whole contract.

    >>> import cumprop
    >>> one = build("cumulant", order=2)
    >>> network = cumprop.random_mlp(width=8, depth=3, seed=0)
    >>> one.supports(network), one.estimate(network).mean.shape
    (None, (8,))
    """

    name: ClassVar[str]
    version: ClassVar[int]
    renamed: ClassVar[Mapping[str, str]] = {}
    """Names that parameters had before, and those they have now, for the error of the old one."""

    @property
    def label(self) -> str:
        """The estimator in words: its order or samples, and parameters that are not the usual ones.

        >>> build("cumulant", order=2, kind="augmented").label
        'cumulant order=2 kind=augmented'
        """
        usual = {f.name: f.default for f in fields(self)}
        return label(self.name, asdict(self), [usual])

    def supports(self, network: MLP) -> str | None:
        """Why this network cannot be estimated, with the remedy; None where it can."""
        if any(map(is_foreign, network.weights)):
            return f"{self.name} takes NumPy weights, not tensors: give tensor.numpy(), or cumulant"
        return None

    def __init_subclass__(cls, **options: Any) -> None:
        """Let what a backend checks itself find parameters of the declared types."""
        super().__init_subclass__(**options)
        own = vars(cls).get("__post_init__")
        if own is not None:

            @wraps(own)
            def checked(self: Estimator) -> None:
                Estimator.__post_init__(self)
                own(self)

            cls.__post_init__ = checked  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        """Take every parameter as its declared type has it; CumpropError where that cannot be."""
        for key, hint in _types(type(self)).items():
            object.__setattr__(self, key, typed(getattr(self, key), hint, key))

    @abstractmethod
    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        """Estimate E[f(x)], and Cov[f(x)] where `cov`; without an `rng`, samples are of seed 0."""

    def independent_samples(self, outputs: Estimate) -> int | None:
        """How many independent inputs give quantiles as accurate as its tails.

        None where `outputs`, an estimate of this backend, is no average of samples.
        """
        return None

    @abstractmethod
    def predict_cost(self, shape: Shape) -> Cost:
        """FLOPs and peak bytes of `estimate` on a network of this shape, without running it."""

    @classmethod
    def from_tolerance(cls, tolerance: float, shape: Shape, **parameters: Any) -> Self:
        """The cheapest instance that theory expects to meet `tolerance` (mathematics §5).

        Without a definition of its own, a backend has one cost for all tolerances.
        """
        return cls(**parameters)


def label(name: str, parameters: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> str:
    """An estimator with its order or samples, and the parameters that tell it from `others`.

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


def estimate(
    network: MLP,
    estimator: str | Estimator = "cumulant",
    cov: bool = False,
    seed: int = 0,
    **parameters: Any,
) -> Estimate:
    """Estimate E[f(x)] of `network` under its Gaussian input from the weights.

    `estimator` is a backend name with its `parameters`, or an instance. One that samples draws
    what `seed` determines, the same as `cumprop estimate --seed`. A probability (`MLP.above`) that
    was not sampled has the status "unreliable". Raises CumpropError where the backend does not
    support the network, or a parameter is wrong. Cost: `Estimate.flops`.

    >>> import cumprop
    >>> network = cumprop.MLP([[[3.0, 4.0]], [[1.0]]])            # relu(3 x_1 + 4 x_2)
    >>> float(cumprop.estimate(network, "cumulant", order=2).mean[0].round(6))   # 5 / sqrt(2 pi)
    1.994711
    """
    from cumprop.contract.probabilities import is_probability, judged
    from cumprop.networks import MLP

    if not isinstance(network, MLP):
        raise CumpropError(
            f"network is {type(network).__name__}; give a cumprop.MLP, or cumprop.load(network)"
        )
    if isinstance(estimator, str):
        estimator = build(estimator, **parameters)
    elif not isinstance(estimator, Estimator):
        raise CumpropError(f"estimator is {estimator!r}; give the name or an instance of one")
    elif parameters:
        raise CumpropError("parameters go with an estimator's name, not with an instance")
    cov, rng = typed(cov, bool, "cov"), streams.sampling(seed, network.shape.width)
    reason = estimator.supports(network)
    if reason is not None:
        raise CumpropError(reason)
    found = estimator.estimate(network, cov=cov, rng=rng)
    return judged(network, estimator, found) if is_probability(network) else found
