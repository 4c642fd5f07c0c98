"""Captions and titles, with which a figure can be read without its configuration."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from cumprop.results.scores import PROBLEM

_WORDS = {
    "relu": "ReLU", "gelu": "GELU", "he": "He", "critical": "critical",
    "output": "outputs", "pre": "last pre-activations", "post": "last activations",
}  # fmt: skip
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def title(
    row: Mapping[str, Any] | pd.Series[Any],
    scores: pd.DataFrame,
    sizes: Sequence[str] = ("width", "depth"),
) -> str:
    """The title of the panel of `row` in the figure of `scores`: its `sizes`, and what differs.

    >>> row = dict.fromkeys(PROBLEM, "any") | {"width": 64, "depth": 2}
    >>> title(row, pd.DataFrame([row, row | {"depth": 4}]))
    'width 64, depth 2'
    """
    others = [name for name in PROBLEM if name not in ("config", "width", "depth")]
    differing = [word(row[name]) for name in others if scores[name].nunique() > 1]
    return ", ".join([*(f"{name} {row[name]}" for name in sizes), *differing])


def common(scores: pd.DataFrame) -> str:
    """Problem, networks, truth, intervals, FLOP convention and conditions, in sentences."""
    seeds = sorted(set(scores["seed"]))
    bars = "networks and truth noise" if len(seeds) > 1 else "truth noise only (one network)"
    several = "s" * (len(seeds) > 1)
    return " ".join(
        [
            f"{words(scores['activation'])} MLPs of width {words(scores['width'])} and depth",
            f"{words(scores['depth'])}, {words(scores['init'].map(_init))} init,",
            f"{words(scores['dtype'])};",
            f"{len(seeds)} network{several} (seed{several} {runs(seeds)}).",
            f"vn-MSE: squared error of the mean {words(scores['readout'])} over the variance of",
            f"one forward pass; truth: {samples(scores['truth_n_samples'])} passes",
            f"({words(scores['truth_design'])}) in two independent halves.",
            f"Bars: 95% intervals, {bars}.",
            f"FLOPs as executed ({words(scores['flops_convention'])}), multiply-add = 2.",
            f"Run on {conditions(scores)}.",
        ]
    )


def missing(scores: pd.DataFrame) -> str:
    """Rows without a score and cumulant orders that were not run; "" where nothing is missing."""
    sentences = []
    order = scores["order"].map("K={:.0f}".format, na_action="ignore")
    for name, rows in scores.groupby(order.fillna(scores["estimator"])):
        failed = rows[rows["mse"].isna()]
        if len(failed):
            reason = failed["note"].iloc[0]
            sentences.append(
                f"{name}: {len(failed)} of {len(rows)} runs without a score ({reason})."
            )
    run = set(scores["order"].dropna())
    absent = [f"K={order}" for order in (1, 2, 3, 4) if order not in run]
    if absent:
        sentences.append(f"Not run: {', '.join(absent)}.")
    return " ".join(sentences)


def conditions(scores: pd.DataFrame) -> str:
    """The conditions of the rows; times may be compared only under one condition.

    >>> conditions(pd.DataFrame({"conditions": ["a", "b", "a"]}))
    'different conditions: a; b'
    """
    found = sorted(set(scores["conditions"]))
    return found[0] if len(found) == 1 else f"different conditions: {'; '.join(found)}"


def word(value: Any) -> str:
    """A value of a column as text."""
    return _WORDS.get(value, str(value))


def words(values: Iterable[Any]) -> str:
    """All values of a column as text, each once."""
    return ", ".join(word(value) for value in sorted(set(values)))


def _init(init: str) -> str:
    """A scale given as JSON, in words.

    >>> _init("he"), _init('{"critical": {"q": 0.85}}')
    ('he', 'critical (q = 0.85)')
    """
    if not init.startswith("{"):
        return init
    name, values = next(iter(json.loads(init).items()))
    if not isinstance(values, dict):
        return "manual"
    return f"{name} ({', '.join(f'{key} = {value:g}' for key, value in values.items())})"


def samples(numbers: pd.Series[int]) -> str:
    """The smallest and the largest of known numbers of samples, as text."""
    known = numbers[numbers > 0]
    return " to ".join(dict.fromkeys(power_of_ten(n) for n in (known.min(), known.max())))


def power_of_ten(number: float) -> str:
    """A number as two digits and a power of ten.

    >>> power_of_ten(4e6), power_of_ten(123456)
    ('4·10⁶', '1.2·10⁵')
    """
    digits, exponent = f"{number:.1e}".split("e")
    return f"{digits.removesuffix('.0')}·10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def runs(seeds: list[int]) -> str:
    """A list of seeds in short.

    >>> runs([0, 1, 2]), runs([0, 3, 7])
    ('0–2', '0, 3, 7')
    """
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds))
