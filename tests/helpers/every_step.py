"""Kill a sweep or a compaction at its first step on disk, at its second, and so on to the end.

    cd tests; python -m helpers.every_step sweep|compact FOLDER CELLS

Each time the process is a fork that ends without a word, as by kill -9. Prints how many there were.
"""

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path

from cumprop.contract import load_plugin
from cumprop.experiments.config import load
from cumprop.results import compaction
from cumprop.sweep.sweep import plan, run
from helpers import harness

STEPS = ("fsync", "replace", "rename", "unlink", "link", "mkdir")


def main(what, folder, n):
    sweep = harness.Sweep(Path(folder), int(n))
    load_plugin(sweep.plugin)
    planned = plan(load(sweep.config), "test")
    actions = {
        "sweep": lambda: run(planned, sweep.results),
        "compact": lambda: compaction.compact(sweep.results / "test"),
    }
    actions["sweep"]()
    undisturbed = sweep.table()
    if what == "sweep":
        shutil.rmtree(sweep.results)
        sweep.results.mkdir()
    pristine = Path(folder) / "pristine"
    sweep.results.rename(pristine)
    kills = 0
    while True:
        shutil.copytree(pristine, sweep.results)
        if not killed(actions[what], kills):
            break
        kills += 1
        if what == "compact":
            sweep.assert_is(undisturbed)
        actions[what]()
        sweep.assert_is(undisturbed)
        assert run(planned, sweep.results).computed == 0
        shutil.rmtree(sweep.results)
    sweep.assert_is(undisturbed)
    print(kills)


def killed(action, kill_at):
    """Whether a fork that does `action` got as far as to be killed before its step `kill_at`."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert status in (0, 9 << 8), status
        return status != 0
    code = 1
    try:
        steps = iter(range(kill_at))
        for name in STEPS:
            setattr(os, name, counted(getattr(os, name), steps))
        action()
        code = 0
    finally:
        os._exit(code)


def counted(function, steps):
    def step(*words, **options):
        if next(steps, None) is None:
            os._exit(9)
        return function(*words, **options)

    return step


if __name__ == "__main__":
    said = io.StringIO()
    with contextlib.redirect_stderr(said):  # progress bars
        main(*sys.argv[1:])
