"""An estimate as text, as HTML, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from math import floor, isfinite, log10
from typing import TYPE_CHECKING, Any

from cumprop.text import table

if TYPE_CHECKING:
    import pandas as pd

    from cumprop.contract.estimator import Array, Estimate

ROWS = 5
"""The number of outputs that text and HTML show."""

NORMAL_QUANTILE = 1.96
UNRELIABLE = "unreliable"
"""The start of the status of doubtful numbers; a reason and a remedy follow."""
_MOST_DECIMALS = 12
_SIXTH_DIGIT = 1e-5
_NO_SCALE = 10.0
_SMALL = 1e-3  # probabilities below are written with an exponent


def as_text(estimate: Estimate) -> str:
    """Shape, the first outputs with their intervals, cost and status, in a few lines."""
    return "\n".join([_title(estimate), table(_rows(estimate)), *_notes(estimate)])


def as_html(estimate: Estimate) -> str:
    """Title, table and notes of an estimate for a notebook."""
    rows = _rows(estimate)
    lines = [[*rows[0]], *([str(value) for value in row.values()] for row in rows)]
    head, *body = (
        "<tr>" + "".join(f"<{tag}>{escape(word)}</{tag}>" for word in line) + "</tr>"
        for tag, line in zip(["th", *["td"] * len(rows)], lines, strict=True)
    )
    notes = "<br>".join(
        f"<strong>{escape(note)}</strong>" if is_unreliable(note) else escape(note)
        for note in _notes(estimate)
    )
    return (
        f"<div><p>{escape(_title(estimate))}</p><table><thead>{head}</thead>"
        f"<tbody>{''.join(body)}</tbody></table><p>{notes}</p></div>"
    )


def as_frame(estimate: Estimate) -> pd.DataFrame:
    """A table with a row per output and a column for each known field."""
    import pandas as pd

    columns = per_output(estimate) | expected(estimate) | {"status": estimate.status}
    return pd.DataFrame(columns).rename_axis("output")


def as_dict(estimate: Estimate) -> dict[str, Any]:
    """All fields as lists, numbers and text; None where not known."""
    from cumprop.flops import on_host

    columns: dict[str, Any] = {"mean": None, "std": None, "stderr": None, "half_width": None}
    columns |= {name: as_list(values) for name, values in per_output(estimate).items()}
    variances = estimate.layer_variances
    return columns | {
        "expected_error": estimate.expected_error,
        "expected_std_error": estimate.expected_std_error,
        "cov": None if estimate.cov is None else on_host(estimate.cov).tolist(),
        "layer_means": [on_host(mean).tolist() for mean in estimate.layer_means],
        "layer_variances": None if variances is None else [on_host(v).tolist() for v in variances],
        "n_samples": estimate.n_samples,
        "flops": estimate.flops.total,
        "flops_components": dict(estimate.flops),
        "status": estimate.status,
    }


def per_output(estimate: Estimate) -> dict[str, Array]:
    """The known fields of every output in NumPy: `mean`, perhaps `std`, `stderr`, `half_width`.

    Each has the shape (n_{L+1},). `std` is NaN where a variance is negative by more than rounding.
    """
    import numpy as np

    from cumprop.flops import on_host

    known = {"mean": estimate.mean}
    if estimate.cov is not None:
        variances = np.diag(on_host(estimate.cov))
        rounding = len(variances) * np.finfo(variances.dtype).eps * np.abs(variances).max()
        known["std"] = np.sqrt(np.where(variances < -rounding, np.nan, variances.clip(0)))
    if estimate.stderr is not None:
        known["stderr"] = estimate.stderr
    if estimate.half_width is not None:
        known["half_width"] = estimate.half_width
    return {name: on_host(values) for name, values in known.items()}


def interval_half_width(estimate: Estimate) -> Array | None:
    """The half width of each mean's 95% interval, in NumPy; None where nothing of it is known."""
    from cumprop.flops import on_host

    half_width: Array | None = None
    if estimate.half_width is not None:
        half_width = on_host(estimate.half_width)
    elif estimate.stderr is not None:
        half_width = NORMAL_QUANTILE * on_host(estimate.stderr)
    return half_width


def expected(estimate: Estimate) -> dict[str, float]:
    """`expected_error` and `expected_std_error`, where they are known."""
    errors = {
        "expected_error": estimate.expected_error,
        "expected_std_error": estimate.expected_std_error,
    }
    return {name: error for name, error in errors.items() if error is not None}


def expected_words(errors: Mapping[str, Any]) -> str:
    """A line about the expected errors; "" where none is known.

    >>> expected_words({"expected_error": 0.0012, "expected_std_error": 0.013})
    'expected error 0.0012 output s.d., of the s.d. 1.3%'
    """
    of_means, of_std = errors.get("expected_error"), errors.get("expected_std_error")
    words = [] if of_means is None else [f"{of_means:.2g} output s.d."]
    words += [] if of_std is None else [f"of the s.d. {percent(of_std)}"]
    return f"expected error {', '.join(words)}" if words else ""


def is_unreliable(status: str) -> bool:
    """Whether a status says that the numbers are doubtful.

    >>> is_unreliable("ok"), is_unreliable("unreliable: a variance is negative; take monte_carlo")
    (False, True)
    """
    return status.startswith(UNRELIABLE)


def status_words(status: str) -> str:
    """The line that shows a status; it begins with "unreliable" where the status does.

    >>> status_words("ok")
    'status: ok'
    """
    return status if is_unreliable(status) else f"status: {status}"


def interval(mean: float, half_width: float | None) -> str:
    """A mean and the half width of its interval, to two digits of the half width.

    >>> interval(0.123456, 0.00123), interval(0.123456, None), interval(12.0, 3e-20)
    ('0.1235 ± 0.0012', '0.123456', '12 ± 3e-20')
    """
    if half_width is None:
        return f"{mean:.6g}"
    decimals = _decimals(half_width) if isfinite(mean) else None
    if decimals is None:
        return f"{mean:.6g} ± {half_width:.2g}"
    return f"{mean:.{decimals}f} ± {half_width:.{decimals}f}"


def to_error(value: float, error: float | None) -> str:
    """A value to two digits of its error, or to three digits where the error is not known.

    >>> to_error(0.123456, 0.00123), to_error(0.123456, None), to_error(1234.5, 200.0)
    ('0.1235', '0.123', '1.23e+03')
    """
    decimals = None if error is None or not isfinite(value) else _decimals(error)
    return f"{value:.3g}" if decimals is None else f"{value:.{decimals}f}"


def between(value: float, low: float | None, high: float | None) -> str:
    """A value and the ends of its interval, to two digits of half the distance between them.

    >>> between(0.123456, 0.121, 0.125), between(0.123456, None, None)
    ('0.1235 (0.1210 to 0.1250)', '0.123')
    >>> between(1.234e-7, 1.2e-7, 1.3e-7)
    '1.23e-07 (1.2e-07 to 1.3e-07)'
    """
    if low is None or high is None:
        return to_error(value, None)
    if abs(high) < _SMALL:
        return f"{value:.3g} ({low:.3g} to {high:.3g})"
    middle, *two = (to_error(number, (high - low) / 2) for number in (value, low, high))
    return f"{middle} ({' to '.join(two)})"


def std_words(std: float, relative_error: float | None) -> str:
    """A standard deviation to two digits of its expected error, or to three without one.

    >>> std_words(2.364719, 0.013), std_words(2.364719, 0.0), std_words(2.364719, 0.8)
    ('2.365', '2.36472', '2.4')
    >>> std_words(2.364719, None), std_words(2.364719, float("inf")), std_words(float("nan"), None)
    ('2.36', '2.36', 'none')
    """
    if std != std:
        return "none"
    if relative_error is None or not isfinite(relative_error):
        return to_error(std, None)
    return f"{std:.6g}" if relative_error < _SIXTH_DIGIT else to_error(std, relative_error * std)


def as_list(values: Array) -> list[float | None]:
    """Numbers for JSON, None for NaN (the standard deviation of a negative variance)."""
    return [None if value != value else value for value in values.tolist()]


def _decimals(error: float) -> int | None:
    """Decimals that show two digits of an error; None where these are not 1 to 12."""
    if not isfinite(error) or error <= 0:
        return None
    decimals = 1 - floor(log10(error))
    return decimals if 0 < decimals <= _MOST_DECIMALS else None


def percent(share: float) -> str:
    """A share in percent: two digits, whole percents from 100%, no number from 1000%.

    >>> percent(0.0314), percent(1.234), percent(6.8e29)
    ('3.1%', '123%', 'over 1000%')
    """
    if share < 1:
        return f"{100 * share:.2g}%"
    return f"{100 * share:.0f}%" if share < _NO_SCALE else "over 1000%"


def _title(estimate: Estimate) -> str:
    hidden = len(estimate.layer_means)
    return (
        f"Estimate of {_count(len(estimate.mean), 'output')} after {_count(hidden, 'hidden layer')}"
    )


def _rows(estimate: Estimate) -> list[dict[str, str]]:
    known, half_width = per_output(estimate), interval_half_width(estimate)
    halves = [None] * ROWS if half_width is None else half_width.tolist()
    means = [*map(interval, known["mean"][:ROWS].tolist(), halves)]
    head, width = "mean" if half_width is None else "mean ± 95%", max(map(len, means))
    rows = [{"output": str(i), head: mean.rjust(width)} for i, mean in enumerate(means)]
    for row, std in zip(rows, known.get("std", [])[:ROWS], strict=False):
        row["s.d."] = std_words(std, estimate.expected_std_error)
    return rows


def _notes(estimate: Estimate) -> list[str]:
    more = len(estimate.mean) - ROWS
    cost = f"{estimate.flops.total:.3g} FLOPs"
    if estimate.n_samples is not None:
        cost += f", {_count(estimate.n_samples, 'sample')}"
    errors, status = expected_words(expected(estimate)), status_words(estimate.status)
    notes = [
        *([f"… and {_count(more, 'more output')}; to_frame() has them all"] if more > 0 else []),
        cost,
        *([errors] if errors else []),
    ]
    return [status, *notes] if is_unreliable(status) else [*notes, status]


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
