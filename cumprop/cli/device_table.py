"""The report of `cumprop bench --device` as text."""

from __future__ import annotations

from typing import Any

from cumprop import text


def as_text(report: dict[str, Any]) -> str:
    """The conditions, then sampling and estimators, each in one table for all shapes."""
    origin = report["provenance"]
    lines = [
        f"{report['device']}, PyTorch {report['torch']}, cumprop {origin['cumprop_version']} "
        f"({(origin['git_revision'] or 'installed')[:8]})",
        f"Products of {report['product_width']:,} wide matrices: {report['products'] / 1e12:.3g} "
        f"TFLOP/s in float32, {report['products_tf32'] / 1e12:.3g} with TF32.",
        "Estimators run in float32 without TF32; times are medians and wait for the device.",
        "rounding: the squared change of means by float32, over the variance of outputs.",
        "x iid: seconds of iid sampling to the same vn-MSE / seconds of the estimator;",
        "x TF32: the same where sampling takes TF32, whose error no number of samples lowers;",
        "x gradient: the same for a gradient of each by all weights.",
        f"vn-MSE: measured by a sweep, {report['errors_from']}; * by the law of narrower networks."
        if report["errors_from"]
        else "vn-MSE: unknown; name the results of a sweep with --scores.",
    ]
    rivals = text.table([_rival(rival) for rival in report["sampling"]])
    found = text.table([_line(entry) for entry in report["estimators"]])
    notes = [
        f"{entry['label']}, width {entry['width']}, depth {entry['depth']}: {entry['note']}"
        for entry in report["estimators"]
        if entry["note"]
    ]
    return "\n\n".join(["\n".join(lines), rivals, found, *notes])


def _rival(rival: dict[str, Any]) -> dict[str, Any]:
    return {
        "width": rival["width"],
        "depth": rival["depth"],
        "passes/s": rival["passes_per_second"],
        "of matmul": f"{rival['matmul_share']:.0%}",
        "batch": rival["batch_of_passes_per_second"],
        "TF32": rival["passes_per_second_tf32"],
        "TF32's vn-MSE": rival["tf32_vn_bias"],
        "gradients/s": rival["gradients_per_second"],
        "TF32 ": rival["gradients_per_second_tf32"],
    }


def _line(entry: dict[str, Any]) -> dict[str, Any]:
    share, peak, vn_mse = entry["matmul_share"], entry["peak_bytes"], entry["vn_mse"]
    return {
        "estimator": entry["label"],
        "width": entry["width"],
        "depth": entry["depth"],
        "seconds": entry["seconds"],
        "FLOPs": None if entry["flops"] is None else float(entry["flops"]),
        "of matmul": "" if share is None else f"{share:.1%}",
        "memory": "" if peak is None else text.size(peak),
        "rounding": entry["rounding_vn_mse"],
        "float64 to NumPy": entry["float64_error"],
        "vn-MSE": "" if vn_mse is None else f"{vn_mse:.2g}{'*' * entry['extrapolated']}",
        "x iid": entry["ratio_iid"],
        "x TF32": entry["ratio_tf32"],
        "gradient": entry["gradient_seconds"],
        "x gradient": entry["ratio_gradient"],
        "x TF32 ": entry["ratio_gradient_tf32"],
    }
