"""How an estimate is shown: as text, as HTML, as a table, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import floor, isfinite, log10
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from cumprop.estimator import Array, Estimate

ROWS = 5
"""Outputs that text and HTML show."""

_NORMAL_QUANTILE = 1.96
_MOST_DECIMALS = 12


def as_text(estimate: Estimate) -> str:
    """Shape, the first outputs with their intervals, cost and status, in a few lines."""
    return "\n".join([_title(estimate), table(_rows(estimate)), *_notes(estimate)])


def as_html(estimate: Estimate) -> str:
    """The same for a notebook."""
    rows = _rows(estimate)
    lines = [[*rows[0]], *([str(value) for value in row.values()] for row in rows)]
    head, *body = (
        "<tr>" + "".join(f"<{tag}>{escape(word)}</{tag}>" for word in line) + "</tr>"
        for tag, line in zip(["th", *["td"] * len(rows)], lines, strict=True)
    )
    notes = "<br>".join(map(escape, _notes(estimate)))
    return (
        f"<div><p>{escape(_title(estimate))}</p><table><thead>{head}</thead>"
        f"<tbody>{''.join(body)}</tbody></table><p>{notes}</p></div>"
    )


def as_frame(estimate: Estimate) -> pd.DataFrame:
    """A row per output, a column for everything that is known of it."""
    import pandas as pd

    return pd.DataFrame(per_output(estimate)).rename_axis("output")


def as_dict(estimate: Estimate) -> dict[str, Any]:
    """All that is known, None where nothing is, as lists, numbers and text."""
    columns = {"mean": None, "std": None, "stderr": None, "half_width": None}
    columns |= {name: values.tolist() for name, values in per_output(estimate).items()}
    return columns | {
        "cov": None if estimate.cov is None else _on_host(estimate.cov).tolist(),
        "layer_means": [_on_host(mean).tolist() for mean in estimate.layer_means],
        "n_samples": estimate.n_samples,
        "flops": estimate.flops.total,
        "flops_components": dict(estimate.flops),
        "status": estimate.status,
    }


def per_output(estimate: Estimate) -> dict[str, Array]:
    """What is known of every output: `mean`, perhaps `std`, `stderr`, `half_width`, in NumPy."""
    import numpy as np

    known = {"mean": estimate.mean}
    if estimate.cov is not None:
        known["std"] = np.sqrt(np.diag(_on_host(estimate.cov)).clip(0))
    if estimate.stderr is not None:
        known["stderr"] = estimate.stderr
    if estimate.half_width is not None:
        known["half_width"] = estimate.half_width
    return {name: _on_host(values) for name, values in known.items()}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under the keys of the first one; numbers to the right, words to the left.

    >>> print(table([{"what": "truth", "cells": 5}, {"what": "gaussian", "cells": 12}]))
    what      cells
    truth         5
    gaussian     12
    """
    if not rows:
        return ""
    lines = [list(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [not isinstance(value, str) for value in rows[0].values()]
    return "\n".join(
        "  ".join(
            word.rjust(width) if to_right else word.ljust(width)
            for word, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def cell(value: Any) -> str:
    """A value as a table shows it.

    >>> cell(0.00012345), cell(12), cell(None)
    ('0.000123', '12', '')
    """
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def interval(mean: float, half_width: float | None) -> str:
    """A mean and the half width of its interval, to two digits of that.

    >>> interval(0.123456, 0.00123), interval(0.123456, None), interval(12.0, 3e-20)
    ('0.1235 ± 0.0012', '0.123456', '12 ± 3e-20')
    """
    if half_width is None:
        return f"{mean:.6g}"
    if isfinite(mean) and isfinite(half_width) and half_width > 0:
        decimals = 1 - floor(log10(half_width))
        if 0 < decimals <= _MOST_DECIMALS:
            return f"{mean:.{decimals}f} ± {half_width:.{decimals}f}"
    return f"{mean:.6g} ± {half_width:.2g}"


def _title(estimate: Estimate) -> str:
    hidden = len(estimate.layer_means)
    return (
        f"Estimate of {_count(len(estimate.mean), 'output')} after {_count(hidden, 'hidden layer')}"
    )


def _rows(estimate: Estimate) -> list[dict[str, str]]:
    known = per_output(estimate)
    half_width = known.get("half_width")
    if half_width is None and "stderr" in known:
        half_width = _NORMAL_QUANTILE * known["stderr"]
    halves = [None] * ROWS if half_width is None else half_width.tolist()
    means = [*map(interval, known["mean"][:ROWS].tolist(), halves)]
    head, width = "mean" if half_width is None else "mean ± 95%", max(map(len, means))
    rows = [{"output": str(i), head: mean.rjust(width)} for i, mean in enumerate(means)]
    for row, std in zip(rows, known.get("std", [])[:ROWS], strict=False):
        row["s.d."] = f"{std:.3g}"
    return rows


def _notes(estimate: Estimate) -> list[str]:
    more = len(estimate.mean) - ROWS
    cost = f"{estimate.flops.total:.3g} FLOPs"
    if estimate.n_samples is not None:
        cost += f", {_count(estimate.n_samples, 'sample')}"
    return [
        *([f"… and {_count(more, 'more output')}; to_frame() has them all"] if more > 0 else []),
        cost,
        f"status: {estimate.status}",
    ]


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _on_host(array: Any) -> Array:
    """An array of NumPy's, of a PyTorch tensor on any device too."""
    import numpy as np

    from cumprop.flops import is_foreign, plain

    return plain(array).detach().cpu().numpy() if is_foreign(array) else np.asarray(array)
