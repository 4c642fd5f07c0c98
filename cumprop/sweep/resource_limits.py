"""Limits of a task: memory that is free on the machine, and a limit of time."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from secrets import token_hex
from typing import TextIO

from cumprop.errors import CumpropError
from cumprop.memory import free_memory, recently_free_memory, resident_memory

_NEGLIGIBLE = 1e-3  # of the free memory
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 2.0


@contextmanager
def memory(n_bytes: int) -> Iterator[None]:
    """Claim `n_bytes` of this machine's memory, and wait for them while other tasks hold memory.

    The claims of all engines and sweeps of a user are counted together: the memory that running
    tasks have still to allocate fits into the free memory. Raises CumpropError with the numbers
    where it does not fit although no other task runs. Cost: some file operations, and none for less
    than a thousandth of the free memory.
    """
    if n_bytes < _NEGLIGIBLE * recently_free_memory():
        yield
        return
    folder = Path(tempfile.gettempdir()) / f"cumprop-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    while (claim := _claim(folder, n_bytes)) is None:
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        Path(claim.name).unlink(missing_ok=True)
        claim.close()


def _claim(folder: Path, n_bytes: int) -> TextIO | None:
    """A file that claims bytes, locked as long as its owner lives; None if others hold them."""
    with (folder / "gate").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        others = [n for path in folder.glob("*.claim") if (n := _to_come(path)) is not None]
        free = free_memory()
        if n_bytes + sum(others) > free:
            if others:
                return None
            raise CumpropError(
                f"needs {n_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
                "use fewer --workers, a smaller width or a lower order"
            )
        claim = (folder / f"{token_hex(8)}.claim").open("w")
        fcntl.flock(claim, fcntl.LOCK_EX)
        claim.write(f"{os.getpid()} {n_bytes} {resident_memory(os.getpid())}")
        claim.flush()
        return claim


def _to_come(path: Path) -> int | None:
    """The bytes that the owner of a claim has still to allocate; None where it has ended."""
    try:
        claim = path.open()
    except FileNotFoundError:
        return None
    with claim:
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # the open file can be read even if its owner ends and unlinks it
            pid, n_bytes, before = map(int, claim.read().split())
            return max(n_bytes - max(resident_memory(pid) - before, 0), 0)
    path.unlink(missing_ok=True)  # its owner was killed
    return None


class TookTooLongError(BaseException):
    """The end of a task's time, which no `except Exception` in the task catches."""


@contextmanager
def time_limit(seconds: float | None, stuck: Callable[[], object]) -> Iterator[None]:
    """Raise CumpropError in the `with` block when it runs longer than `seconds`; None is no limit.

    The main thread is interrupted between two Python instructions. If compiled code still runs at
    1.5 × `seconds`, another thread calls `stuck()`. Other threads, such as those of dask workers,
    cannot be interrupted: `stuck()` is called as soon as the time is over.
    """
    if seconds is None:
        yield
        return
    in_main = threading.current_thread() is threading.main_thread()
    watch = threading.Timer(1.5 * seconds + _GRACE_SECONDS if in_main else seconds, stuck)
    watch.daemon = True
    watch.start()
    try:
        with _alarm(seconds) if in_main else nullcontext():
            yield
    except TookTooLongError:
        raise CumpropError(took_too_long(seconds)) from None
    finally:
        watch.cancel()


def took_too_long(seconds: float) -> str:
    """The reason of a cell that exceeded its time limit."""
    return f"took longer than {seconds:g} seconds; raise --time-limit or lower the order"


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise TookTooLongError in the main thread after `seconds`, even out of a sleep."""
    before = signal.signal(signal.SIGALRM, _raise)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _raise(number: int, frame: object) -> None:
    raise TookTooLongError
