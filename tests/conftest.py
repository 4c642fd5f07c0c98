"""Hypothesis draws the same examples every time; with CUMPROP_NO_SKIPS=1 a skipped test fails.

The lack of a GPU alone is no failure. A test module that cannot be imported always is one.
"""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from cumprop.cli import main
from cumprop.contract import load_plugin
from cumprop.contract.plugins import temporary_plugins
from cumprop.experiments.config import load
from cumprop.sweep.sweep import plan

settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def random_specs():
    """24 random networks: four activations with six widths, depths 1 to 6 dealt out at random.

    Every other one has biases. Nothing was calibrated on their seeds.
    """
    from helpers.specs import dealt_out

    activations, widths = ("relu", "gelu", "tanh", "sigmoid"), (32, 48, 64, 96, 128, 256)
    return dealt_out(activations, widths, 2000)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order(request):
    """A module's random numbers start anew for every test, whichever tests ran before."""
    rng = getattr(request.module, "RNG", None)
    if rng is not None:
        rng.bit_generator.state = np.random.default_rng(0).bit_generator.state


def _refuse_skips(report):
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and os.environ.get("CUMPROP_NO_SKIPS") == "1" and "CUDA" not in report.longreprtext:
        report.outcome, report.longrepr = "failed", f"skips are off: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return _refuse_skips((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return _refuse_skips((yield))


@pytest.hookimpl(wrapper=True)
def pytest_collect_file():
    """Tests have no doctests: these would read a module first, and leave it half made in
    `sys.modules` where it cannot be imported, so that its tests are missed in silence."""
    return [found for found in (yield) if type(found) is pytest.Module]


@pytest.fixture
def run(capsys):
    """Runs the command line; returns exit code, stdout and stderr."""

    def run(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def as_json(run):
    """What `cumprop estimate` says as JSON; a doubt stands on stderr too."""

    def as_json(*words):
        code, out, err = run("estimate", *words, "--format", "json")
        found = json.loads(out)
        doubt = found["status"].startswith("unreliable: ")
        assert (code, err) == (0, f"{found['status']}\n" if doubt else "")
        return found

    return as_json


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")


@pytest.fixture(scope="session")
def trained():
    """The module examples/trained.py: functions that give trained networks."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")
    path = Path(__file__).parents[1] / "examples" / "trained.py"
    spec = importlib.util.spec_from_file_location("cumprop_examples_trained", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toy(tmp_path):
    """A plugin file with an estimator, registered for this test only."""
    from helpers.harness import TOY

    path = tmp_path / "toy.py"
    path.write_text(TOY)
    with temporary_plugins():
        load_plugin(path)
        yield path


@pytest.fixture
def experiment(tmp_path, toy):
    """Builds a plan from the estimators of an experiment and further settings."""

    from helpers.harness import write_config

    def experiment(estimators, *sets):
        path = tmp_path / "test.yaml"
        write_config(path, estimators, depth=[1, 2], seeds=2, dtype="float64")
        return plan(load(path, sets=sets), "test")

    return experiment
