"""Engine `dask`: the workers of a dask scheduler, or of a cluster on this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, as_completed

from cumprop.errors import CumpropError
from cumprop.sweep.engines import Lost, Outcome, Place, Run, T
from cumprop.sweep.engines.local import deaf_children

_CONNECT_SECONDS = 30
_WORKERS_SECONDS = 120
"""The seconds to wait for workers, which may just be starting."""


def outcomes(tasks: Sequence[T], run: Run[T], place: Place) -> Iterator[tuple[T, Outcome | Lost]]:
    """Run `tasks` on the workers of `place.scheduler`; without one, `place.workers` start here.

    Workers may join and leave as with any dask scheduler. All must see the results under the same
    path.
    """
    with ExitStack() as stack:
        client = stack.enter_context(_client(place, stack))
        workers = _workers(client)
        for some in [[task] for task in tasks] if place.alone else [tasks]:
            futures = client.map(run, some, [workers] * len(some), pure=False, batch_size=100)
            stack.callback(client.cancel, futures)
            jobs_of = dict(zip(futures, some, strict=True))
            for future in as_completed(futures):
                yield jobs_of[future], _ended(future)


def _client(place: Place, stack: ExitStack) -> Client:
    if place.scheduler is None:
        # here a lost task is run again by us, alone
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
        with deaf_children():
            cluster = LocalCluster(
                n_workers=place.workers,
                threads_per_worker=1,
                memory_limit=0,  # a task waits for memory by itself
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
        return Client(stack.enter_context(cluster))
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        return Client(place.scheduler, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise CumpropError(
            f"no dask scheduler at {place.scheduler}; start one with `dask scheduler`, "
            "then workers with `dask worker ADDRESS --nthreads 1`"
        ) from error


def _workers(client: Client) -> int:
    """The number of workers of one thread each, at least one."""
    try:
        client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
    except TimeoutError:
        raise CumpropError(
            "the dask scheduler has no workers; start some with `dask worker ADDRESS --nthreads 1`"
        ) from None
    found = client.scheduler_info(n_workers=-1)["workers"]
    if any(worker["nthreads"] != 1 for worker in found.values()):
        raise CumpropError(
            "the dask workers have several threads, which disturb each other's measurements; "
            "start them with `dask worker ADDRESS --nthreads 1 --nworkers CORES`"
        )
    return len(found)


def _ended(future: Future) -> Outcome | Lost:
    try:
        outcome: Outcome = future.result()
    except KilledWorker:
        return Lost("its dask worker was killed")
    except CancelledError as error:
        raise CumpropError(
            "the dask scheduler is gone; what is finished is kept, start one and run again"
        ) from error
    return outcome
