"""A cell: one estimate of one network, from its content key to its row."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cumprop import limits, store
from cumprop.errors import CumpropError
from cumprop.estimator import Cost, Estimate, Estimator, Shape, build, get
from cumprop.experiment import Config
from cumprop.flops import CONVENTION
from cumprop.memory import traced_peak, with_resident_peak
from cumprop.provenance import CONDITIONS, provenance

if TYPE_CHECKING:
    from cumprop.networks import MLP
    from cumprop.truth import TruthSpec

LARGE = 10**10
"""FLOPs (about a second) from which a cell is not run a second time to trace its memory."""

_COLUMNS = ("order", "kind", "engine", "metric", "truncation", "n_samples", "design")
"""Estimator fields that have a column of their own."""

_TELLING = ("order", "n_samples")
"""Fields worth showing even where they have their default."""


@dataclass(frozen=True)
class Cell:
    """Everything that determines a row: network, estimator, and the truth to compare with.

    `deepest` is the depth of the network this one is a prefix of; the numbers do not depend on it.
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
        """Hash of what determines the numbers, 16 hex digits; the name of the cell's part."""
        without = {"config", "deepest", "shape", *self.truth_columns}
        content = {k: v for k, v in asdict(self).items() if k not in without}
        content["schema_version"] = store.SCHEMA_VERSION
        text = json.dumps(content, sort_keys=True)
        return store.content_hash(text)

    @property
    def backend(self) -> Estimator:
        """The estimator of this cell."""
        return build(self.estimator, **self.parameters)

    @cached_property
    def cost(self) -> Cost:
        """What the estimator predicts for this cell."""
        return self.backend.predict_cost(self.shape)

    @property
    def flops(self) -> int:
        """Predicted FLOPs."""
        return self.cost.flops

    @property
    def bytes(self) -> int:
        """Predicted memory."""
        return self.cost.bytes

    @property
    def description(self) -> str:
        """The estimator and what is special about it, in words."""
        defaults = {f.name: f.default for f in fields(get(self.estimator))}
        shown = {
            key: value
            for key, value in self.parameters.items()
            if key in _TELLING or value != defaults[key]
        }
        if self.tolerance is not None:
            shown["tolerance"] = self.tolerance
        return " ".join([self.estimator, *(f"{key}={value}" for key, value in shown.items())])

    @property
    def label(self) -> str:
        """The cell in words."""
        repeat = f" repeat={self.repeat}" if self.repeat else ""
        return f"{self.description} width={self.width} depth={self.depth} seed={self.seed}{repeat}"

    @property
    def truth_columns(self) -> dict[str, Any]:
        """The columns that say what to compare with; they may change without computing anew."""
        return {
            "truth_key": self.truth_key,
            "truth_design": self.truth_design,
            "truth_n_samples": self.truth_n_samples,
        }

    def network(self) -> MLP:
        """The network whose output is the cell's readout, or whose last layer is."""
        from cumprop.random_networks import random_mlp
        from cumprop.tails import tail_network, threshold

        deepest = random_mlp(
            self.width, self.deepest, self.seed, self.activation, self.init, self.dtype
        )
        network = deepest.prefix(self.depth - 1 if self.readout == "pre" else self.depth)
        t = threshold(self.readout)
        return network if t is None else tail_network(network, t)

    def columns(self) -> dict[str, Any]:
        """The columns known before the cell has run."""
        columns = asdict(self)
        del columns["deepest"], columns["shape"]
        columns |= {k: self.parameters[k] for k in _COLUMNS if k in self.parameters}
        columns["init"] = self.init if isinstance(self.init, str) else json.dumps(self.init)
        columns["parameters"] = json.dumps(self.parameters, sort_keys=True)
        return columns | {"cell_key": self.key, "flops_convention": CONVENTION}


def truth_specs(config: Config) -> dict[tuple[int, int, int], TruthSpec]:
    """The truth of each width, depth and seed.

    The deepest network's is that of all depths, but for tails, which are sampled each on its own.
    """
    from cumprop.tails import TailSpec, threshold
    from cumprop.truth import TruthSpec

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
            TruthSpec(depth=deepest, **common)
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


def forward_flops(width: int, depth: int) -> int:
    """FLOPs of one forward pass through all linear maps and activations."""
    return (depth + 1) * 2 * width**2 + depth * width


@dataclass(frozen=True)
class Outcome:
    """How a job of a sweep ended: "ok", a note or "failed: reason"."""

    label: str
    status: str
    flops: int
    is_cell: bool = True

    @property
    def failed(self) -> bool:
        return self.status.startswith("failed")


def borrow(cell: Cell, parts: Path, workers: int) -> bool:
    """Take over the row of another experiment that computed this cell, if there is one.

    Only a row computed under the conditions of now, so that the seconds of a folder compare.
    """
    now = provenance(1, workers)
    for row in store.rows_of(parts.parent.parent, cell.key):
        if row["status"].startswith("failed"):
            continue
        if all(row[name] == now[name] for name in CONDITIONS):
            store.write_part(parts, row | {"config": cell.config} | cell.truth_columns)
            return True
    return False


def is_stored(cell: Cell, parts: Path) -> bool:
    """Whether the cell's row is there, and no failed one.

    A row that is to be compared with another truth by now is moved on to it.
    """
    stored = store.read_cell(parts, cell.key)
    if stored is None or stored["status"].startswith("failed"):
        return False
    if not cell.truth_columns.items() <= stored.items():
        store.write_part(parts, stored | cell.truth_columns)
    return True


def run_cell(
    cell: Cell,
    parts: Path,
    workers: int,
    debug: bool = False,
    time_limit: AbstractContextManager[None] | None = None,
) -> Outcome:
    """Compute a cell and store its row; a cell that cannot be computed becomes a failed row.

    It waits until its memory is free, and is then computed within `time_limit`. Nothing is computed
    for a row that another sweep or experiment has stored.
    """
    if is_stored(cell, parts) or borrow(cell, parts, workers):
        return Outcome(cell.label, "ok", cell.flops)
    try:
        with limits.memory(cell.bytes), time_limit or nullcontext():
            measured = _measure(cell)
    except Exception as error:
        if debug:
            traceback.print_exc()
        reason = str(error) if isinstance(error, CumpropError) else _described(error)
        return give_up(cell, parts, workers, reason)
    return _stored(cell, parts, workers, measured)


def give_up(cell: Cell, parts: Path, workers: int, reason: str) -> Outcome:
    """Store the row of a cell that cannot be computed."""
    return _stored(cell, parts, workers, {"status": "failed: " + " ".join(reason.split())})


def _stored(cell: Cell, parts: Path, workers: int, measured: dict[str, Any]) -> Outcome:
    store.write_part(parts, cell.columns() | measured | provenance(1, workers))
    return Outcome(cell.label, measured["status"], cell.flops)


def _described(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "out of memory; use fewer --jobs or a smaller width"
    return f"{type(error).__name__}: {error}"


def _measure(cell: Cell) -> dict[str, Any]:
    """The measured columns of a cell. `seconds` times `estimate` alone, on a built network.

    Tracing allocations slows it down, so a small cell runs twice: first traced, which also warms
    it up, then timed. A large one runs once, and the operating system says how the process grew.
    """
    network = cell.network()
    reason = cell.backend.supports(network)
    if reason is not None:
        raise CumpropError(reason)
    if cell.cost.flops < LARGE:
        peak: int | None = traced_peak(lambda: _timed(cell, network))
        estimate, seconds = _timed(cell, network)
    else:
        (estimate, seconds), peak = with_resident_peak(lambda: _timed(cell, network))
    is_output = cell.readout in ("output", "pre")
    mean = estimate.mean if is_output else estimate.layer_means[-1]
    stderr = estimate.stderr if is_output else None
    bad = int(np.sum(~np.isfinite(mean)))
    if bad:
        raise CumpropError(f"{bad} of {mean.size} means are not finite; try float64 or order 1")
    n_samples = {} if estimate.n_samples is None else {"n_samples": estimate.n_samples}
    return n_samples | {
        "mean": np.asarray(mean, dtype=np.float64).tolist(),
        "stderr": None if stderr is None else np.asarray(stderr, dtype=np.float64).tolist(),
        "flops": estimate.flops.total,
        "flops_components": json.dumps(dict(estimate.flops)),
        "seconds": seconds,
        "peak_bytes": peak,
        "status": estimate.status,
    }


def _timed(cell: Cell, network: MLP) -> tuple[Estimate, float]:
    from cumprop.random_networks import stream

    rng = stream(cell.seed, cell.width, 1, cell.repeat)
    start = time.perf_counter()
    estimate = cell.backend.estimate(network, cov=False, rng=rng)
    return estimate, time.perf_counter() - start
