"""Births of trees: what one layer added to κ_3 and κ_4, and its slices later (docs/tree.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import iadd
from typing import Any

from numpy.typing import NDArray

from .legs import Legs
from .quartic import Quartic, Reading, Squares
from .symmetric_tensors import (
    Slices,
    TracePart,
    diagonal,
    zero_coincidences,
)

Array = NDArray[Any]


@dataclass(frozen=True)
class Window:
    """Up to which age in layers births keep their κ_4 and their response in κ_3; None: for ever.

    `mixed` keeps the part of κ_iiij in which i and j meet in an older birth.
    """

    fourth: int | None = None
    response: int | None = None
    mixed: bool = True

    def holds_fourth(self, age: int) -> bool:
        return self.fourth is None or age <= self.fourth

    def holds_response(self, age: int) -> bool:
        return self.response is None or age <= self.response


@dataclass(frozen=True)
class Birth:
    """What one layer added: legs (P is None for I at birth), the form of κ_4, its response in κ_3.

    `older` are the legs of the births before it, as they were in Z at its birth.
    """

    legs: Legs
    quartic: Quartic
    older: tuple[Legs, ...]
    response: Squares | None = None
    age: int = 0

    def transform(self, weight: Array) -> Birth:
        legs = self.legs.scaled(weight)
        return replace(
            self,
            legs=replace(legs, P=weight) if self.age == 0 else legs,
            response=self.response and self.response.scaled(weight),
            age=self.age + 1,
        )

    def activate(self, w1: Array, w2: Array, reading: Reading | None, window: Window) -> Birth:
        """diag(w1) on all legs; κ_4, while it is held, starts ½ w2_a κ_aa·· in κ_3."""
        response = self.response and self.response.scaled(w1)
        if reading is not None and window.holds_fourth(self.age):
            started = reading.squares.scaled(w2)
            response = started if response is None else response.plus(started)
        return replace(
            self,
            legs=self.legs.scaled(w1),
            older=self.older if window.holds_fourth(self.age + 1) else (),
            response=response if window.holds_response(self.age + 1) else None,
        )


@dataclass(frozen=True)
class Read:
    """Slices of κ_3 and κ_4 of Z by origin; what `leaves` is not carried through the activation."""

    legs: Slices
    response: Slices
    response_leaves: Slices
    fourth: Slices
    fourth_leaves: Slices
    core: Slices

    @cached_property
    def third_carried(self) -> Slices:
        return total([self.legs, self.response])

    @cached_property
    def trees(self) -> Slices:
        """κ_4 without the core."""
        return total([self.fourth, self.fourth_leaves])

    def known(self) -> Slices:
        """All of κ_3 and κ_4."""
        third = total([self.third_carried, self.response_leaves])
        return {**third, **total([self.trees, self.core])}


def read_births(
    births: Sequence[Birth], core: TracePart | None, window: Window, pairs: bool
) -> tuple[tuple[Reading | None, ...], Read]:
    """Slices of all births and of the core; readings where an activation follows."""
    gradients = [birth.legs.gradient() for birth in births]
    readings: list[Reading | None] = []
    fourth: dict[int | None, Slices] = {}
    response: dict[int | None, Slices] = {}
    for birth in births:
        reading = None
        if window.holds_fourth(birth.age) or birth.response is not None:
            nu = [
                gradient.dot(older) for gradient, older in zip(gradients, birth.older, strict=False)
            ]
            reading = Reading.of(birth.quartic, birth.legs, reduce(iadd, nu) if nu else None)
            if window.holds_fourth(birth.age):
                fourth[birth.age] = fourth_slices(birth, reading, births, window.mixed, pairs)
            if birth.response is not None:
                response[birth.age] = response_slices(birth.response, reading, pairs)
        readings.append(reading if pairs else None)
    blocks = [(4,), (3, 1), (2, 2)] if pairs else [(4,)]
    third = (third_slices(g, birth.legs, pairs) for g, birth in zip(gradients, births, strict=True))
    return tuple(readings), Read(
        legs=total(third),
        response_leaves=response.pop(window.response, {}),
        response=total(response.values()),
        fourth_leaves=fourth.pop(window.fourth, {}),
        fourth=total(fourth.values()),
        core={} if core is None else {u: zero_coincidences(core.slice(u)) for u in blocks},
    )


def third_slices(gradient: Legs, legs: Legs, pairs: bool) -> Slices:
    """κ_3 of a birth's legs."""
    if not pairs:
        return {(3,): gradient.row_dot(legs)}
    k21 = gradient.dot(legs)
    return {(3,): diagonal(k21, (2,)).copy(), (2, 1): zero_coincidences(k21)}


def fourth_slices(
    birth: Birth, reading: Reading, births: Sequence[Birth], mixed: bool, pairs: bool
) -> Slices:
    """κ_4 of a birth; κ_iijj without its loops."""
    edges = reading.quartic.edges(reading.squares)
    gradient = reading.quartic.gradient(reading.squares, edges, times=3)
    k4 = gradient.row_dot(reading.squares)
    if not pairs:
        return {(4,): k4}
    k31 = reading.pulled(gradient)
    if mixed:
        for source, older in zip(births, birth.older, strict=False):
            k31 += source.legs.hessian(older.scaled(gradient.N)).dot(source.legs)
    k22 = reading.slice_22(edges)
    return {(4,): k4, (3, 1): zero_coincidences(k31), (2, 2): zero_coincidences(k22)}


def response_slices(response: Squares, reading: Reading, pairs: bool) -> Slices:
    """κ_3 = Sym 3/2 B(response, ·): what κ_4 has added to κ_3 in the activations passed."""
    gradient = reading.quartic.gradient(response, reading.quartic.edges(response))
    k3 = gradient.row_dot(reading.squares) * 1.5
    if not pairs:
        return {(3,): k3}
    k21 = reading.pulled(gradient)
    k21 += gradient.dot(reading.squares).T * 0.5
    return {(3,): k3, (2, 1): zero_coincidences(k21)}


def total(parts: Iterable[Slices]) -> Slices:
    total: dict[tuple[int, ...], Array] = {}
    for part in parts:
        for u, slice_u in part.items():
            total[u] = total[u] + slice_u if u in total else slice_u
    return total


def contraction(births: Sequence[Birth], older: Sequence[Legs]) -> Callable[[Array], Array] | None:
    """v -> Σ_r v_r κ_3(r, i, j) of the older births, r a neuron where `older` are their legs."""
    if not older:
        return None
    sources = list(zip((birth.legs for birth in births), older, strict=False))
    return lambda v: reduce(iadd, (legs.contracted(then.scaled(v)) for legs, then in sources))
