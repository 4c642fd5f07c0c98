"""Counts that are known beforehand: runs of a shape that was counted before take plain arrays.

Counting costs about as much time as the arithmetic of arrays of 64 neurons. The FLOPs of most runs
follow from the shape of a network and from a few choices (`decided`, `occurs`): a run that makes
the choices of an earlier one has its FLOPs. All other work, such as the number of nodes of a
quadrature, stands in `by_numbers` blocks and is counted whenever it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cumprop.errors import CumpropError
from cumprop.flops.meter import Flops, apart, counting, having, meter

T = TypeVar("T")
Counts = dict[tuple[Hashable, ...], Flops]
"""FLOPs by the choices of a run, without those of `by_numbers` blocks."""

MOST_SHAPES = 1024
"""The number of shapes whose counts are kept."""
_known: dict[Hashable, Counts] = {}


@dataclass
class Run:
    """A run inside `by_shape`: its choices so far, and the FLOPs of its `by_numbers` blocks."""

    on_plain_arrays: bool
    choices: list[Hashable] = field(default_factory=list)
    by_numbers: Flops = field(default_factory=Flops)


_run: ContextVar[Run | None] = ContextVar("cumprop_run", default=None)


def by_shape(key: Hashable, compute: Callable[[], T]) -> T:
    """The result of `compute`, whose FLOPs are counted once for each `key` and choices.

    `key` stands for all that the FLOPs depend on beside choices and `by_numbers` blocks, and
    `compute` is repeated, with counted arrays, where its choices are new. Its arrays are NumPy's.

    >>> import numpy as np
    >>> from cumprop.flops import counted, counting
    >>> a = np.ones((3, 4))
    >>> with counting() as flops:
    ...     kinds = [type(by_shape(a.shape, lambda: counted(a) + 1)).__name__ for _ in range(2)]
    >>> kinds, flops.total
    (['Counted', 'ndarray'], 24)
    """
    counts = _known.get(key)
    if counts is not None:
        run = Run(on_plain_arrays=True)
        try:
            with having(_run, run), apart(Flops()):
                result = compute()
        except CumpropError:
            counts = {}  # the counted run raises it again
        flops = counts.get(tuple(run.choices))
        if flops is not None:
            meter(flops)
            meter(run.by_numbers)
            return result
    run = Run(on_plain_arrays=False)
    with counting() as flops:
        try:
            with having(_run, run):
                result = compute()
            _keep(key, tuple(run.choices), Flops(flops))
        finally:
            meter(run.by_numbers)
    return result


def _keep(key: Hashable, choices: tuple[Hashable, ...], flops: Flops) -> None:
    if key not in _known and len(_known) >= MOST_SHAPES:
        _known.pop(next(iter(_known)))
    _known.setdefault(key, {})[choices] = flops


def decided(choice: Any) -> Any:
    """The choice, hashable, which is noted: the FLOPs of a run may depend on it."""
    run = _run.get()
    if run is not None:
        run.choices.append(choice)
    return choice


def on_plain_arrays() -> bool:
    """Whether the FLOPs of the arithmetic here are known beforehand."""
    run = _run.get()
    return run is not None and run.on_plain_arrays


@contextmanager
def by_numbers() -> Iterator[None]:
    """Count what is inside whenever it runs: its FLOPs depend on the numbers of a network.

    Arrays from outside are `counted` again inside, and those that leave the block outside.
    """
    run = _run.get()
    if run is None:
        yield
        return
    with having(_run, None), apart(run.by_numbers):
        yield
