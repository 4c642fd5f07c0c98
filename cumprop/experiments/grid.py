"""A cell: one estimate of one network, from its content key to its row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

from cumprop import files
from cumprop.contract import Cost, Estimator, build
from cumprop.experiments import columns
from cumprop.experiments.columns import PARAMETERS
from cumprop.experiments.models import Config
from cumprop.flops import CONVENTION
from cumprop.networks import Shape

if TYPE_CHECKING:
    from cumprop.networks import MLP
    from cumprop.sampling import TruthSpec


@dataclass(frozen=True)
class Cell:
    """The determinants of a row: network, estimator, and the truth to compare with.

    `deepest` is the depth of the network that this one is a prefix of; the numbers of the row do
    not depend on it.
    """

    config: str
    width: int
    depth: int
    deepest: int
    readout: str
    activation: str
    init: str | dict[str, Any]
    dtype: str
    seed: int
    repeat: int
    estimator: str
    parameters: dict[str, Any]
    estimator_version: int
    tolerance: float | None
    truth_key: str
    truth_design: str
    truth_n_samples: int
    shape: Shape = field(repr=False)

    @cached_property
    def key(self) -> str:
        """A hash of all that determines the numbers, 16 hex digits: the name of the cell's file."""
        without = {"config", "deepest", "shape", *self.truth_columns}
        content = {k: v for k, v in self._fields().items() if k not in without}
        content["schema_version"] = columns.SCHEMA_VERSION
        text = json.dumps(content, sort_keys=True)
        return files.content_hash(text)

    def __getstate__(self) -> dict[str, Any]:
        """The fields for a worker, without the backend, whose plugin it may still have to load."""
        return {name: value for name, value in vars(self).items() if name != "backend"}

    @cached_property
    def backend(self) -> Estimator:
        """The estimator of this cell."""
        return build(self.estimator, **self.parameters)

    @cached_property
    def cost(self) -> Cost:
        """The cost that the estimator predicts for this cell."""
        return self.backend.predict_cost(self.shape)

    @property
    def flops(self) -> int:
        """Predicted FLOPs."""
        return self.cost.flops

    @property
    def bytes(self) -> int:
        """Predicted memory in bytes."""
        return self.cost.bytes

    @property
    def description(self) -> str:
        """The estimator and its tolerance, in words."""
        given = "" if self.tolerance is None else f" tolerance={self.tolerance}"
        return self.backend.label + given

    @property
    def label(self) -> str:
        """The cell in words."""
        repeat = f" repeat={self.repeat}" if self.repeat else ""
        return f"{self.description} width={self.width} depth={self.depth} seed={self.seed}{repeat}"

    @property
    def truth_columns(self) -> dict[str, Any]:
        """The columns that name the truth; when they change, the row is not computed again."""
        return {
            "truth_key": self.truth_key,
            "truth_design": self.truth_design,
            "truth_n_samples": self.truth_n_samples,
        }

    def network(self) -> MLP:
        """The network whose output, or last hidden layer, is the cell's readout."""
        from cumprop.networks import random_mlp
        from cumprop.sampling import tail_network, threshold

        deepest = random_mlp(
            self.width, self.deepest, self.seed, self.activation, self.init, self.dtype
        )
        network = deepest.prefix(self.depth - 1 if self.readout == "pre" else self.depth)
        t = threshold(self.readout)
        return network if t is None else tail_network(network, t)

    def _fields(self) -> dict[str, Any]:
        """The fields by name; `asdict` would copy each in depth."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def columns(self) -> dict[str, Any]:
        """The columns known before the cell has run."""
        columns = self._fields()
        del columns["deepest"], columns["shape"]
        columns |= {k: self.parameters[k] for k in PARAMETERS if k in self.parameters}
        columns["init"] = self.init if isinstance(self.init, str) else json.dumps(self.init)
        columns["parameters"] = json.dumps(self.parameters, sort_keys=True)
        return columns | {"cell_key": self.key, "flops_convention": CONVENTION}


def truth_specs(config: Config) -> dict[tuple[int, int, int], TruthSpec]:
    """The truth of each width, depth and seed.

    The truth of the deepest network serves all depths; only tails are sampled for each depth.
    """
    from cumprop.sampling import MeanSpec, TailSpec, threshold

    network, deepest = config.network, max(config.network.depth)
    t = threshold(network.readout)
    specs: dict[tuple[int, int, int], TruthSpec] = {}
    for width, depth, seed in product(network.width, network.depth, network.seeds):
        common: dict[str, Any] = {
            "width": width,
            "activation": network.activation,
            "init": network.plain_init,
            "seed": seed,
            "dtype": network.dtype,
            "design": config.truth.design,
        }
        specs[width, depth, seed] = (
            MeanSpec(depth=deepest, **common)
            if t is None
            else TailSpec(depth=depth, threshold=t, **common)
        )
    return specs


def cells(config: Config, name: str) -> list[Cell]:
    """All cells of an experiment called `name`, each once, in the order of its YAML."""
    network = config.network
    truths = truth_specs(config)
    found = (
        Cell(
            config=name,
            width=width,
            depth=depth,
            deepest=max(network.depth),
            readout=network.readout,
            activation=network.activation,
            init=network.plain_init,
            dtype=network.dtype,
            seed=seed,
            repeat=repeat,
            estimator=estimator.name,
            parameters=asdict(estimator),
            estimator_version=estimator.version,
            tolerance=tolerance,
            truth_key=truths[width, depth, seed].key,
            truth_design=config.truth.design,
            truth_n_samples=config.truth.n_samples,
            shape=shape,
        )
        for width, depth, shape, tolerance, estimator, repeats in _grid(config)
        for seed in network.seeds
        for repeat in range(repeats)
    )
    return list({cell.key: cell for cell in found}.values())


def _grid(config: Config) -> Iterator[tuple[int, int, Shape, float | None, Estimator, int]]:
    network = config.network
    for width, depth in product(network.width, network.depth):
        shape = network.shape(width, depth)
        for entry in config.estimators:
            for tolerance, estimator in entry.estimators(shape):
                yield width, depth, shape, tolerance, estimator, entry.repeats
