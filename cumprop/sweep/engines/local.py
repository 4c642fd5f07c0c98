"""Engine `local`: processes of this machine, by loky; one worker is this process itself."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from multiprocessing import parent_process
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor

from cumprop.memory import keep_freed_memory, oom_kills
from cumprop.sweep.engines import Lost, Outcome, Place, Run, T

_IDLE_SECONDS = 300
_REPLACED = "A worker stopped while some jobs were given"
"""The warning of loky about a worker that was idle or grew large and is replaced."""
_pools = dict[int, ProcessPoolExecutor]()
"""The one pool of this process, by its size; kept between calls, since workers start slowly."""


def outcomes(tasks: Sequence[T], run: Run[T], place: Place) -> Iterator[tuple[T, Outcome | Lost]]:
    """Run `tasks`; when a worker dies, running tasks are lost and waiting tasks are not.

    The pool is then made anew, with one worker fewer if the operating system ran out of memory.
    """
    if place.workers == 1 and not (place.apart or place.alone):
        for task in tasks:
            yield task, run(task, 1)
        return
    waiting, workers = deque(tasks), 1 if place.alone else place.workers
    try:
        while waiting:
            kills = oom_kills()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", _REPLACED, UserWarning)
                yield from _until_broken(waiting, run, place.workers, workers)
            if oom_kills() > kills:
                workers = max(workers - 1, 1)
    except BaseException:  # interrupted: what runs is of no use any more
        _end_pools()
        raise


def pool(workers: int) -> Any:
    """The pool of earlier calls if it has this size and is intact, else a new one.

    It is not the pool that joblib shares. Workers that were idle or grew large are replaced.
    """
    if workers not in _pools:
        _end_pools()
        _pools[workers] = ProcessPoolExecutor(
            workers, timeout=_IDLE_SECONDS, initializer=follow_parent
        )
    return _pools[workers]


def _end_pools() -> None:
    while _pools:
        _pools.popitem()[1].shutdown(kill_workers=True)


def _until_broken(
    waiting: deque[T], run: Run[T], side_by_side: int, workers: int
) -> Iterator[tuple[T, Outcome | Lost]]:
    """Take tasks from `waiting` until there are none, or until a worker has died."""
    executor = pool(workers)
    running = dict[Future[Outcome], T]()
    whole = True
    while running or (waiting and whole):
        while whole and waiting and len(running) < workers:
            try:
                running[executor.submit(run, waiting[0], side_by_side)] = waiting[0]
            except BrokenProcessPool:  # an idle worker has died
                whole = False
            else:
                waiting.popleft()
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            task = running.pop(future)
            try:
                yield task, future.result()
            except BrokenProcessPool:
                whole = False
                yield task, Lost("its worker process was killed")
    if not whole:
        _end_pools()


@contextmanager
def deaf_children() -> Iterator[None]:
    """Let processes that start inside the `with` block ignore Ctrl-C, which this one handles."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def follow_parent() -> None:
    """In a worker process: leave Ctrl-C to the parent, and end soon after it is killed.

    Memory of freed arrays stays with the worker.
    """
    parent = parent_process()
    if parent is not None and parent.pid is not None:
        keep_freed_memory()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_with(parent.pid)


@cache
def end_with(parent: int) -> None:
    """End this process soon after its parent has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
