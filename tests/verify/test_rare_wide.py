"""Acceptance of rare events on networks of width 256 and several layers, as in `test_rare.py`."""

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import cumprop

sys.path.append(str(Path(__file__).parent))
from rare_truths import LADDERS, Case, pairs

pytestmark = pytest.mark.verify

WIDE = (("relu", 256, 2), ("relu", 256, 4), ("tanh", 256, 4))
FIRST = 100
"""The number of the first case: its streams are not those of `test_rare.py`."""


@cache
def measured():
    """Wanted probability, pair and estimate of twelve events."""
    found = []
    for number, (activation, width, depth) in enumerate(WIDE, start=FIRST):
        init = "critical" if activation == "tanh" else "he"
        network = cumprop.random_mlp(width, depth, 7000 + number, activation, init=init)
        case = Case(f"{activation} {width}x{depth}", network, "y0")
        for p, pair in zip(LADDERS[number % 2], pairs(number, case), strict=True):
            found.append((p, pair, network.probability(f"y0 > {pair.threshold!r}")))
            print(f"\n  {pair.name}: {pair.best}, {found[-1][2]}", flush=True)
    return found


def test_truths_of_wide_networks_agree(record):
    z = np.array([pair.disagreement for _, pair, _ in measured()])
    errors = [pair.best[1] / pair.best[0] for _, pair, _ in measured()]
    record(
        f"truths of {len(z)} pairs by splitting and by samples: differences in standard errors",
        f"rms {np.sqrt(np.mean(z**2)):.2f}, largest {np.abs(z).max():.1f}; their average is good "
        f"to {np.median(errors):.1%} (median)",
        "rms ≤ 1.6, largest ≤ 4",
        np.sqrt(np.mean(z**2)) <= 1.6 and np.abs(z).max() <= 4,
    )


def test_wide_networks(record):
    ratios = [found.probability / pair.best[0] for _, pair, found in measured()]
    wrong = [
        f"{pair.name}: {ratio - 1:+.0%}, {found.status[:50]}"
        for ratio, (_, pair, found) in zip(ratios, measured(), strict=True)
        if abs(ratio - 1) > 0.2
    ]
    record(
        f"`probability` to 10% on {len(ratios)} pairs of width 256: relative error ≤ 0.2",
        f"{len(ratios) - len(wrong)} of {len(ratios)}, rms {np.std(ratios):.0%}; missed: "
        f"{'; '.join(wrong) or 'none'}",
        "at most one missed",
        len(wrong) <= 1,
    )


def test_cost_of_wide_networks(record):
    words = []
    for depth_of in WIDE:
        name = f"{depth_of[0]} {depth_of[1]}x{depth_of[2]}"
        of_one = [one for one in measured() if one[1].name.startswith(name)]
        passes = ", ".join(f"{p:.0e}: {f.passes:,} ({f.covered or 1:.0%})" for p, _, f in of_one)
        words.append(f"{name}, {passes}")
    short = [f.status for _, _, f in measured() if f.status != "ok"]
    record(
        "passes of the same estimates (share by importance sampling), and statuses beside ok",
        f"{'; '.join(words)}; {len(short)} not ok{': ' if short else ''}{'; '.join(short)}",
        "none above 2,000,000, at most two not ok",
        max(f.passes for _, _, f in measured()) <= 2_000_000 and len(short) <= 2,
    )
