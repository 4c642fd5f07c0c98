"""What a task may take of a machine: memory that is free, and no more time than allowed."""

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
from cumprop.memory import free_memory, resident_memory

_NEGLIGIBLE = 1e-3  # of the free memory
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 2.0


@contextmanager
def memory(n_bytes: int) -> Iterator[None]:
    """Hold so much of this machine's memory; waits for it while other tasks hold some.

    Tasks of all engines and sweeps of a user go by this: what those that run are still to allocate
    fits into what is free. Raises CumpropError with the numbers where no task runs and it does not.
    Cost: some file operations, none below a thousandth of what is free.
    """
    if n_bytes < _NEGLIGIBLE * free_memory():
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
    """Bytes that the owner of a claim is still to allocate; None where it has ended."""
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
    """The time of a task is over; no `except Exception` on the way stops it."""


@contextmanager
def time_limit(seconds: float | None, stuck: Callable[[], object]) -> Iterator[None]:
    """Raise CumpropError in what runs longer than `seconds`; None is no limit.

    The main thread is interrupted between two steps of Python; `stuck()` is called in another
    thread where it stays in compiled code for half as long again. Any other thread, such as that of
    a dask worker, cannot be interrupted: `stuck()` is called as soon as the time is over.
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
    """The reason of a cell that its time limit has ended."""
    return f"took longer than {seconds:g} seconds; raise --time-limit or lower the order"


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise TookTooLongError in the main thread after so many seconds, even out of a sleep."""
    before = signal.signal(signal.SIGALRM, _raise)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _raise(number: int, frame: object) -> None:
    raise TookTooLongError
