"""A check of whether names and shapes belong to one network or to several side by side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import combinations

from cumprop.errors import CumpropError

PLACES = re.compile(
    r"in|input|stem|first|second|third|body|trunk|backbone|features?|hidden|h|l|layers?|blocks?|fc"
    r"|lin|linears?|dense|mlp|net|network|model|encoder|decoder|head|classifier|last|final|out"
    r"|output|logits",
    re.IGNORECASE,
)
"""Words for a place in one network."""

SIDE_BY_SIDE = re.compile(
    r"(?:(?<![a-z])(?:heads|experts|members|critics|actors|branches|towers|ensemble)\W*"
    r"|(?<![a-z])(?:head|expert|member|critic|actor|branch|tower|qf|q|vf)_?)\d+",
    re.IGNORECASE,
)
"""Names of numbered parts that take the same input and do not follow each other."""


def check_one_network(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CumpropError where layers, (out, in) by name, may belong to networks side by side.

    Layers with names that differ only in a number at the end are a series. Two series with equally
    many inputs may be networks, or heads, side by side; they are taken as parts that follow each
    other only if all names are `PLACES` and one of the two has a single layer. Series with other
    names are several networks if two of them have several layers, whatever their shapes.

    >>> check_one_network({"fc1": (8, 8), "fc2": (8, 8), "out": (8, 8)})
    >>> check_one_network({"body": (8, 4), "mean": (8, 8), "logvar": (8, 8)})
    Traceback (most recent call last):
    cumprop.errors.CumpropError: it seems to hold several networks, body (4-8), mean (8-8), logvar \
(8-8); choose with prefix=, or --prefix, as in body, or body,mean for parts that follow each other
    """
    series = _series(shapes)
    long = [name for name, layers in series.items() if len(layers) > 1]
    plain = all(map(_is_place, _without_common_path(series)))
    plain = plain and not any(map(SIDE_BY_SIDE.search, series))
    alike = [
        (a, b)
        for a, b in combinations(series, 2)
        if shapes[series[a][0]][1] == shapes[series[b][0]][1]
    ]
    both_long = any(a in long and b in long for a, b in alike)
    if both_long or (not plain and (alike or len(long) > 1)):
        labels = [name.partition("#")[0].rstrip("./_") for name in series]
        chains = (
            "-".join(map(str, (shapes[layers[0]][1], *(shapes[name][0] for name in layers))))
            for layers in series.values()
        )
        found = ", ".join(f"{a} ({b})" for a, b in zip(labels, chains, strict=True))
        raise CumpropError(
            f"it seems to hold several networks, {found}; choose with prefix=, or --prefix, "
            f"as in {labels[0]}, or {','.join(labels[:2])} for parts that follow each other"
        )


def _series(names: Iterable[str]) -> dict[str, list[str]]:
    """Layers by their common name without the last number, or without any if that is one layer."""
    by_path: dict[str, list[str]] = {}
    for name in names:
        by_path.setdefault(_path(name), []).append(name)
    series: dict[str, list[str]] = {}
    for path, layers in by_path.items():
        single = len(layers) == 1 and not SIDE_BY_SIDE.search(path)
        series.setdefault(re.sub(r"\d+", "#", path) if single else path, []).extend(layers)
    return {path: sorted(layers, key=numbers_in) for path, layers in series.items()}


def _path(name: str) -> str:
    name = name.strip("./_:")
    found = SIDE_BY_SIDE.search(name)
    if found and found.end() == len(name):
        return name
    return re.sub(r"[\W_]*\d+$", "", name)


def _is_place(path: str) -> bool:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", path)
    return all(map(PLACES.fullmatch, words))


def _without_common_path(paths: Iterable[str]) -> list[str]:
    split = [path.replace("/", ".").split(".") for path in paths]
    while len(split) > 1 and all(split) and len({words[0] for words in split}) == 1:
        split = [words[1:] for words in split]
    return [".".join(words) for words in split]


def numbers_in(name: str) -> list[int]:
    """The numbers in a name, by which layers are sorted.

    >>> numbers_in("block10.fc2")
    [10, 2]
    """
    return [int(number) for number in re.findall(r"\d+", name)]
