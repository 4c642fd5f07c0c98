"""The report of `cumprop estimate`: a table, JSON, CSV or parquet."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cumprop import text
from cumprop.cli.options import deliver
from cumprop.errors import CumpropError

if TYPE_CHECKING:
    import numpy as np

    from cumprop.contract import Estimate
    from cumprop.functionals import Decision, Expectation
    from cumprop.functionals.rare import Probability, Quantile

ROWS = 20
"""The number of outputs that a printed table shows; the other formats have them all."""

COLUMNS = ("mean", "std", "stderr", "half_width", "above", "above_stderr", "below", "below_stderr")
"""Keys of a report whose values are lists with an entry for each output."""
_PROBABILITIES = {"above": ">", "below": "<"}
_OF_CLASSES = {"P(class)": "probabilities", "softmax": "softmax"}
ERRORS = ("expected_error", "expected_std_error")
"""Keys of a report whose values are for all outputs together."""


def of(
    name: str,
    result: Estimate,
    others: Sequence[Estimate | Probability | Quantile | Decision | Expectation],
) -> dict[str, Any]:
    """The report of an estimate of outputs; FLOPs and status include the `others`.

    A status "unreliable" comes first. Of the `others`, one that is not "ok" is told; its remedy
    stands where the reason is that of the estimate.
    """
    from cumprop.contract.printing import as_list, is_unreliable, per_output
    from cumprop.flops import added

    known, flops = per_output(result), added(*(run.flops for run in (result, *others)))
    doubts = [r.status for r in others if r.status != "ok"]
    further = next(iter(sorted(doubts, key=lambda s: not is_unreliable(s))), "ok")
    notes = [result.status, further.removesuffix(f"; {result.status}")]
    notes = [*{note.rpartition("; ")[0] or note: note for note in notes if note != "ok"}.values()]
    return {
        "estimator": name,
        "mean": numbers(known["mean"]),
        "std": as_list(known["std"]) if "std" in known else None,
        **{key: numbers(known.get(key)) for key in ("stderr", "half_width")},
        **{key: getattr(result, key) for key in ERRORS},
        "n_samples": result.n_samples,
        "flops": flops.total,
        "flops_components": dict(flops),
        "status": "; ".join(sorted(notes, key=lambda s: not is_unreliable(s))) or "ok",
    }


def numbers(array: np.ndarray[Any, Any] | None) -> Any:
    """An array as nested lists for JSON; raises CumpropError where numbers are not finite."""
    import numpy as np

    if array is not None and not np.isfinite(array).all():
        raise CumpropError("some results are not finite; try float64 weights or --order 1")
    return None if array is None else array.tolist()


def write(report: dict[str, Any], form: str, out: Path | None) -> None:
    """Print a report as table, json or csv, or write it, as parquet too, to the file `out`.

    stderr gets the notes that the output leaves out, and the reason why numbers are unreliable
    unless a table on the screen shows it.
    """
    from cumprop.contract.printing import is_unreliable

    notes = _notes(report)
    if form in ("csv", "parquet"):
        import pandas as pd

        frame = pd.DataFrame(_rows(report))
        content = frame.to_csv(index=False).encode() if form == "csv" else frame.to_parquet()
        print("\n".join(notes), file=sys.stderr)
    elif form == "json":
        content = (json.dumps(report, allow_nan=False) + "\n").encode()
    else:
        content = (_as_table(report) + "\n").encode()
    if is_unreliable(notes[0]) and (form == "json" or (form == "table" and out is not None)):
        print(notes[0], file=sys.stderr)
    deliver(content, out)


def _rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for every unit: of the hidden layers if the report has them, then of the output."""
    hidden = report.get("layer_means", [])
    rows = [
        {"layer": str(layer), "unit": unit, "mean": mean}
        for layer, means in enumerate(hidden, start=1)
        for unit, mean in enumerate(means)
    ]
    for unit in range(len(report["mean"])):
        known = {key: report[key][unit] for key in COLUMNS if report.get(key) is not None}
        for name in _PROBABILITIES:
            if report.get(f"{name}_interval") is not None:
                low, high = (end[unit] for end in report[f"{name}_interval"])
                known |= {f"{name}_low": low, f"{name}_high": high}
        intervals = report.get("quantile_intervals", {})
        for q, thresholds in report.get("quantiles", {}).items():
            known[f"quantile_{q}"] = thresholds[unit]
            if q in intervals:
                low, high = (end[unit] for end in intervals[q])
                known |= {f"quantile_{q}_low": low, f"quantile_{q}_high": high}
        for key in _OF_CLASSES.values():
            if "classes" in report:
                name = {"probabilities": "class_probability"}.get(key, key)
                known |= _with_ends(name, *_of_class(report, key, unit))
        for words, value in report.get("expected", {}).items():
            known |= {f"expected_{words}": value["value"]}
            known |= {f"expected_{words}_half_width": value["half_width"]}
        known |= {key: report[key] for key in (*ERRORS, "status") if report[key] is not None}
        known |= _of_one_event(report)
        cov = (
            {f"cov_{j}": value for j, value in enumerate(report["cov"][unit])}
            if "cov" in report
            else {}
        )
        rows.append({"layer": "output", "unit": unit} | known | cov)
    return rows


def _of_one_event(report: dict[str, Any]) -> dict[str, Any]:
    """Columns of an event that is not one of each output; the same in every row."""
    if "events" not in report or "threshold" in report:
        return {}
    [event] = report["events"]
    low, high = event["interval"]
    return {"event": event["event"], "probability": event["probability"]} | {
        "probability_low": low,
        "probability_high": high,
    }


def _as_table(report: dict[str, Any]) -> str:
    from cumprop.functionals.rare import as_text

    n = len(report["mean"])
    rows = _shown(report)[:ROWS]
    more = [f"… {n - ROWS} more; --format json has them all"] if n > ROWS else []
    layers = [
        {
            "layer": layer,
            "units": len(means),
            "average": f"{sum(means) / len(means):.6g}",
            "smallest": f"{min(means):.6g}",
            "largest": f"{max(means):.6g}",
        }
        for layer, means in enumerate(report.get("layer_means", []), start=1)
    ]
    means = [f"\nmeans of hidden units\n{text.table(layers)}"] if layers else []
    events = [f"\n{as_text(event)}" for event in report.get("events", [])[:ROWS]]
    return "\n".join(
        [text.table(rows), *more, *means, *events, "", *_answers(report), *_notes(report)]
    )


def _shown(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per output, every number to two digits of its error where the error is known."""
    from cumprop.contract.printing import NORMAL_QUANTILE, between, interval, std_words

    half_width = report["half_width"]
    if half_width is None and report["stderr"] is not None:
        half_width = [NORMAL_QUANTILE * error for error in report["stderr"]]
    shown = []
    for unit, mean in enumerate(report["mean"]):
        row: dict[str, Any] = {"output": unit}
        if half_width is None:
            row["mean"] = interval(mean, None)
        else:
            row["mean ± 95%"] = interval(mean, half_width[unit])
        if report["std"] is not None:
            std = report["std"][unit]
            row["s.d."] = std_words(nan if std is None else std, report["expected_std_error"])
        for name, sign in _PROBABILITIES.items():
            if name in report:
                head, ends = f"P(y{sign}{report['threshold']:g})", report[f"{name}_interval"]
                row[head] = _between(report[name][unit], ends, unit)
        for q, thresholds in report.get("quantiles", {}).items():
            ends = report.get("quantile_intervals", {}).get(q)
            row[f"quantile_{q}"] = _between(thresholds[unit], ends, unit)
        if "classes" in report:
            for head, key in _OF_CLASSES.items():
                row[head] = between(*_of_class(report, key, unit))
        if "cov" in report:
            row |= {f"cov_{j}": f"{entry:.3g}" for j, entry in enumerate(report["cov"][unit])}
        shown.append(row)
    return shown


def _of_class(report: dict[str, Any], key: str, unit: int) -> tuple[float, Any, Any]:
    """A number of a class and the ends of its interval, None where they are not known."""
    found = report["classes"]
    ends = found["interval" if key == "probabilities" else f"{key}_interval"]
    low, high = (None, None) if ends is None else (end[unit] for end in ends)
    return found[key][unit], low, high


def _with_ends(name: str, value: float, low: Any, high: Any) -> dict[str, Any]:
    known = {name: value}
    return known if low is None else known | {f"{name}_low": low, f"{name}_high": high}


def _answers(report: dict[str, Any]) -> list[str]:
    """Lines with expected values and the certificate of a class."""
    from cumprop.contract.printing import interval
    from cumprop.functionals import Certificate

    lines = [
        f"E[{value['name']}] = {interval(value['value'], value['half_width'])}"
        for value in report.get("expected", {}).values()
    ]
    certificate = report.get("classes", {}).get("certificate")
    return lines if certificate is None else [*lines, str(Certificate(**certificate))]


def _between(value: float, ends: list[list[float]] | None, unit: int) -> str:
    """A number and, where they are known, the ends of its 95% interval."""
    from cumprop.contract.printing import between

    low, high = (None, None) if ends is None else (end[unit] for end in ends)
    return between(value, low, high)


def _notes(report: dict[str, Any]) -> list[str]:
    """Lines with cost, expected errors and status; a status "unreliable" has the first line."""
    from cumprop.contract.printing import expected_words, is_unreliable, status_words

    status = status_words(report["status"])
    cost = f"{report['flops']:.3g} FLOPs, {report['seconds']:.3g} s"
    words = [word for word in (cost, expected_words(report)) if word]
    if is_unreliable(status):
        return [status, f"{report['estimator']}: {'; '.join(words)}"]
    return [f"{report['estimator']}: {'; '.join([*words, status])}"]
