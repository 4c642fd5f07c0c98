"""The number of BLAS threads: one for products of matrices that are too small to share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

PAYS_FROM = 256
"""The neurons of a layer from which a second thread pays (docs/costs.md)."""


@contextmanager
def of_width(width: int) -> Iterator[None]:
    """Products inside the block on one BLAS thread, if matrices of `width` neurons are too small.

    A second thread starts and waits for longer than it saves, and leaves half of every product in
    the cache of another core. Wider networks keep the number of threads. It is a setting of the
    whole process, which the end of the block restores. Cost: some 10 µs where BLAS has several
    threads.

    >>> with of_width(64):
    ...     sorted({blas.get_num_threads() for blas in _libraries()})
    [1]
    """
    before = [(blas, blas.get_num_threads()) for blas in _libraries()] if width < PAYS_FROM else []
    several = [(blas, threads) for blas, threads in before if threads > 1]
    for blas, _ in several:
        blas.set_num_threads(1)
    try:
        yield
    finally:
        for blas, threads in several:
            blas.set_num_threads(threads)


def allowed() -> int:
    """The number of threads that BLAS has now: entrywise work takes as many."""
    return max((blas.get_num_threads() for blas in _libraries()), default=1)


@cache
def _libraries() -> list[Any]:
    """The BLAS libraries that this process has loaded."""
    from threadpoolctl import ThreadpoolController

    controllers: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return controllers
