"""Meters of FLOPs: what is executed is counted, by component (mathematics §6, "Our convention").

Every ufunc, matrix product and reduction of counted arrays is added to the innermost `counting`
block, under the current `component`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass
from itertools import chain
from operator import add
from typing import Any

CONVENTION = "executed-1"
"""The name and version of the counting convention, stored with every count."""


class Flops(dict[str, int]):
    """Floating-point operations by component, with their `total`.

    A multiply-add is 2 FLOPs, an entrywise operation (also of a special function) 1 per output
    element, a reduction of r numbers r - 1; copies, views, indexing and random numbers are 0. A
    symmetric product A Aᵀ counts as its kernel computes it: half with NumPy, all with PyTorch
    (mathematics §6).

    >>> import numpy as np
    >>> from cumprop.flops import counted
    >>> with counting() as flops:
    ...     with component("linear"):
    ...         y = counted(np.ones((3, 4))) @ np.ones(4)
    ...     y = y + 1.0
    >>> dict(flops), flops.total
    ({'linear': 24, 'other': 3}, 27)
    """

    def __init__(self, components: Mapping[str, int] | None = None) -> None:
        super().__init__(components or {})
        self._current = "other"

    def __repr__(self) -> str:
        return f"Flops({super().__repr__()}, total={self.total})"

    @property
    def total(self) -> int:
        """The FLOPs of all components."""
        return sum(self.values())

    def _add(self, n: int, component: str | None = None) -> None:
        name = component or self._current
        self[name] = self.get(name, 0) + n


class having:
    """Give a context variable a value inside the block."""

    __slots__ = ("_token", "_value", "_variable")

    def __init__(self, variable: ContextVar[Any], value: Any) -> None:
        self._variable, self._value = variable, value

    def __enter__(self) -> None:
        self._token = self._variable.set(self._value)

    def __exit__(self, *error: object) -> None:
        self._variable.reset(self._token)


_meter: ContextVar[Flops | None] = ContextVar("cumprop_flops", default=None)
_paused: ContextVar[bool] = ContextVar("cumprop_flops_paused", default=False)


@contextmanager
def counting() -> Iterator[Flops]:
    """Collect the FLOPs of everything that `counted` arrays do inside the block.

    A block inside another does not change the outer count: when the inner block ends, also by an
    error, its components are added to the outer ones, and FLOPs without a component are added to
    the current component.

    >>> import numpy as np
    >>> from cumprop.flops import counted
    >>> with counting() as outer:
    ...     with counting() as inner:
    ...         y = counted(np.ones(3)) + 1.0
    ...     y = y + 1.0
    >>> inner.total, outer.total
    (3, 6)
    """
    flops = Flops()
    try:
        with having(_meter, flops):
            yield flops
    finally:
        meter(flops)


@contextmanager
def apart(into: Flops) -> Iterator[None]:
    """Add the FLOPs of the block, which nothing else counts, to `into` by the same components."""
    outer = _meter.get()
    if outer is None:
        yield
        return
    flops = Flops()
    flops._current = outer._current
    try:
        with having(_meter, flops):
            yield
    finally:
        for name, n in flops.items():
            into._add(n, name)


def meter(flops: Flops) -> None:
    """Add FLOPs of earlier work, by component, to the innermost `counting` block."""
    outer = _meter.get()
    if outer is not None:
        for name, n in flops.items():
            outer._add(n, None if name == "other" else name)


class not_counting:
    """Leave the arithmetic inside the block out of the count.

    It is for predictions, and for the few operations per neuron that only some numbers need, so
    that the FLOPs of ReLU networks depend on their shape alone.
    """

    __slots__ = ("_meter", "_paused")

    def __enter__(self) -> None:
        self._paused, self._meter = _paused.set(True), _meter.set(None)

    def __exit__(self, *error: object) -> None:
        _meter.reset(self._meter)
        _paused.reset(self._paused)


def is_paused() -> bool:
    """Whether counting is off (`not_counting`), for meters of other libraries."""
    return _paused.get()


class component:
    """Add the FLOPs counted inside the block to the component `name`."""

    __slots__ = ("_meter", "_name", "_outer")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._meter = meter = _meter.get()
        if meter is not None:
            self._outer, meter._current = meter._current, self._name

    def __exit__(self, *error: object) -> None:
        if self._meter is not None:
            self._meter._current = self._outer


@contextmanager
def repeated(times: int) -> Iterator[None]:
    """Count the FLOPs inside the block `times` times."""
    flops = _meter.get()
    before = dict(flops or {})
    yield
    if flops is not None:
        for name, n in flops.items():
            flops[name] = n + (times - 1) * (n - before.get(name, 0))


def count(n: int) -> None:
    """Add `n` FLOPs by hand, for a kernel that is not a NumPy ufunc."""
    flops = _meter.get()
    if flops is not None:
        flops._add(int(n))


@dataclass(frozen=True)
class Work:
    """The kinds of work of an estimate, each with its own speed.

    `calls` is the number of NumPy calls; `products` are FLOPs of matrix products, `entrywise` of
    entrywise operations, and `large` of those with large results, which wait for fresh memory.
    """

    calls: int = 0
    products: int = 0
    entrywise: int = 0
    large: int = 0

    @property
    def flops(self) -> int:
        """FLOPs of all kinds."""
        return self.products + self.entrywise + self.large

    def __add__(self, other: Work) -> Work:
        return Work(*map(add, astuple(self), astuple(other)))


def added(*counts: Flops) -> Flops:
    """The FLOPs of several estimates together, by component."""
    names = dict.fromkeys(chain(*counts))
    return Flops({name: sum(flops.get(name, 0) for flops in counts) for name in names})


def shared(flops: Flops, n: int) -> list[Flops]:
    """The FLOPs of a batch dealt out to its n estimates, whole numbers that add up to them.

    >>> shared(Flops({"linear": 7}), 2)
    [Flops({'linear': 3}, total=3), Flops({'linear': 4}, total=4)]
    """
    return [
        Flops({name: (b + 1) * count // n - b * count // n for name, count in flops.items()})
        for b in range(n)
    ]
