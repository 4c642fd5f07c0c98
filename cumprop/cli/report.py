"""How `cumprop estimate` shows what it found: a table, JSON, CSV or parquet."""

from __future__ import annotations

import json
import sys
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cumprop.cli import text
from cumprop.errors import CumpropError

if TYPE_CHECKING:
    import numpy as np

    from cumprop.estimator import Estimate

ROWS = 20
"""Outputs a printed table shows; the other formats have them all."""

COLUMNS = {
    "mean": "mean",
    "std": "s.d.",
    "stderr": "s.e.",
    "half_width": "95% ±",
    "above": "P(y>{:g})",
    "above_stderr": "s.e. of P",
    "below": "P(y<{:g})",
    "below_stderr": "s.e. of P",
}
"""What a report may have of every output, and how a printed table calls it at a threshold."""


def of(name: str, result: Estimate, others: list[Estimate]) -> dict[str, Any]:
    """What JSON shows of an estimate of outputs; FLOPs and status are of the `others` as well."""
    from cumprop.printing import per_output

    runs, known = [result, *others], per_output(result)
    components: dict[str, int] = {}
    for run in runs:
        for component, flops in run.flops.items():
            components[component] = components.get(component, 0) + flops
    return {
        "estimator": name,
        **{key: numbers(known.get(key)) for key in ("mean", "std", "stderr", "half_width")},
        "n_samples": result.n_samples,
        "flops": sum(components.values()),
        "flops_components": components,
        "status": "; ".join(dict.fromkeys(r.status for r in runs if r.status != "ok")) or "ok",
    }


def numbers(array: np.ndarray[Any, Any] | None) -> Any:
    """As JSON has them; CumpropError where some are not finite."""
    import numpy as np

    if array is not None and not np.isfinite(array).all():
        raise CumpropError("some results are not finite; try float64 weights or --order 1")
    return None if array is None else array.tolist()


def write(report: dict[str, Any], form: str, out: Path | None) -> None:
    """Print a report as table, json or csv, or write it, as parquet too, to the file `out`."""
    from cumprop.store import write_atomically

    if form in ("csv", "parquet"):
        import pandas as pd

        frame = pd.DataFrame(_rows(report))
        content = frame.to_csv(index=False).encode() if form == "csv" else frame.to_parquet()
        print(_cost(report), file=sys.stderr)
    elif form == "json":
        content = (json.dumps(report, allow_nan=False) + "\n").encode()
    else:
        content = (_as_table(report) + "\n").encode()
    if out is None:
        print(content.decode(), end="")
    else:
        write_atomically(out, lambda file: file.write(content))


def _rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for every unit: of the hidden layers if they are there, then of the output."""
    hidden = report.get("layer_means", [])
    rows = [
        {"layer": str(layer), "unit": unit, "mean": mean}
        for layer, means in enumerate(hidden, start=1)
        for unit, mean in enumerate(means)
    ]
    for unit in range(len(report["mean"])):
        known = {key: report[key][unit] for key in COLUMNS if report.get(key) is not None}
        intervals = report.get("quantile_intervals", {})
        for q, thresholds in report.get("quantiles", {}).items():
            known[f"quantile_{q}"] = thresholds[unit]
            if q in intervals:
                low, high = (end[unit] for end in intervals[q])
                known |= {f"quantile_{q}_low": low, f"quantile_{q}_high": high}
        cov = (
            {f"cov_{j}": value for j, value in enumerate(report["cov"][unit])}
            if "cov" in report
            else {}
        )
        rows.append({"layer": "output", "unit": unit} | known | cov)
    return rows


def _as_table(report: dict[str, Any]) -> str:
    heads = {key: head.format(report.get("threshold", nan)) for key, head in COLUMNS.items()}
    n = len(report["mean"])
    rows = [
        {"output": row["unit"]} | {heads.get(key, key): f"{row[key]:.6g}" for key in list(row)[2:]}
        for row in _rows({key: value for key, value in report.items() if key != "layer_means"})[
            :ROWS
        ]
    ]
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
    return "\n".join([text.table(rows), *more, *means, f"\n{_cost(report)}"])


def _cost(report: dict[str, Any]) -> str:
    cost = f"{report['flops']:.3g} FLOPs, {report['seconds']:.3g} s"
    return f"{report['estimator']}: {cost}; status: {report['status']}"
