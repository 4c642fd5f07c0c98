"""The page of the benchmark: speed over widths and depths, as a document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from cumprop import text
from cumprop.contract import build
from cumprop.errors import CumpropError
from cumprop.experiments.columns import failed
from cumprop.reproduction import benchmark
from cumprop.reproduction.reference_scores import KnownErrors
from cumprop.reproduction.throughput import QUICK
from cumprop.results.provenance import cores
from cumprop.sweep.rates import Effort

Entry = Mapping[str, Any]

WIDTHS, DEPTHS, THREADS = (16, 64, 256, 1024, 2048), (2, 4, 8, 16), (1, 2)
ESTIMATORS: tuple[dict[str, Any], ...] = (
    *({"order": order} for order in (1, 2, 3)),
    *({"order": 3, "kind": kind} for kind in ("tree", "augmented_factorised")),
    {"order": 4},
)
LIMIT, QUICK_LIMIT = 6.0, 3.0
"""Estimates that are predicted to take more seconds are left out."""
EFFORT = Effort(1.5, 3)
BUSY = 0.5
"""The load average above which times are doubtful."""


def measured(
    quick: bool, errors: KnownErrors | None, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """The reports of `benchmark.run` over all widths and depths, one for each number of threads.

    Cost: about 20 minutes, 10 if `quick`.
    """
    shapes = [(width, depth) for width in WIDTHS for depth in DEPTHS]
    estimators = [build("cumulant", **parameters) for parameters in ESTIMATORS]
    effort, limit = (QUICK, QUICK_LIMIT) if quick else (EFFORT, LIMIT)
    threads = [n for n in THREADS if n <= cores()]
    return benchmark.run(estimators, shapes, threads, effort, errors, progress, limit)


def page(reports: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown document of reports with the same estimators and shapes.

    Raises CumpropError for reports of others.
    """
    several = [report["estimators"] for report in reports]
    if len({tuple(map(_place, entries)) for entries in several}) != 1:
        raise CumpropError("the reports are of other estimators or shapes; measure them together")
    threads = [report["provenance"]["threads"] for report in reports]
    parts = ["# Benchmark", _introduction(reports)]
    by_width = groupby(zip(*several, strict=True), key=lambda entries: entries[0]["width"])
    for width, rows in by_width:
        table = [_row(entries, threads) for entries in rows]
        parts += [f"## Width {width}", _markdown(table)]
    return "\n\n".join(parts) + "\n"


def _place(entry: Entry) -> tuple[Any, ...]:
    return entry["width"], entry["depth"], entry["label"]


def _introduction(reports: Sequence[Mapping[str, Any]]) -> str:
    first = reports[0]
    origin, effort = first["provenance"], first["effort"]
    rates = ", ".join(
        f"{report['rates']['products']:.3g} on {_threads(report['provenance']['threads'])}"
        for report in reports
    )
    load = reports[0]["load_before"] or 0.0  # later ones follow the first
    warning = (
        f"**Other work was running (load average {load:.1f}): these times are not to be trusted.**"
    )
    lines = [
        "`make bench` writes this page. Networks are He-initialised ReLU networks in float32.",
        f"Processor: {origin['cpu']}. BLAS: {origin['blas']}. NumPy {origin['numpy_version']},",
        f"cumprop {origin['cumprop_version']} ({(origin['git_revision'] or 'installed')[:8]}),",
        f"{origin['created'][:10]}. Entrywise formulas are "
        + ("compiled (llvmlite)." if first["compiled"] else "NumPy's (no llvmlite)."),
        f"Matrix products of 512 neurons, FLOP/s: {rates}.",
        "",
        f"Each time is a median of at least {effort['least']} rounds in {effort['seconds']:g} s;",
        "in each round the estimate and a matrix product of 512 neurons (SGEMM) take turns.",
        "",
        "* `of SGEMM`: the FLOP/s of the estimate over those of these products.",
        "* `× by 2 threads`: the time on 1 thread over that on 2, which take turns.",
        "* `µs/MFLOP`: microseconds for 10⁶ FLOPs.",
        "* `memory`: the largest bytes of arrays alive, traced.",
        "* `× iid`: seconds of iid sampling to the same error over those of the estimate. Sampling",
        "  runs on as many processes of one thread. The error is the one that a sweep measured, or",
        "  with `~` the one that the estimate itself expects.",
        "* `-`: left out, because its memory is not free or it would take more than the seconds in",
        "  the note.",
    ]
    return "\n".join([*lines, *(["", warning] if load > BUSY else [])])


def _row(entries: Sequence[Entry], threads: Sequence[int]) -> dict[str, str]:
    first = entries[0]
    row = {"depth": str(first["depth"]), "estimator": first["label"].removeprefix("cumulant ")}
    for entry, n in zip(entries, threads, strict=True):
        ran, columns = not failed(entry), ("ms", "of SGEMM", "µs/MFLOP", "× iid")
        values = _times(entry) if ran else ["-"] * len(columns)
        row |= {f"{name}, {_threads(n)}": v for name, v in zip(columns, values, strict=True)}
    one, *more = (entry["seconds"] for entry in entries)
    for seconds, n in zip(more, threads[1:], strict=True):
        row[f"× by {_threads(n)}"] = f"{one / seconds:.2f}" if one and seconds else "-"
    missed = next((entry["note"] for entry in entries if failed(entry)), "")
    row["memory"] = text.size(first["peak_bytes"]) if first["peak_bytes"] is not None else "-"
    row["note"] = missed.removeprefix("left out: ").partition(":")[0]
    return row


def _times(entry: Entry) -> list[str]:
    seconds, flops = entry["seconds"], entry["flops"]
    per_flop = f"{1e12 * seconds / flops:.3g}"
    return [f"{1e3 * seconds:.3g}", f"{entry['matmul_share']:.0%}", per_flop, _against(entry)]


def _against(entry: Entry) -> str:
    if entry["ratio_iid"] is not None:
        return f"{entry['ratio_iid']:,.2g}"
    expected = entry["ratio_iid_expected"]
    return "" if expected is None else f"~{expected:,.2g}"


def _threads(n: int) -> str:
    return f"{n} thread{'s' if n > 1 else ''}"


def _markdown(table: Sequence[Mapping[str, str]]) -> str:
    names = list(table[0])
    rows = [names, ["---"] * len(names), *([row[name] for name in names] for row in table)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
