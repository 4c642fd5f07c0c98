"""The report of `cumprop bench --peer` as text."""

from __future__ import annotations

from typing import Any

from cumprop import text


def as_text(report: dict[str, Any]) -> str:
    """The conditions, then one line for each shape and order."""
    origin = report["provenance"]
    lines = [
        f"{origin['cpu']}, {origin['blas']}, threads 1, NumPy {origin['numpy_version']}, "
        f"PyTorch {report['torch']}, cumprop {origin['cumprop_version']} "
        f"({(origin['git_revision'] or 'installed')[:8]}), "
        f"peer {(report['peer_revision'] or 'of no known revision')[:20]}",
        "Both sides take turns, float32, metric average; seconds are medians of n rounds.",
        f"Load average before: {report['load_before']:.1f}."
        if report["load_before"] is not None
        else "Load average before: unknown.",
    ]
    return "\n".join(lines) + "\n\n" + text.table([_line(entry) for entry in report["orders"]])


def _line(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: entry[name] for name in ("width", "depth", "order")},
        "ours, s": f"{entry['seconds']:.3g}",
        "peer, s": f"{entry['peer_seconds']:.3g}",
        "n": entry["rounds"],
        "peer / ours": f"{entry['ratio']:.3g}",
        "quartiles": f"{entry['ratio_low']:.3g} to {entry['ratio_high']:.3g}",
        "difference": f"{entry['difference']:.1g}",
    }
