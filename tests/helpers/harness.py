"""Sweeps of a toy estimator that the fault tests disturb, and what must be there afterwards."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from cumprop.experiments.columns import SCHEMA
from cumprop.results import store, verification

ROOT = Path(__file__).parents[2]
TOY = """
import os, time
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from cumprop.contract import Cost, Estimate, Estimator, register
from cumprop.errors import CumpropError
from cumprop.flops import Flops

@register("toy")
@dataclass(frozen=True)
class Toy(Estimator):
    version: ClassVar[int] = 1
    value: float = 1.0
    seconds: float = 0.0
    n_samples: int = 3
    bytes: int = 0

    def supports(self, network):
        return "no toys for width 7; take 8" if network.shape.width == 7 else None

    def estimate(self, network, *, cov=False, rng=None):
        time.sleep(self.seconds + float(os.environ.get("TOY_SECONDS", 0)))
        if self.value < 0 and "TOY_HEALED" not in os.environ:
            raise ValueError("value is\\nnegative")
        mean = np.full(network.widths[-1], self.value) + rng.random()
        means = tuple(np.full(n, 7.0) for n in network.widths[1:-1])
        return Estimate(mean, means, flops=Flops({"toy": 10}), n_samples=self.n_samples)

    def predict_cost(self, shape):
        return Cost(10**10, self.bytes)  # so large that it is run once

    @classmethod
    def from_tolerance(cls, tolerance, shape, **parameters):
        return cls(n_samples=round(1 / tolerance**2), **parameters)
"""
MEASURED = ["seconds", "peak_bytes", *SCHEMA.names[SCHEMA.get_field_index("cumprop_version") :]]
"""Columns that differ from run to run."""


class Sweep:
    """A sweep of `n` cells below `folder`, started in processes of its own."""

    def __init__(self, folder, n=8):
        self.n, self.folder, self.results = n, folder, folder / "results"
        self.config, self.plugin = folder / "test.yaml", folder / "toy.py"
        self.parts = self.results / "test" / "parts"
        folder.mkdir(exist_ok=True)
        self.plugin.write_text(TOY)
        estimators = [{"name": "toy", "value": [*range(n // 2)]}]
        write_config(self.config, estimators, seeds=2, dtype="float64")

    def start(self, *words, workers=1, seconds=0.0):
        """The sweep in a process group of its own; each cell takes so many seconds."""
        command = [sys.executable, ROOT / "cli.py", "sweep", self.config, "--plugin", self.plugin]
        command += ["--results", self.results, "--workers", workers, *words]
        return started(command, TOY_SECONDS=str(seconds))

    def compact(self):
        """`cumprop results compact` in a process of its own."""
        return started([sys.executable, ROOT / "cli.py", "results", "compact", self.results])

    def n_stored(self):
        """How many parts there are."""
        return len([*self.parts.glob("*.parquet")])

    def wait_for(self, n, process, timeout=600):
        """Return when there are n parts, or the process has ended."""
        end = time.monotonic() + timeout
        while self.n_stored() < n and process.poll() is None:
            assert time.monotonic() < end, f"no {n} parts in {timeout} s"
            time.sleep(0.01)

    def finish(self, *words, workers=1):
        """Run the sweep to its end; what it said."""
        process = self.start(*words, workers=workers)
        said = ended(process)
        assert process.returncode == 0, said
        return said

    def table(self):
        """All rows, without what differs from run to run."""
        rows = store.read_rows(self.results)
        return rows.drop(columns=MEASURED).sort_values("cell_key", ignore_index=True)

    def assert_is(self, undisturbed):
        """Every row once, each as in the table of an undisturbed run, and nothing wrong."""
        table = self.table()
        assert len(table) == len(set(table["cell_key"])) == self.n
        pd.testing.assert_frame_equal(table, undisturbed, check_exact=True)
        n_rows, problems = verification.verify(self.results / "test")
        assert (n_rows, problems) == (self.n, [])


def write_config(path, estimators, n_samples=1000, **network):
    """An experiment on networks of width 4 and depth 1, or what `network` says."""
    network = {"width": 4, "depth": 1} | network
    truth = {"n_samples": n_samples}
    text = json.dumps({"network": network, "truth": truth, "estimators": estimators})
    path.write_text(text.replace("NaN", ".nan").replace("Infinity", ".inf"))


def started(words, **environment):
    """A process in a group of its own, what it says on stderr kept.

    A table on stdout may be longer than a pipe that nobody reads while the process is watched.
    Ctrl-C reaches it even where the shell that started the tests ignores that, as nohup's does.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [str(word) for word in words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"} | environment,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def ended(process, timeout=600):
    """What a process has said, its code being one that a user may meet, and no traceback."""
    _, said = process.communicate(timeout=timeout)
    assert process.returncode in (0, 1, 2, 3, 130, -signal.SIGKILL), said
    assert "Traceback" not in said
    return said


def kill(process, which, rng: random.Random):
    """End a process with all its workers, or one of its workers, which is found by its command."""
    if which == "parent":
        os.kill(process.pid, signal.SIGKILL)  # its workers end by themselves
    elif workers := _workers(process.pid):
        os.kill(rng.choice(workers), signal.SIGKILL)


def _workers(pid):
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        command = Path(f"/proc/{child}/cmdline").read_bytes()
        if b"popen_loky" in command:
            found.append(int(child))
    return found


def read_part(path):
    """The row in a part, None where stderr names a fault."""
    table = store.sound_part(path, store.schema_of(path.parents[1]))
    return None if table is None else table.to_pylist()[0]


def contents(folder):
    """All that a folder holds: the bytes of each file, None for a folder."""
    paths = sorted(folder.rglob("*"))
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


def read_compacted(path):
    """The rows in a compacted file, which is not remembered."""
    store._compacted.cache_clear()
    return store.read_folder(path.parent)


def damage(path, read, rng, n, every=False):
    """Flip a bit of each of n bytes of a file (of all if `every`), then cut it at as many places.

    Counts how often `read(path)` gave the same as ever, something else, or less; the file is put
    back each time.
    """
    content, right = path.read_bytes(), read(path)
    places = range(len(content)) if every else rng.integers(len(content), size=n)
    counts = dict.fromkeys(["read", "refused", "wrong"], 0)
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        for damaged in (flipped, content[:place]):
            path.write_bytes(damaged)
            found = read(path)
            counts["read" if found == right else "wrong" if found else "refused"] += 1
    path.write_bytes(content)
    return counts
