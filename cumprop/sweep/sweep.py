"""Sweeps: the cells and truths of an experiment, run side by side, resumed where they stopped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from cumprop import files
from cumprop.errors import CumpropError
from cumprop.experiments.columns import failed
from cumprop.experiments.grid import Cell, cells, truth_specs
from cumprop.experiments.models import Config
from cumprop.flops import TooLarge, arena
from cumprop.networks import Shape
from cumprop.results import store
from cumprop.sampling import TruthBlock, TruthSpec, put_together
from cumprop.sweep import engines
from cumprop.sweep.engines import Outcome, Place
from cumprop.sweep.progress import Progress
from cumprop.sweep.run_cell import is_stored
from cumprop.sweep.tasks import Task, TruthTask, Work

Rows = dict[str, dict[str, Any]]
"""The columns of stored rows that say what they are compared with, by cell."""


@dataclass(frozen=True)
class Plan:
    """The cells and truths that a sweep is to compute.

    `workers` are those of its cells where the experiment says; `left_out` cells are too large; a
    shard is a part of the `whole`. `stored` are the rows that it was made with, where it looked.
    """

    name: str
    cells: list[Cell]
    truths: list[TruthTask]
    figures: list[str] = field(default_factory=list)
    workers: int | None = None
    left_out: int = 0
    whole: Plan | None = None
    stored: Rows | None = field(default=None, repr=False)

    def shard(self, number: int, count: int) -> Plan:
        """The part `number` of `count` (from 1) that one of several machines takes."""
        cells = sorted(self.cells, key=lambda cell: cell.flops, reverse=True)
        truths = [
            replace(task, shard=((number - 1 + i) % count, count))
            for i, task in enumerate(self.truths)
        ]
        return replace(self, cells=cells[number - 1 :: count], truths=truths, whole=self)


@dataclass(frozen=True)
class Summary:
    """How a sweep ended; `kept` cells were there before."""

    computed: int
    kept: int
    failed: list[Outcome]


def plan(config: Config, name: str, results: Path | None = None) -> Plan:
    """The cells and truths of an experiment; nothing is computed.

    Costs are predicted to leave out cells that are too large. Rows stored below `results` are kept
    without being asked: shards of one plan, which must be of the same cells, do not look there.
    """
    specs = {spec.key: spec for spec in truth_specs(config).values()}
    truths = [TruthTask(spec, config.truth.n_samples) for spec in specs.values()]
    stored = None if results is None else _stored(results / name)
    wanted = cells(config, name)
    asked = [cell for cell in wanted if cell.key not in (stored or {})]
    large = set() if config.most_bytes is None else _large(asked, config.most_bytes)
    kept = [cell for cell in wanted if cell.key not in large]
    return Plan(name, kept, truths, config.figures, config.workers, len(large), stored=stored)


def _large(cells: Sequence[Cell], most: int) -> set[str]:
    """The keys of cells predicted to need more than `most` bytes; equal ones are asked once."""

    def is_large(cell: Cell) -> bool:
        try:
            with arena(at_most=most):
                return cell.bytes > most
        except TooLarge:
            return True

    alike = defaultdict[tuple[str, Shape], list[Cell]](list)
    for cell in cells:
        alike[cell.description, cell.shape].append(cell)
    return {cell.key for equal in alike.values() if is_large(equal[0]) for cell in equal}


def shared(plans: Sequence[Plan]) -> list[Plan]:
    """The plans with every truth only once, as deep and as large as the most demanding asks."""
    alike = defaultdict[str, list[TruthTask]](list)
    for task in (task for one in plans for task in one.truths):
        alike[task.spec.key].append(task)
    merged = {
        key: TruthTask(
            max((task.spec for task in tasks), key=lambda spec: spec.depth),
            max(task.n_samples for task in tasks),
        )
        for key, tasks in alike.items()
    }
    return [
        replace(one, truths=[t for task in one.truths if (t := merged.pop(task.spec.key, None))])
        for one in plans
    ]


def remaining(plans: Sequence[Plan], results: Path) -> list[Plan]:
    """The plans without what is stored; changes nothing."""
    return [
        replace(
            one,
            cells=_split(one, _rows(one, results))[0],
            truths=[left for task in one.truths if (left := task.remaining(results)).n_samples],
        )
        for one in plans
    ]


def run(plan: Plan, results: Path, place: Place | None = None, **options: Any) -> Summary:
    """`run_all` of one plan."""
    (summary,) = run_all([plan], results, place, **options)
    return summary


def run_all(
    plans: Sequence[Plan],
    results: Path,
    place: Place | None = None,
    plugins: Sequence[Path] = (),
    debug: bool = False,
    seconds: float | None = None,
) -> list[Summary]:
    """Compute what is not there yet, each cell a parquet part in `results/<name>/parts`.

    Safe to kill, to repeat and to run twice at once. Every task uses one BLAS thread; as many run
    at a time as `place` has workers, cells as many as their plan says. Failed cells, also those
    that take more than `seconds`, become rows with a reason and are tried again by the next run.
    """
    place = replace(place or Place(), folder=results, apart=seconds is not None)
    work = Work(results.absolute(), tuple(path.absolute() for path in plugins), debug, seconds)
    all_left = [_left(one, results, place.workers) for one in plans]
    all_blocks = [_blocks(one.truths, results) for one in plans]
    summaries = []
    with Progress([*chain(*all_blocks)], [*chain(*all_left)], results) as progress:
        for one, left, blocks in zip(plans, all_left, all_blocks, strict=True):
            n = len(one.cells)
            progress.say(
                f"{one.name}: {n} cells ({n - len(left)} already there), {len(one.truths)} truths; "
                f"results go to {results / one.name / 'parts'}"
            )
            stages: list[tuple[Sequence[Task], int]] = [([*blocks, *left], place.workers)]
            if one.workers is not None:
                stages = [(blocks, place.workers), (left, one.workers)]
            ended_badly = dict[str, tuple[Task, Outcome]]()
            for tasks, workers in stages:
                there = replace(place, workers=workers)
                ended_badly |= _failures(tasks, work, there, one.name, progress)
            lost = sum(isinstance(task, Cell) for task, _ in ended_badly.values())
            outcomes = [outcome for _, outcome in ended_badly.values()]
            summaries.append(Summary(len(left) - lost, n - len(left), outcomes))
    return summaries


def sample(
    specs: Sequence[TruthSpec], n_samples: int, results: Path, place: Place, debug: bool = False
) -> list[Outcome]:
    """Extend truths below `results` to `n_samples`; what failed, each truth once."""
    work = Work(results.absolute(), debug=debug)
    blocks = _blocks([TruthTask(spec, n_samples) for spec in specs], results)
    place = replace(place, folder=results)
    with Progress(blocks, [], results) as progress:
        ended_badly = _failures(blocks, work, place, "truth", progress)
    return [outcome for _, outcome in ended_badly.values()]


def _blocks(truths: Sequence[TruthTask], results: Path) -> list[TruthBlock]:
    """The blocks of truths that are to be sampled, once damaged files are set aside."""
    blocks = list[TruthBlock]()
    for task in truths:
        with suppress(OSError):  # which its blocks will report
            put_together(results / "truth", task.spec)
        blocks += task.blocks(results)
    return blocks


def _failures(
    tasks: Sequence[Task], work: Work, place: Place, name: str, progress: Progress
) -> dict[str, tuple[Task, Outcome]]:
    """Run tasks, long ones first: all workers are busy to the end; what failed, by its label."""
    ordered = sorted(tasks, key=lambda task: task.flops, reverse=True)
    found = dict[str, tuple[Task, Outcome]]()
    for task, outcome in engines.outcomes(ordered, work, place, work.give_up):
        progress.finish(name, task, outcome)
        if outcome.failed:
            found.setdefault(outcome.label, (task, outcome))
    return found


def _left(plan: Plan, results: Path, workers: int) -> list[Cell]:
    """The cells that are not stored; makes the plan's folder."""
    folder = results / plan.name
    parts = folder / "parts"
    rows = _rows(plan, results)
    parts.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(parts)
    whole = plan.whole or plan
    keys = [cell.key for cell in whole.cells]
    noted = (store.read_work(folder) or {}).get("costs", {})  # by the last sweep
    known = {key: cost for key, cost in noted.items() if key in rows}
    store.write_plan(folder, keys, whole.figures, _work(whole, workers, known))
    left, moved = _split(plan, rows)
    return left + [cell for cell in moved if not is_stored(cell, parts)]


def _work(plan: Plan, workers: int, known: dict[str, Any]) -> dict[str, Any]:
    """The work of a plan, as `sweep.status` reads it; costs are predicted where not known."""
    return {
        "workers": plan.workers or workers,
        "costs": {cell.key: known.get(cell.key) or astuple(cell.cost) for cell in plan.cells},
        "truths": {
            task.spec.key: {"n_samples": task.n_samples, "flops_per_sample": task.spec.flops}
            for task in plan.truths
        },
    }


def _rows(plan: Plan, results: Path) -> Rows:
    """The stored rows of a plan, failed ones left out, by cell."""
    return _stored(results / plan.name) if plan.stored is None else plan.stored


def _stored(folder: Path) -> Rows:
    if not store.is_sweep(folder):
        raise CumpropError(f"{folder} holds results of another command; rename the config")
    columns = ["cell_key", "outcome", "truth_key", "truth_design", "truth_n_samples"]
    rows = store.read_table(folder).select(columns).to_pylist()
    return {row["cell_key"]: row for row in rows if not failed(row)}


def _split(plan: Plan, rows: Rows) -> tuple[list[Cell], list[Cell]]:
    """The cells without a row; those whose row is of another truth by now."""
    left, moved = [], []
    for cell in plan.cells:
        row = rows.get(cell.key)
        if row is None:
            left.append(cell)
        elif not cell.truth_columns.items() <= row.items():
            moved.append(cell)
    return left, moved
