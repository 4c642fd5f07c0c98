"""The contract of an estimator backend, the registry of backends, and `estimate`."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from inspect import getfile
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from cumprop.errors import CumpropError
from cumprop.flops import Flops, is_foreign

if TYPE_CHECKING:
    from cumprop.networks import MLP

Array = NDArray[Any]


@dataclass(frozen=True)
class Shape:
    """What the cost of an estimate depends on: everything of a network but its numbers.

    `widths` are n_0..n_{L+1}; `activations` the L names; `gaussian_input` is False for N(0, I).

    >>> shape = Shape((784, 256, 256, 10), ("relu", "relu"))
    >>> shape.depth, shape.width
    (2, 256)
    """

    widths: tuple[int, ...]
    activations: tuple[str, ...]
    biased: bool = False
    gaussian_input: bool = False
    dtype: str = "float32"

    @property
    def depth(self) -> int:
        """Number of hidden layers L."""
        return len(self.widths) - 2

    @property
    def width(self) -> int:
        """The largest hidden width n."""
        return max(self.widths[1:-1], default=self.widths[0])


@dataclass(frozen=True)
class Work:
    """What the seconds of an estimate depend on, beside its FLOPs.

    `calls` of NumPy's arithmetic, the FLOPs of matrix `products` among all, and those of entrywise
    operations with `large` results, each of which waits for fresh memory.
    """

    calls: int
    products: int
    large: int


@dataclass(frozen=True)
class Cost:
    """Predicted cost of one estimate: FLOPs, and bytes of arrays alive at the worst moment.

    `work` tells the FLOPs apart, for forecasts of time; without it they take as long as sampling's.

    >>> shape = Shape((256,) * 6, ("relu",) * 4)
    >>> f"{build('cumulant', order=2).predict_cost(shape).flops:.1e}"
    '1.9e+08'
    >>> Cost(3, 100) + Cost(4, 50)                                    # one after the other
    Cost(flops=7, bytes=100)
    """

    flops: int
    bytes: int
    work: Work | None = field(default=None, compare=False, repr=False)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, max(self.bytes, other.bytes))


@dataclass(frozen=True)
class Estimate:
    """What an estimator knows of f(x), x Gaussian.

    `mean` is E[Y], shape (n_{L+1},); `layer_means` E[X_1]..E[X_L]; `cov` Cov[Y] or None;
    `stderr` the standard error of `mean` where sampling gives one; `half_width` that of a 95%
    interval of each mean, where the backend knows more than 1.96 `stderr`; `flops` by component;
    `status` is "ok" or says what to know before trusting the numbers.

    >>> import cumprop
    >>> found = cumprop.estimate(cumprop.random_mlp(width=8, depth=3, seed=0), cov=True)
    >>> found.mean.shape, len(found.layer_means), found.cov.shape, found.stderr, found.status
    ((8,), 3, (8, 8), None, 'ok')
    """

    mean: Array
    layer_means: tuple[Array, ...]
    cov: Array | None = None
    stderr: Array | None = None
    flops: Flops = field(default_factory=Flops)
    status: str = "ok"
    n_samples: int | None = None
    half_width: Array | None = None


@dataclass(frozen=True)
class Estimator(ABC):
    """A backend: a frozen dataclass whose fields are its YAML keys, and four verbs.

    `cumprop.checks.check_estimator` puts one through the whole contract.

    >>> import cumprop
    >>> one = build("cumulant", order=2)
    >>> network = cumprop.random_mlp(width=8, depth=3, seed=0)
    >>> one.supports(network), one.estimate(network).mean.shape
    (None, (8,))
    """

    name: ClassVar[str]
    version: ClassVar[int]

    def supports(self, network: MLP) -> str | None:
        """Why this network cannot be estimated, with the remedy; None where it can."""
        if any(map(is_foreign, network.weights)):
            return f"{self.name} takes NumPy weights, not tensors: give tensor.numpy(), or cumulant"
        return None

    @abstractmethod
    def estimate(
        self, network: MLP, *, cov: bool = False, rng: np.random.Generator | None = None
    ) -> Estimate:
        """Estimate E[f(x)], and Cov[f(x)] where `cov`."""

    def independent_samples(self, outputs: Estimate) -> int | None:
        """How many independent inputs give quantiles as accurate as its tails.

        None where `outputs`, an estimate of this backend, is no average of samples.
        """
        return None

    @abstractmethod
    def predict_cost(self, shape: Shape) -> Cost:
        """FLOPs and peak bytes of `estimate` on a network of this shape, without running it."""

    @classmethod
    @abstractmethod
    def from_tolerance(cls, tolerance: float, shape: Shape, **parameters: Any) -> Self:
        """The cheapest instance that theory expects to meet `tolerance` (mathematics §5)."""


_registry: dict[str, type[Estimator]] = {}
E_ = TypeVar("E_", bound=type[Estimator])


def register(name: str) -> Callable[[E_], E_]:
    """Class decorator: make a backend known by `name`; a name taken twice is an error.

    >>> @register("nothing")
    ... @dataclass(frozen=True)
    ... class Nothing(Estimator):
    ...     version = 1
    >>> _registry.pop("nothing").name
    'nothing'
    """

    def decorate(cls: E_) -> E_:
        known = _registry.setdefault(name, cls)
        if (getfile(known), known.__qualname__) != (getfile(cls), cls.__qualname__):
            raise CumpropError(f"estimator {name!r} is registered twice; rename one of them")
        cls.name = name
        return cls

    return decorate


def available() -> list[str]:
    """Names of all backends: files of `estimators/`, entry points and loaded plugins.

    >>> "cumulant" in available()
    True
    """
    package = importlib.import_module("cumprop.estimators")
    own = {module.name for module in pkgutil.iter_modules(package.__path__)}
    return sorted(own | {point.name for point in _entry_points()} | set(_registry))


def get(name: str) -> type[Estimator]:
    """The backend class called `name`.

    >>> get("monte_carlo").__name__
    'MonteCarlo'
    """
    if name not in _registry:
        points = {point.name: point for point in _entry_points()}
        if name in points:
            points[name].load()
        elif name in available():
            importlib.import_module(f"cumprop.estimators.{name}")
        else:
            raise CumpropError(
                f"unknown estimator {name!r}; the known ones are {', '.join(available())}"
            )
    return _registry[name]


def _entry_points() -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group="cumprop.estimators")


def build(name: str, **parameters: Any) -> Estimator:
    """An instance of backend `name`; unknown parameters list the valid ones."""
    cls = get(name)
    valid = [f.name for f in fields(cls)]
    for key in parameters:
        if key not in valid:
            raise CumpropError(
                f"estimator {name} has no parameter {key!r}; it takes {', '.join(valid)}"
            )
    return cls(**parameters)


def estimate(
    network: MLP, estimator: str | Estimator = "cumulant", cov: bool = False, **parameters: Any
) -> Estimate:
    """Estimate E[f(x)] of `network` under its Gaussian input from the weights.

    `estimator` is a backend name with its `parameters`, or an instance. Raises CumpropError where
    the backend does not support the network, or a parameter is wrong. Cost: `Estimate.flops`.

    >>> import cumprop
    >>> network = cumprop.MLP([[[3.0, 4.0]], [[1.0]]])            # relu(3 x_1 + 4 x_2)
    >>> float(cumprop.estimate(network, "cumulant", order=2).mean[0].round(6))   # 5 / sqrt(2 pi)
    1.994711
    """
    if isinstance(estimator, str):
        estimator = build(estimator, **parameters)
    elif parameters:
        raise CumpropError("parameters go with an estimator's name, not with an instance")
    reason = estimator.supports(network)
    if reason is not None:
        raise CumpropError(reason)
    return estimator.estimate(network, cov=cov)
