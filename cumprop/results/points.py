"""Points: groups of scores as figures draw them and verdicts judge them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cumprop.contract import build
from cumprop.experiments.columns import USUAL
from cumprop.networks import Shape
from cumprop.results.scores import summary

if TYPE_CHECKING:
    import pandas as pd

Point = dict[str, Any]

_MANY_SAMPLES = 1_000_000  # makes the work that sampling does only once negligible


def records(table: pd.DataFrame) -> list[Point]:
    """The rows of a table, each by its columns."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def points(scores: pd.DataFrame) -> list[Point]:
    """The rows of `results.scores.summary` with a score, and with `y`, `low` and `high`.

    `low` and `high` are the ends of the total interval, of one network the noise interval; `y` is
    the vn-MSE, where it is not resolved an upper bound.
    """
    return [point | _drawn(point) for point in records(summary(scores)) if point["n_seeds"] > 0]


def _drawn(point: Point) -> Point:
    kind = "total" if point["n_seeds"] > 1 else "noise"
    low, high, vn_mse = point[f"{kind}_low"], point[f"{kind}_high"], point["vn_mse"]
    # an estimate of the error below zero does not lower what the truth could have resolved
    bound = high - min(vn_mse, 0.0)
    return {"low": low, "high": high, "y": vn_mse if point["resolved"] else bound}


def front(points: list[Point], cost: str) -> list[Point]:
    """The points with a smaller `y` than every point that costs no more, the cheapest first.

    >>> points = [{"flops": 1, "y": 3.0}, {"flops": 2, "y": 4.0}, {"flops": 5, "y": 1.0}]
    >>> [point["flops"] for point in front(points, "flops")]
    [1, 5]
    """
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point[cost], point["y"])):
        if not found or point["y"] < found[-1]["y"]:
            found.append(point)
    return found


def label(point: Mapping[str, Any], kind: bool = True) -> str:
    """The order K of cumulants and their unusual parameters, without the `kind` if colour tells it.

    >>> label({"order": 3.0, "kind": "augmented_factorised"}), label({"order": 2, "kind": "basic"})
    ('K=3 augmented factorised', 'K=2')
    """
    told = [name for name in USUAL if kind or name != "kind"]
    values = [(point.get(name), USUAL[name]) for name in told]
    unusual = [v.replace("_", " ") for v, usual in values if isinstance(v, str) and v != usual]
    return " ".join([f"K={point['order']:.0f}", *unusual])


def shape(point: Point) -> Shape:
    """The shape of the networks of a point."""
    hidden = int(point["depth"]) - (point["readout"] == "pre")
    return Shape(
        widths=(int(point["width"]),) * (hidden + 2),
        activations=(point["activation"],) * hidden,
        biased=point["init"] != "he",
        dtype=point["dtype"],
    )


def flops_per_sample(points: list[Point], design: str) -> float:
    """FLOPs of a sample: measured at the most samples drawn by `design`, else predicted."""
    drawn = [p for p in points if p["estimator"] == "monte_carlo" and p["design"] == design]
    if drawn:
        most = max(drawn, key=lambda point: int(point["n_samples"]))
        return float(most["flops"] / most["n_samples"])
    sampling = build("monte_carlo", n_samples=_MANY_SAMPLES, design=design)
    return sampling.predict_cost(shape(points[0])).flops / _MANY_SAMPLES


def seconds_per_sample(points: list[Point], design: str) -> float | None:
    """Seconds of a sample in the fastest run of `design`, the least disturbed; None of no run."""
    runs = (p for p in points if p["estimator"] == "monte_carlo" and p["design"] == design)
    return min((float(p["seconds"] / p["n_samples"]) for p in runs), default=None)
