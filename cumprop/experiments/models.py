"""An experiment: networks × estimators, the truth they are compared with, its figures.

These models are the YAML of `configs/`, key by key; `experiments.config` reads them from files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from cumprop.contract import Estimator, build, build_for
from cumprop.errors import CumpropError
from cumprop.networks import Shape
from cumprop.parameters import whole

if TYPE_CHECKING:
    from cumprop.networks import MLP


def listed(value: Any) -> Any:
    """A list as it is; any other value as a list of one."""
    return value if isinstance(value, list) else [value]


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"lists {value} twice; take one away")
        seen.add(value)
    return values


def known_activation(name: str) -> str:
    """The name of an activation; ValueError, for pydantic, where none has this name."""
    from cumprop.activations import get

    try:
        get(name)
    except CumpropError as error:
        raise ValueError(error) from None
    return name


def _known_readout(name: str) -> str:
    from cumprop.sampling import threshold

    try:
        if name in ("output", "pre", "post") or threshold(name) is not None:
            return name
    except CumpropError as error:
        raise ValueError(error) from None
    raise ValueError(f"must be one of output, pre, post, tail(t) with a number t, got {name!r}")


def _seeds(value: Any) -> Any:
    """The seeds 0..4 for `seeds: 5`; a list as it is."""
    value = whole(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not 0 < value <= 10**6:
        raise ValueError(f"must be a count from 1 to 1000000 or a list of seeds, got {value}")
    return list(range(value))


Readout = Annotated[
    str,
    AfterValidator(_known_readout),
    WithJsonSchema({"type": "string", "pattern": r"^(output|pre|post|tail\(.+\))$"}),
]
MOST = 10**18
"""The largest count that a column of results can hold."""

Positive = Annotated[int, Field(ge=1, le=MOST), BeforeValidator(whole)]
Size = Annotated[int, Field(ge=1, le=10**5), BeforeValidator(whole)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Rate = Annotated[Real, Field(gt=0)]
Samples = Annotated[int, Field(ge=2), BeforeValidator(whole)]
Grid = Annotated[
    list[Size],
    Field(min_length=1),
    AfterValidator(_distinct),
    BeforeValidator(listed, json_schema_input_type=Size | list[Size]),
]
Tolerance = Annotated[Real, Field(gt=0)]
Tolerances = Annotated[
    list[Tolerance],
    Field(min_length=1),
    AfterValidator(_distinct),
    BeforeValidator(listed, json_schema_input_type=Tolerance | list[Tolerance]),
]
Seeds = Annotated[
    list[Annotated[int, Field(ge=0, le=MOST), BeforeValidator(whole)]],
    Field(min_length=1),
    AfterValidator(_distinct),
    BeforeValidator(_seeds, json_schema_input_type=Positive | list[int]),
]


class Model(BaseModel):
    """A section of a configuration; unknown keys and values of other types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    renamed: ClassVar[Mapping[str, str]] = {}
    """Former names of keys, and the present ones; the error for a former name says both."""


def _form(value: Any) -> str:
    return "list" if isinstance(value, list) else "number"


PerMap = Annotated[
    Annotated[Real, Tag("number")] | Annotated[list[Real], Tag("list")], Discriminator(_form)
]


class ManualInit(Model):
    """Weight variance × fan-in, bias variance and bias mean: one number, or one per map."""

    w_var: PerMap
    b_var: PerMap = 0.0
    b_mean: PerMap = 0.0


class CriticalPoint(Model):
    """The fixed point q* of the edge of chaos (mathematics §1)."""

    q: Annotated[Real, Field(gt=0)]


class CriticalInit(Model):
    """Critical initialisation at a chosen fixed point."""

    critical: CriticalPoint


def _init_form(value: Any) -> str:
    if not isinstance(value, dict):
        return "init by name"
    return "critical init" if "critical" in value else "manual init"


Init = Annotated[
    Annotated[Literal["he", "critical"], Tag("init by name")]
    | Annotated[CriticalInit, Tag("critical init")]
    | Annotated[ManualInit, Tag("manual init")],
    Discriminator(_init_form),
]


class Network(Model):
    """The random networks of an experiment: all widths × depths × seeds."""

    activation: Annotated[str, AfterValidator(known_activation)] = "relu"
    init: Init = "he"
    width: Grid
    depth: Grid
    seeds: Seeds = [0]
    dtype: Literal["float32", "float64"] = "float32"
    readout: Readout = "output"

    @property
    def plain_init(self) -> str | dict[str, Any]:
        """`init` as `random_mlp` takes it."""
        return self.init if isinstance(self.init, str) else self.init.model_dump()

    def shape(self, width: int, depth: int) -> Shape:
        """The shape of the network that is estimated for a width and a depth, without weights."""
        tiny = self.tiny().shape
        hidden = depth - (self.readout == "pre")
        widths, activations = (width,) * (hidden + 2), tiny.activations[:hidden]
        if self.readout.startswith("tail"):
            widths, activations = (*widths, 1), (*activations, "heaviside")
        return Shape(widths, activations, tiny.biased, False, self.dtype)

    def tiny(self) -> MLP:
        """A network of width 1 with the largest depth; raises CumpropError if none can be made."""
        return _tiny(self.activation, json.dumps(self.plain_init), max(self.depth), self.dtype)


@cache
def _tiny(activation: str, init: str, depth: int, dtype: str) -> MLP:
    from cumprop.networks import random_mlp

    return random_mlp(1, depth, 0, activation=activation, init=json.loads(init), dtype=dtype)


class Truth(Model):
    """The sampling that every estimate is compared with; `n_samples` counts both halves together.

    Design importance is for readout tail(t), and draws n_samples inputs for every neuron.
    """

    n_samples: Annotated[int, Field(ge=2, le=MOST), BeforeValidator(whole)]
    design: Literal["iid", "antithetic", "orthogonal", "importance"] = "orthogonal"


class EstimatorGrid(BaseModel):
    """A backend and its parameters, each a value or a list; lists span a grid."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: str
    tolerance: Tolerances | None = None
    repeats: Positive = 1

    @property
    def parameters(self) -> dict[str, list[Any]]:
        """The values listed for each parameter of the backend."""
        return {key: listed(value) for key, value in (self.model_extra or {}).items()}

    def estimators(self, shape: Shape) -> Iterator[tuple[float | None, Estimator]]:
        """The tolerance (or None) and the estimator of every combination, for a network's shape.

        Raises CumpropError where a combination is not possible.
        """
        for values in product(*self.parameters.values()):
            chosen = dict(zip(self.parameters, values, strict=True))
            if self.tolerance is None:
                yield None, build(self.name, **chosen)
            for tolerance in self.tolerance or ():
                yield tolerance, build_for(self.name, tolerance, shape, **chosen)


class Config(Model):
    """One experiment, as a file of `configs/` declares it.

    Cells predicted to need more than `most_bytes` are left out, unless they are stored. `workers`
    is the number of workers where no option gives one: 1 for experiments that measure seconds.
    """

    renamed: ClassVar[Mapping[str, str]] = {"jobs": "workers"}
    network: Network
    truth: Truth
    estimators: Annotated[list[EstimatorGrid], Field(min_length=1)]
    figures: list[str] = Field(default_factory=list)
    most_bytes: Positive | None = None
    workers: Positive | None = None

    @field_validator("truth")
    @classmethod
    def _design_fits_readout(cls, truth: Truth, others: ValidationInfo) -> Truth:
        network = others.data.get("network")
        if network and network.readout.startswith("tail") != (truth.design == "importance"):
            raise ValueError(
                f"readout {network.readout} and truth design {truth.design} do not go together; "
                "readout tail(t) takes design importance, every other readout another design"
            )
        return truth
