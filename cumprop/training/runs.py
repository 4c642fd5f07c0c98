"""The runs of experiments of training: computed, stored and read, whichever experiment they are.

An experiment has a class of runs, the columns of their rows, the function that computes a run, and
the figures that draw rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from cumprop import files
from cumprop.errors import CumpropError
from cumprop.experiments import catastrophe_config, distillation_config
from cumprop.experiments.columns import DONE, RUN_SCHEMA, TRAINING_SCHEMA, failed, failure
from cumprop.flops import CONVENTION
from cumprop.results import store
from cumprop.results.provenance import provenance
from cumprop.training import catastrophe_runs, distillation_runs

Row = Mapping[str, Any]
Run = catastrophe_config.Run | distillation_config.Run


@dataclass(frozen=True)
class Kind:
    """An experiment of training: its configurations, and the module that computes their runs."""

    configs: ModuleType
    schema: pa.Schema
    runs: ModuleType

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures that draw its rows."""
        figures: tuple[str, ...] = self.runs.FIGURES
        return figures


KINDS = {
    distillation_config.COMMAND: Kind(distillation_config, RUN_SCHEMA, distillation_runs),
    catastrophe_config.COMMAND: Kind(catastrophe_config, TRAINING_SCHEMA, catastrophe_runs),
}
"""The experiments by the value of `command:` in their configurations."""


def kind_of(folder: Path) -> Kind:
    """The experiment whose rows a folder holds."""
    schema = store.schema_of(folder)
    return next(kind for kind in KINDS.values() if kind.schema == schema)


def run_all(
    planned: Sequence[Run], folder: Path, workers: int = 1
) -> Iterator[tuple[Run, str | None]]:
    """Compute the runs that `folder` does not hold yet; yield each run with its failure or None.

    The function may be killed and repeated: an interrupted run leaves nothing and is run again.
    """
    from joblib import Parallel, delayed

    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(parts)
    store.write_plan(folder, (run.key for run in planned), _kind(planned[0]).runs.figures(planned))
    left = [run for run in planned if not is_stored(run, parts)]
    pool = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
    yield from pool(delayed(_run)(run, parts, workers) for run in left)


def is_stored(run: Run, parts: Path) -> bool:
    """Whether the row of a run is stored, and did not fail."""
    row = store.read_cell(parts, run.key)
    return row is not None and not failed(row)


def _run(run: Run, parts: Path, workers: int) -> tuple[Run, str | None]:
    """Compute a run and store its row; a run that raises CumpropError gets a failed row."""
    import torch

    from cumprop.sweep.engines.local import follow_parent

    follow_parent()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        measured = {"outcome": DONE, **_kind(run).runs.trajectory(run)}
    except CumpropError as error:
        measured = {**failure(str(error))}
    finally:
        torch.set_num_threads(threads)
    about = {
        "cell_key": run.key,
        "run_version": run.version,
        "flops_convention": CONVENTION,
        "seconds": time.perf_counter() - start,
        "torch_version": version("torch"),
    }
    row = asdict(run) | measured | about | provenance(1, workers)
    store.write_part(parts, row, _kind(run).schema)
    return run, measured.get("note")


def _kind(run: Run) -> Kind:
    return next(kind for kind in KINDS.values() if isinstance(run, kind.configs.Run))


def folders(results: Path) -> list[Path]:
    """`results` itself, or the folders in it that hold runs, without `reference`."""
    return store.folders(
        results, lambda folder: store.has_rows(folder) and not store.is_sweep(folder)
    )


def read(folder: Path) -> list[Row]:
    """The rows of the finished runs of the last request, or of all runs if it is not known."""
    plan = store.read_plan(folder)
    rows: list[Row] = [
        row
        for row in store.read_folder(folder)
        if not failed(row) and (plan is None or row["cell_key"] in plan)
    ]
    if not rows:
        raise CumpropError(f"{folder}: no finished runs; run `cumprop train CONFIG` again")
    return rows


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The lines of the table of an experiment."""
    kind = next(kind for kind in KINDS.values() if {*kind.schema.names} == rows[0].keys())
    lines: list[dict[str, Any]] = kind.runs.summary(rows)
    return lines
