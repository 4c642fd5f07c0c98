"""Measurements behind the claims: scored rows of one experiment into words and a verdict.

Tolerances are ours and stated with each claim; verdicts compare 95% intervals over networks and
truth noise with them. They say "open" where the rows cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cumprop.experiments.columns import USUAL
from cumprop.results.flop_polynomials import PAPER, lines
from cumprop.results.points import Point, flops_per_sample, label, points, seconds_per_sample
from cumprop.results.power_laws import ASYMPTOTIC, PowerLaw, error_law
from cumprop.results.scores import PROBLEM

if TYPE_CHECKING:
    import pandas as pd

AGREES, DISAGREES, OPEN = "agrees", "disagrees", "open"

WIDTH = 256
"""The width that the paper's claims are about where they name no other."""

EXPONENT_TOLERANCE = 0.25
FLAT = 0.3
TELLING = 1.0
"""An exponent with a half-width from here on cannot tell one order from the next."""


@dataclass(frozen=True)
class Measurement:
    """The answer of rows to a claim: in words, whether it agrees, and the cells it rests on."""

    text: str
    verdict: str


def falls(scores: pd.DataFrame, order: int) -> Measurement:
    """Exponent of the width at depth 4 against −order."""
    rows = _cumulants(scores, order=order, depth=4)
    return _exponent(rows, "width", ASYMPTOTIC, -order, EXPONENT_TOLERANCE)


def is_flat(scores: pd.DataFrame, order: int, depth: int) -> Measurement:
    """Exponent of the width without power cumulants against 0."""
    rows = _cumulants(scores, order=order, depth=depth, kind="ablated")
    return _exponent(rows, "width", ASYMPTOTIC, 0, FLAT)


def grows(scores: pd.DataFrame, order: int) -> Measurement:
    """Exponent of the depth against +order; in words that of L − 1, too."""
    rows = _cumulants(scores, order=order, width=WIDTH)
    found = _exponent(rows, "depth", np.inf, order, EXPONENT_TOLERANCE)
    below = error_law(rows.assign(depth=rows["depth"] - 1), "depth")
    return found if below is None else replace(found, text=f"{found.text}; of L − 1: {below}")


def saves(scores: pd.DataFrame, depth: int, orders: Iterable[int]) -> Measurement:
    """FLOPs of iid sampling to the same error over those of each order."""
    found = _savings(_at(scores, depth))
    points = [p for p in found if p["order"] in {*orders} and p["kind"] == "basic"]
    if not points:
        return Measurement("not run", OPEN)
    verdicts = {p["low"] > 1 if p["resolved"] else None for p in points}
    if any(p["resolved"] and p["high"] < 1 for p in points):
        verdict = DISAGREES
    else:
        verdict = AGREES if verdicts == {True} else OPEN
    return Measurement("; ".join(map(_saving, points)), verdict)


def best_saving(scores: pd.DataFrame, depth: int, low: float, high: float) -> Measurement:
    """The largest saving of a resolved point, whose interval should meet [low, high].

    Trees do not count, since the paper has none.
    """
    points = [p for p in _savings(_at(scores, depth)) if p["resolved"] and p["kind"] != "tree"]
    if not points:
        return Measurement("no resolved point", OPEN)
    best = max(points, key=lambda p: float(p["saving"]))
    meets = best["low"] <= high and best["high"] >= low
    text = f"largest: {_saving(best)}{_at_paper_flops(best)}"
    return Measurement(text, AGREES if meets else DISAGREES)


def loses(scores: pd.DataFrame, depth: int, order: int) -> Measurement:
    """A saving below 1."""
    found = _savings(_at(scores, depth))
    points = [p for p in found if p["order"] == order and p["kind"] == "basic"]
    if not points:
        return Measurement("not run", OPEN)
    (point,) = points
    verdict = OPEN
    if point["resolved"]:
        verdict = AGREES if point["high"] < 1 else DISAGREES if point["low"] > 1 else OPEN
    return Measurement(_saving(point) + _at_paper_flops(point), verdict)


def gains_with_width(scores: pd.DataFrame) -> Measurement:
    """The largest saving at the corners of the grid: by width and by depth; without trees."""
    points = [p for p in _savings(scores) if p["resolved"] and p["kind"] != "tree"]
    best = dict[tuple[int, int], float]()
    for p in points:
        place = int(p["width"]), int(p["depth"])
        best[place] = max(best.get(place, 0.0), float(p["saving"]))
    widths, depths = ([f(place[i] for place in best) for f in (min, max)] for i in (0, 1))
    corners = {(n, depth): best.get((n, depth)) for n in widths for depth in depths}
    if None in corners.values() or len(corners) < 4:
        return Measurement("a corner of the grid has no resolved point", OPEN)
    text = ", ".join(f"{times(s or 0)} at n={n}, L={depth}" for (n, depth), s in corners.items())
    (narrow, wide), (shallow, deep) = widths, depths
    value = {place: saving or 0.0 for place, saving in corners.items()}
    holds = all(value[wide, depth] > value[narrow, depth] for depth in depths)
    holds &= all(value[n, shallow] > value[n, deep] for n in widths)
    return Measurement(text, AGREES if holds else DISAGREES)


def slower(scores: pd.DataFrame) -> Measurement:
    """How often cumulants take longer than iid sampling at its fastest run, to the same error."""
    points = [p for p in _savings(scores, "seconds") if p["kind"] == "basic" and p["resolved"]]
    if not points:
        return Measurement("no resolved point", OPEN)
    count = sum(p["saving"] < 1 for p in points)
    text = f"slower at {count} of {len(points)} resolved points ({'; '.join(map(_speed, points))})"
    verdict = AGREES if 2 * count > len(points) else DISAGREES
    return Measurement(text, verdict)


def monomials(scores: pd.DataFrame) -> Measurement:
    """Leading monomials of the exact polynomials through counted FLOPs."""
    wanted = {1: (2, 1), 2: (3, 1), 3: (3, 2), 4: (4, 2)}
    found = [line for line in lines(scores) if line.kind == "basic" and line.fastest]
    text = "; ".join(f"{line.name}: {line.polynomial.leading}" for line in found)
    holds = all(max(line.polynomial.coefficients) == wanted[line.order] for line in found)
    verdict = AGREES if holds and len(found) == len(wanted) else DISAGREES if not holds else OPEN
    return Measurement(text, verdict)


def _cumulants(scores: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Rows of cumulants, as usual but for `values`."""
    chosen = scores["estimator"] == "cumulant"
    for name, value in (USUAL | values).items():
        chosen &= scores[name] == value
    return scores[chosen]


def _at(scores: pd.DataFrame, depth: int) -> pd.DataFrame:
    return scores[(scores["width"] == WIDTH) & (scores["depth"] == depth)]


def _exponent(
    rows: pd.DataFrame, column: str, fraction: float, wanted: float, tolerance: float
) -> Measurement:
    law = error_law(rows, column, fraction)
    if law is None:
        return Measurement("fewer than two resolved points", OPEN)
    text = f"{law} over {column} {', '.join(f'{x:g}' for x in law.x)}"
    return Measurement(text, _verdict(law, wanted, tolerance))


def _verdict(law: PowerLaw, wanted: float, tolerance: float) -> str:
    if not law.half_width < TELLING:
        return OPEN
    low, high = law.interval
    return AGREES if low <= wanted + tolerance and high >= wanted - tolerance else DISAGREES


def _savings(scores: pd.DataFrame, cost: str = "flops") -> list[Point]:
    """Points of the cumulants with `saving` over iid sampling and its interval `low`, `high`."""
    each = {"flops": flops_per_sample, "seconds": seconds_per_sample}[cost]
    found = []
    for _, rows in scores.groupby(PROBLEM, dropna=False):
        inside = points(rows)
        sampled = each(inside, "iid") if inside else None
        if sampled is None:
            continue
        for p in inside:
            if p["estimator"] == "cumulant":
                ends = {"low": p["high"], "saving": p["y"], "high": p["low"]}
                saving = {k: sampled / (v * p[cost]) if v > 0 else np.inf for k, v in ends.items()}
                found.append(p | saving)
    return found


def times(x: float) -> str:
    """A factor with two digits.

    >>> times(97213.0), times(2.3456)
    ('97,000×', '2.3×')
    """
    rounded = float(f"{x:.2g}")
    if not np.isfinite(rounded):
        return "∞"
    return f"{rounded:,.0f}×" if rounded >= 10 else f"{rounded:g}×"


def _saving(p: Point) -> str:
    if not p["resolved"]:
        return f"{label(p)} more than {times(p['saving'])}"
    return f"{label(p)} {times(p['saving'])} ({times(p['low'])} to {times(p['high'])})"


def _at_paper_flops(p: Point) -> str:
    """The saving at the FLOPs of the paper's Table 1, where it has them."""
    order, kind, n, depth = int(p["order"]), p["kind"], int(p["width"]), int(p["depth"])
    polynomial = PAPER.get((order, kind, True)) or PAPER.get((order, kind, False))
    if polynomial is None:
        return ""
    saving = p["saving"] * p["flops"] / float(polynomial.at(n, depth))
    return f"; {times(saving)} at Table 1's FLOPs"


def _speed(p: Point) -> str:
    return f"K={p['order']:.0f} L={p['depth']} {times(p['saving'])}"
