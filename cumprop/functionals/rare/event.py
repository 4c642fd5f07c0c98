"""Events of outputs in words, as in `y0 - y1 > 0`: every one is g > 0 of one number g."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cumprop.errors import CumpropError

Array = NDArray[Any]

_TERM = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\*(?=y))?)?(?P<y>y\d*)?"
)
_REMEDY = "write 'y0 > 3', 'y0 < 3', 'y0 - 2*y1 > 0', '|y0 - 1| > 3' or '|y0| < 3'"


@dataclass(frozen=True, eq=False)
class Event:
    """The event that g(y) > 0 for the excess g = s (u − t), or g = s (|u| − t) if `two_sided`.

    u = row · y + shift is linear in the outputs, `row` is (n_{L+1},), t is `threshold`, and `sign`
    s is 1 or −1.
    """

    words: str
    row: Array
    shift: float
    threshold: float
    sign: int
    two_sided: bool

    @classmethod
    def parsed(cls, words: str, n_outputs: int) -> Self:
        """The event in words: linear terms in y0, y1, … or |…| of them, `>` or `<`, a threshold.

        `y` is the output of a network that has only one. Raises CumpropError for other words,
        outputs that do not exist, events of no output, and |…| beside a negative threshold.

        >>> event = Event.parsed("|y0 - 2*y1| > 3", 2)
        >>> event.row.tolist(), event.two_sided, event.excess(np.array([1.0, -4.0])).tolist()
        ([1.0, -2.0], True, [-2.0, 1.0])
        """
        sides = re.split(r"([<>])=?", re.sub(r"\s+", "", words))
        if len(sides) != 3 or not sides[0] or not sides[2]:
            raise CumpropError(f"event {words!r} is no comparison: {_REMEDY}")
        left, sign, right = sides
        two_sided = "|" in left + right
        if "|" in right:
            left, right, sign = right, left, "<" if sign == ">" else ">"
        if two_sided:
            inside = re.fullmatch(r"\|([^|]+)\|", left)
            if inside is None:
                raise CumpropError(f"event {words!r}: |…| stands alone on its side; {_REMEDY}")
            left = inside[1]
        row, shift = _linear(left, words, n_outputs)
        other, threshold = _linear(right, words, n_outputs)
        if two_sided and (other.any() or threshold < 0):
            raise CumpropError(f"event {words!r}: compare |…| with a number that is not negative")
        if not (row - other).any():
            raise CumpropError(f"event {words!r} has no output: {_REMEDY}")
        return cls(words, row - other, shift, threshold, 1 if sign == ">" else -1, two_sided)

    def excess(self, u: Array) -> Array:
        """The excess g for values of row · y, an array of any shape; the event is g > 0."""
        u = u + self.shift
        return self.sign * ((np.abs(u) if self.two_sided else u) - self.threshold)

    def value(self, excess: Array) -> Array:
        """The numbers u or |u| that belong to excesses g, an array of any shape."""
        return self.threshold + self.sign * excess

    def slope(self, u: Array) -> Array:
        """The derivative of g by row · y, an array of the same shape."""
        return self.sign * (np.sign(u + self.shift) if self.two_sided else np.ones_like(u))


def _linear(side: str, words: str, n_outputs: int) -> tuple[Array, float]:
    """The coefficients (n_outputs,) and the constant of a side such as 2*y0-y1+3."""
    row, constant, place = np.zeros(n_outputs), 0.0, 0
    while place < len(side):
        term = _TERM.match(side, place)
        if term is None or not (term["number"] or term["y"]) or (place and not term["sign"]):
            raise CumpropError(f"event {words!r}: {side[place:]!r} is no linear term; {_REMEDY}")
        number = float(f"{term['sign']}{term['number'] or 1}")
        if not isfinite(number):
            raise CumpropError(f"event {words!r}: {term[0]!r} is too large for a number")
        if term["y"]:
            row[_output(term["y"], words, n_outputs)] += number
        else:
            constant += number
        place = term.end()
    return row, constant


def _output(name: str, words: str, n_outputs: int) -> int:
    if name == "y" and n_outputs > 1:
        raise CumpropError(f"event {words!r}: there are {n_outputs} outputs; write y0, y1, …")
    index = int(name[1:] or 0)
    if index >= n_outputs:
        raise CumpropError(f"event {words!r}: the outputs are y0 to y{n_outputs - 1}")
    return index
