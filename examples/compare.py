"""Every estimator on the trained networks of `trained.py`, against two independent truths.

    python examples/compare.py                     # 2 minutes on one core

Prints a table for each and draws figures/reference/trained_networks.png. Errors are vn-MSE:
squared error of the mean over the variance of an output, both averaged over outputs, unbiased by
the truth's noise.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import trained
from matplotlib.lines import Line2D
from numpy.typing import NDArray

import cumprop
from cumprop.contract import build
from cumprop.plots import caption, style
from cumprop.results.scores import mse_between, noise_interval
from cumprop.sampling import covariance_root

Array = NDArray[Any]
Row = dict[str, Any]

FIGURE = Path(__file__).parents[1] / "figures" / "reference" / "trained_networks.png"
GROUPS, REPEATS, MOST_FLOPS = 16, 10, 2e10
TRUTH = {"digits": 1_000_000, "control": 2_000_000, "mnist_shape": 200_000}
"""Antithetic samples of both halves together."""
ESTIMATORS: list[tuple[str, Row]] = [
    *(("monte_carlo", {"n_samples": n}) for n in (100, 1000)),
    *(("monte_carlo", {"n_samples": n, "design": "antithetic"}) for n in (100, 1000)),
    ("linearized", {}),
    ("unscented", {}),
    ("unscented", {"alpha": 1e-3, "beta": 2.0}),
    ("gaussian", {}),
    *(("cumulant", {"order": order}) for order in (1, 2, 3, 4)),
    ("cumulant", {"order": 3, "kind": "tree"}),
    *(("adaptive", {"tolerance": tolerance}) for tolerance in (1e-2, 1e-3)),
]


def main() -> None:
    tables = {}
    for name, network in trained.NETWORKS.items():
        tables[name] = compared(network(), TRUTH[name])
        print(as_markdown(name, network(), tables[name]), flush=True)
    draw(tables)


def compared(network: cumprop.MLP, n_samples: int) -> list[Row]:
    """A row per estimator: its error with a 95% interval, that of the s.d., and its FLOPs."""
    means, variances = truth(network, n_samples)
    variance = variances.mean()
    rows = []
    for name, parameters in ESTIMATORS:
        estimator = build(name, **parameters)
        if estimator.predict_cost(network.shape).flops > MOST_FLOPS:
            continue
        row = {"estimator": name, "order": None} | vars(estimator)
        repeats = REPEATS if name == "monte_carlo" else 1
        rngs = [np.random.default_rng([9, i]) for i in range(repeats)]
        runs = [estimator.estimate(network, rng=rng) for rng in rngs]
        scores = np.array([mse_between(run.mean, means) for run in runs])
        noise = noise_interval(scores[:1, 0], scores[:1, 1], GROUPS)
        if len(runs) > 1:
            half = 2.26 * scores[:, 0].std(ddof=1) / np.sqrt(len(runs))  # Student's, 9 degrees
            noise = (scores[:, 0].mean() - half, scores[:, 0].mean() + half)
        cov = estimator.estimate(network, cov=True, rng=np.random.default_rng([9, 0])).cov
        assert cov is not None
        sd = np.sqrt(np.diag(cov).clip(0) / variances)
        rows.append(
            row
            | {"vn_mse": scores[:, 0].mean() / variance, "flops": runs[0].flops.total}
            | {"low": noise[0] / variance, "high": noise[1] / variance}
            | {"sd_error": float(np.sqrt(np.mean((sd - 1) ** 2))), "status": runs[0].status}
        )
    return rows


def truth(network: cumprop.MLP, n_samples: int) -> tuple[Array, Array]:
    """Means of the groups of two halves, shape (2, 16, n), and the variances of the outputs.

    The samples are x = μ + R g; R goes into the first map, which is cheaper than into every x.
    """
    root = covariance_root(network.input_cov)
    first, *weights = network.weights
    bias, *biases = network.biases
    white = network.replace(
        weights=[first @ root, *weights],
        biases=[first @ network.input_mean + bias, *biases],
        input_mean=None,
        input_cov=None,
    )
    sampling = build("monte_carlo", n_samples=n_samples // (2 * GROUPS), design="antithetic")
    groups = [
        sampling.estimate(white, cov=True, rng=np.random.default_rng([1, half, group]))
        for half in range(2)
        for group in range(GROUPS)
    ]
    means = np.array([group.mean for group in groups])
    variances = np.mean([np.diag(group.cov) for group in groups], axis=0) + means.var(axis=0)
    return means.reshape(2, GROUPS, -1), variances


def label(row: Row) -> str:
    """The estimator with what is not as usual about it."""
    if row["estimator"] == "cumulant":
        return f"K={row['order']}" + (" tree" if row["kind"] == "tree" else "")
    if row["estimator"] == "monte_carlo":
        return f"{row['n_samples']:,} samples, {row['design']}"
    if row["estimator"] == "adaptive":
        choice = re.split("; |, which", row["status"])[0]
        return f"adaptive, {row['tolerance']:g}: {choice}"
    return row["estimator"] + (", alpha 1e-3" if row.get("alpha", 1) < 1 else "")


def short(row: Row) -> str:
    return label(row).rpartition(", ")[2]


def per_sample(rows: list[Row]) -> float:
    """FLOPs of one more iid sample: the first two rows differ in nothing else."""
    few, many = rows[:2]
    return float((many["flops"] - few["flops"]) / (many["n_samples"] - few["n_samples"]))


def as_markdown(name: str, network: cumprop.MLP, rows: list[Row]) -> str:
    widths = "-".join(map(str, network.widths))
    lines = [
        f"\n**{name}** ({widths}, {network.activations[0]})\n",
        "| estimator | vn-MSE (95% interval) | error of the s.d. | FLOPs | iid samples as good |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        known = row["low"] > 0
        error = (
            f"{row['vn_mse']:.1e} ({row['low']:.1e} to {row['high']:.1e})"
            if known
            else f"≤ {row['high']:.1e}"
        )
        samples = 1 / row["vn_mse"] if known else 1 / row["high"]
        times = samples * per_sample(rows) / row["flops"]
        gain = f"{'' if known else '≥ '}{samples:,.0f}, {times:.2g}× its FLOPs"
        lines.append(
            f"| {label(row)} | {error} | {row['sd_error']:.1%} | {row['flops']:.1e} | {gain} |"
        )
    return "\n".join(lines)


def draw(tables: dict[str, list[Row]]) -> None:
    """One panel per network: error over FLOPs, and the line of iid sampling."""
    looks = {style.look(row) for rows in tables.values() for row in rows}
    legend = [
        Line2D([], [], color=o.colour, marker=o.marker, linestyle="none", label=o.label)
        for o in style.ordered(looks)
    ]
    samples = ", ".join(caption.power_of_ten(TRUTH[name]) for name in tables)
    text = (
        "Trained networks of examples/trained.py, input N(mean, covariance) of their training data."
        " vn-MSE: squared error of the mean outputs over the variance of one forward pass; truth: "
        f"{samples} antithetic samples in two independent halves. Bars: 95% intervals, of sampling "
        f"from {REPEATS} repeats, otherwise truth noise. Open with arrow: upper bound, error not "
        "resolved from zero. Line: iid sampling, 1/N. FLOPs as executed (executed-1), multiply-add "
        "= 2."
    )
    lowest = min(
        r["vn_mse"] if r["low"] > 0 else r["high"] for rows in tables.values() for r in rows
    )
    with style.context():
        figure, axes = style.sheet(len(tables), "FLOPs", "vn-MSE", legend, text)
        for ax, (name, rows) in zip(axes, tables.items(), strict=True):
            ax.set(xscale="log", yscale="log", ylim=(lowest / 8, 3))
            ax.set_title(name)
            flops = np.array([min(r["flops"] for r in rows), max(r["flops"] for r in rows)])
            ax.plot(flops, per_sample(rows) / flops, "k-", zorder=1)
            for row in rows:
                look = style.look(row)
                if row["low"] > 0:
                    ax.plot([row["flops"]] * 2, [row["low"], row["high"]], color=look.colour)
                    ax.plot(row["flops"], row["vn_mse"], look.marker, color=look.colour, zorder=3)
                else:
                    style.upper_bound(ax, row["flops"], row["high"], look)
        figure.draw_without_rendering()
        for ax, rows in zip(axes, tables.values(), strict=True):
            style.label_points(ax, [
                (r["flops"], r["vn_mse"] if r["low"] > 0 else r["high"], short(r), style.look(r))
                for r in rows if r["estimator"] == "cumulant" or r.get("alpha", 1) < 1
            ])  # fmt: skip
        style.save_one(figure, FIGURE)


if __name__ == "__main__":
    main()
