"""Scale: the cost of the machinery, workers lost and sweeps interrupted on every engine."""

import json
import os
import random
import signal
import sys
import time

import numpy as np
import pytest
from helpers import harness
from helpers.truths import load_or_extend

from cumprop.reproduction import sweep_overhead
from cumprop.sampling import MeanSpec, load, samples_stored

pytestmark = pytest.mark.verify

ENGINES = [("local", "joblib"), ("dask", "distributed"), ("slurm", "submitit")]


def test_overhead(record, tmp_path):
    found = sweep_overhead.measure(sweep_overhead.N_CELLS, 2, tmp_path)
    milliseconds = 1000 * found["overhead_seconds"]
    record(
        f"overhead of {sweep_overhead.N_CELLS:,} trivial cells on 2 workers",
        f"{milliseconds:.1f} ms a cell beyond the estimator's "
        f"{1000 * found['estimator_seconds']:.1f} ms, {found['seconds']:.0f} s in all",
        "≤ 20 ms",
        milliseconds <= 20,
    )


@pytest.mark.parametrize(("engine", "module"), ENGINES)
def test_lost_workers(record, tmp_path, engine, module):
    """Two cells that kill their worker once, one that always does, six that do not."""
    pytest.importorskip(module)
    sweep = harness.Sweep(tmp_path, 6)
    killer = harness.TOY.replace('"toy"', '"killer"').replace("class Toy", "class Killer")
    killer = killer.replace(
        "        time.sleep(",
        "        import signal\n"
        "        from pathlib import Path\n"
        f"        mark = Path({str(tmp_path)!r}, f'killed-{{self.value}}')\n"
        "        if self.value > 1 or not mark.exists():\n"
        "            mark.touch()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        time.sleep(",
        1,
    )
    plugin = tmp_path / "killer.py"
    plugin.write_text(killer)
    config = json.loads(sweep.config.read_text())
    config["estimators"].append({"name": "killer", "value": [0, 1, 2]})
    config["network"]["seeds"] = 1
    sweep.config.write_text(json.dumps(config))
    process = sweep.start("--engine", engine, "--plugin", plugin, workers=2)
    said = harness.ended(process, timeout=500)
    table = harness.store.read_rows(sweep.results)
    failed = table[table["outcome"] == "failed"]
    n = len(table)
    record(
        f"engine {engine}: 2 cells that kill their worker once, 1 that always does, 3 others",
        f"{n - len(failed)} of {n} rows, exit {process.returncode}",
        "5 of 6 rows, exit 3",
        (n, len(failed), process.returncode) == (6, 1, 3) and "was killed, 4 times" in said,
    )


@pytest.mark.parametrize(("engine", "module"), ENGINES)
def test_ctrl_c(record, tmp_path, engine, module):
    """Exit code 130, no traceback of any process, and none left."""
    pytest.importorskip(module)
    sweep = harness.Sweep(tmp_path, 8)
    process = sweep.start("--engine", engine, workers=2, seconds=3)
    sweep.wait_for(1, process, timeout=120)
    os.killpg(process.pid, signal.SIGINT)
    said = harness.ended(process)  # the pipes close when the last process has ended
    last, n = said.splitlines()[-1], sweep.n_stored()
    sweep.finish("--engine", "local")
    record(
        f"engine {engine}: Ctrl-C",
        f"exit {process.returncode}, {n} of 8 rows kept",
        "130, what is finished",
        process.returncode == 130 and "what is finished is kept" in last and 1 <= n < 8,
    )


def test_truth_extended_and_killed(record, tmp_path):
    """kill -9 at random moments; then the sums are those of one run, bit by bit."""
    rng, kept = random.Random(0), []
    spec = MeanSpec(8, 2, "relu", "he", 0)
    config = {
        "network": {"width": 8, "depth": 2},
        "truth": {"n_samples": 2},
        "estimators": [{"name": "gaussian"}],
    }
    path = tmp_path / "test.yaml"
    path.write_text(json.dumps(config))
    wanted = 1000 * spec.chunk_samples

    def share():
        return samples_stored(tmp_path / "truth", spec) / wanted

    words = [sys.executable, harness.ROOT / "cli.py", "truth", "extend", path]
    words += ["--results", tmp_path, "--workers", 2, "--n-samples", wanted]
    for _ in range(5):
        process, before = harness.started(words), share()
        while share() == before:  # until a block more is there
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        kept.append(share())
    process = harness.started(words)
    said = harness.ended(process, timeout=500)
    assert process.returncode == 0, said
    found, alone = load(tmp_path / "truth", spec.key), load_or_extend(tmp_path / "a", spec, wanted)
    same = np.array_equal(found.sums, alone.sums) and np.array_equal(found.squares, alone.squares)
    record(
        "a truth of 16 blocks on 2 workers, kill -9 of 5 runs",
        f"{', '.join(f'{share:.0%}' for share in kept)} kept; sums equal bit by bit: {same}",
        "equal, more each time, all killed before the end",
        same
        and 0 < kept[0] < kept[1] < kept[2] < kept[3] < kept[4] < 1
        and found.chunks == alone.chunks,
    )
