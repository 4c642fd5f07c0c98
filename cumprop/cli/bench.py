"""The command bench: the speed of estimators on this machine, alone and against sampling."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumprop import text
from cumprop.cli.options import DIRECTORY, FILE, load_plugins, plugin_option
from cumprop.errors import ConfigError, CumpropError

if TYPE_CHECKING:
    from cumprop.contract import Estimator
    from cumprop.reproduction.reference_scores import KnownErrors
    from cumprop.sweep.rates import Effort

SIZE = click.IntRange(min=1)

DEFAULT = [*(f"cumulant:order={order}" for order in (1, 2, 3, 4)), "cumulant:order=3,kind=tree"]
BUSY = 0.5
"""The load average above which times are doubtful."""


@click.command()
@click.option("--width", "widths", type=SIZE, multiple=True, default=[256], show_default=True)
@click.option("--depth", "depths", type=SIZE, multiple=True, default=[4], show_default=True)
@click.option(
    "--order", "orders", type=SIZE, multiple=True,
    help="Orders of `cumulant`; 1 to 4 and kind tree by default.",
)  # fmt: skip
@click.option(
    "--estimator", "estimators", multiple=True, metavar="NAME[:KEY=VALUE,…]",
    help="Any other estimator with its parameters; may be repeated.",
)  # fmt: skip
@click.option(
    "--threads", type=SIZE, default=1, show_default=True,
    help="BLAS threads of an estimator, and processes that sample.",
)  # fmt: skip
@click.option(
    "--scores", type=DIRECTORY,
    help="Results of a sweep with the errors; results/[reference/]relu_w256 by default.",
)  # fmt: skip
@click.option(
    "--device", metavar="NAME",
    help="PyTorch's name of a device, such as cuda, where estimators and sampling run.",
)  # fmt: skip
@click.option(
    "--peer", type=DIRECTORY,
    help="A checkout of the paper's own implementation; compare orders 1 to 4 with it, only.",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="Half a second a measurement, not five.")
@click.option(
    "--json", "path", type=FILE, default=Path("results/bench/bench.json"), show_default=True
)
@click.option(
    "--markdown", type=FILE,
    help="Write a page on orders 1 to 4 at widths 16 to 2048 there, and measure nothing else.",
)  # fmt: skip
@click.option("--figures", type=DIRECTORY, help="Draw flops_vs_width there; takes three widths.")
@plugin_option
def bench(
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    orders: tuple[int, ...],
    estimators: tuple[str, ...],
    threads: int,
    scores: Path | None,
    device: str | None,
    peer: Path | None,
    quick: bool,
    path: Path,
    markdown: Path | None,
    figures: Path | None,
    plugins: tuple[Path, ...],
) -> None:
    """Time estimators, and sampling to the same error.

    The errors are known from sweeps. Without --order and --estimator, the overhead of a sweep of
    10,000 trivial cells (200 if --quick) is measured last.

    With --device, times are those of PyTorch there, a second a measurement.
    With --peer, `cumulant` and the checkout take turns on one thread, and their means must agree.

    \b
    Example:
      cumprop bench --width 256 --depth 4 --order 3 --estimator cumulant:order=2,kind=augmented
    """
    from cumprop.reproduction import benchmark, sweep_overhead
    from cumprop.reproduction.reference_scores import KnownErrors
    from cumprop.reproduction.throughput import QUICK
    from cumprop.results.provenance import cores
    from cumprop.sweep.rates import Effort

    if markdown is not None:
        _write_page(markdown, quick, KnownErrors.find(scores))
        return
    if figures is not None and len({*widths}) < 3:
        raise ConfigError("--figures draws a law in the width: give --width three times")
    load_plugins(plugins)
    effort = QUICK if quick else Effort()
    shapes = [(width, depth) for width in widths for depth in depths]
    if peer is not None:
        if estimators or device or threads > 1 or max(orders, default=1) > 4:
            raise ConfigError("--peer compares orders 1 to 4 on one thread: give it --order alone")
        _require_torch("--peer")
        from cumprop.cli import peer_table
        from cumprop.reproduction.peer import compare

        report = compare(peer, orders or (1, 2, 3, 4), shapes, effort, _progress)
        _show(report, peer_table.as_text(report), path)
        return
    words = [*(f"cumulant:order={order}" for order in orders), *estimators]
    chosen = [_estimator(word) for word in words or DEFAULT]
    if device is not None:
        effort = QUICK if quick else Effort(1.0)
        _on_device(device, chosen, shapes, effort, KnownErrors.find(scores), path)
        return
    errors = KnownErrors.find(scores)
    [report] = benchmark.run(chosen, shapes, [threads], effort, errors, _progress)
    if not words:
        _progress("overhead of a sweep")
        n_cells = sweep_overhead.QUICK if quick else sweep_overhead.N_CELLS
        report["overhead"] = sweep_overhead.measure(n_cells, cores(), path.parent)
    _show(report, as_text(report), path)
    if figures is not None:
        from cumprop.plots import flops_vs_width, style

        with style.context():
            figure = flops_vs_width.draw(benchmark.rows(report))
            for picture in style.save(figure, figures / "bench_flops_vs_width"):
                print(picture)


def _progress(line: str) -> None:
    print(line, file=sys.stderr)


def _write_page(path: Path, quick: bool, errors: KnownErrors | None) -> None:
    from cumprop import files
    from cumprop.reproduction import benchmark_page

    files.write_text(path, benchmark_page.page(benchmark_page.measured(quick, errors, _progress)))
    print(path)


def _on_device(
    name: str,
    estimators: list[Estimator],
    shapes: list[tuple[int, int]],
    effort: Effort,
    errors: KnownErrors | None,
    path: Path,
) -> None:
    _require_torch("--device")
    from cumprop.cli.device_table import as_text
    from cumprop.reproduction import device_benchmark
    from cumprop.reproduction.device import Device

    report = device_benchmark.run(Device(name), estimators, shapes, effort, errors, _progress)
    _show(report, as_text(report), path)


def _show(report: dict[str, Any], lines: str, path: Path) -> None:
    from cumprop.reproduction import benchmark

    benchmark.write(report, path)
    print(lines)
    print(f"\n{path}", file=sys.stderr)


def _require_torch(option: str) -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        raise CumpropError(f"{option} needs PyTorch: pip install 'cumprop[torch]'") from None


def _estimator(word: str) -> Estimator:
    from cumprop.contract import build
    from cumprop.experiments import yaml_loader

    name, _, settings = word.partition(":")
    parameters = {}
    for setting in filter(None, settings.split(",")):
        key, node = yaml_loader.setting(setting, f"--estimator {word}", "NAME:KEY=VALUE,KEY=VALUE")
        parameters[key] = node.plain()
    try:
        return build(name, **parameters)
    except CumpropError as error:
        raise ConfigError(str(error)) from None


def as_text(report: dict[str, Any]) -> str:
    """The report as text: conditions, then sampling and estimators of each shape."""
    from cumprop.experiments.columns import failed

    parts = [_conditions(report)]
    by_shape = groupby(report["estimators"], key=lambda entry: (entry["width"], entry["depth"]))
    for (width, depth), entries in by_shape:
        rivals = [r for r in report["sampling"] if (r["width"], r["depth"]) == (width, depth)]
        table = list(entries)
        parts += [
            f"width {width}, depth {depth}",
            text.table([_rival(rival) for rival in rivals]),
            text.table([_line(entry) for entry in table]),
            *(f"{e['label']}: failed: {e['note']}" for e in table if failed(e)),
            *(f"{e['label']}: {e['status']}" for e in table if e["status"] not in (None, "ok")),
        ]
    if "overhead" in report:
        parts.append(_overhead(report["overhead"]))
    return "\n\n".join(parts)


def _overhead(entry: dict[str, Any]) -> str:
    return (
        f"overhead of a sweep: {1000 * entry['overhead_seconds']:.2g} ms a cell beyond the "
        f"estimator's {1000 * entry['estimator_seconds']:.2g} ms "
        f"({entry['n_cells']:,} cells on {entry['workers']} workers, {entry['seconds']:.1f} s)"
    )


def _conditions(report: dict[str, Any]) -> str:
    origin, rates, effort = report["provenance"], report["rates"], report["effort"]
    threads = origin["threads"]
    revision = (origin["git_revision"] or "installed")[:8]
    lines = [
        f"{origin['cpu']}, {origin['blas']}, threads {threads}, NumPy {origin['numpy_version']}, "
        f"cumprop {origin['cumprop_version']} ({revision})",
        f"FLOP/s in float32: matrix products {rates['products']:.3g}, sampling "
        f"{rates['sampling']:.3g},",
        f"entrywise {rates['entrywise']:.3g}, of large arrays {rates['large']:.3g}; "
        f"a call of NumPy: {1e6 * rates['call']:.2g} µs",
        f"Medians of {effort['least']} to {effort['most']} repeats (n) in {effort['seconds']:g} s.",
    ]
    if threads > 1:
        lines.append(
            f"Sampling: {threads} processes of 1 BLAS thread, together (its fastest way); "
            f"estimators: 1 process of {threads} BLAS threads."
        )
    if report["errors_from"]:
        lines.append(f"vn-MSE: measured by a sweep, {report['errors_from']}.")
    else:
        lines.append("vn-MSE: unknown; run `cumprop sweep`, or name its results with --scores.")
    lines.append("x iid: seconds of iid sampling to the same vn-MSE / seconds of the estimator.")
    if (report["load_before"] or 0) > BUSY:
        lines.append(
            f"OTHER WORK WAS RUNNING (load average {report['load_before']:.1f}): "
            "these times are not to be trusted; run again on a quiet machine."
        )
    return "\n".join(lines)


def _rival(rival: dict[str, Any]) -> dict[str, Any]:
    return {
        "sampling": rival["design"],
        "passes/s": f"{rival['passes_per_second']:,.0f}",
        "of matmul": f"{rival['matmul_share']:.0%}",
        "FLOPs/pass": f"{rival['flops_per_pass']:.3g}",
        "repeats": rival["repeats"],
        "variance/iid": _number(rival["gain"]),
    }


def _line(entry: dict[str, Any]) -> dict[str, Any]:
    ran = entry["seconds"] is not None
    bound = "" if entry["resolved"] in (True, None) else "<"
    return {
        "estimator": entry["label"],
        "seconds": _number(entry["seconds"], "-"),
        "n": entry["repeats"],
        "FLOPs": _number(entry["flops"], "-"),
        "predicted": f"{entry['flops_predicted'] / entry['flops'] - 1:+.1%}" if ran else "-",
        "of matmul": f"{entry['matmul_share']:.0%}" if ran else "-",
        "memory": text.size(entry["peak_bytes"]) if ran else "-",
        "(predicted)": text.size(entry["bytes_predicted"]),
        "vn-MSE": bound + _number(entry["vn_mse"]),
        "x iid": bound.replace("<", ">") + _number(entry["ratio_iid"]),
        "95%": _interval(entry["ratio_iid_low"], entry["ratio_iid_high"]),
        "x orthogonal": bound.replace("<", ">") + _number(entry["ratio_orthogonal"]),
    }


def _interval(low: float | None, high: float | None) -> str:
    if low is None:
        return ""
    return f"> {_number(low)}" if high is None else f"{_number(low)} to {_number(high)}"


def _number(value: float | None, missing: str = "unknown") -> str:
    if value is None:
        return missing
    return f"{value:.2g}" if value < 10 or value >= 1e5 else f"{value:,.0f}"
