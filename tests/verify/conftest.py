"""The acceptance tier: what its tests record becomes docs/VERIFIED.md."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed

from cumprop.provenance import cores, provenance
from cumprop.scores import mse_between, total_interval
from cumprop.truth import TruthSpec
from cumprop.truth_store import load_or_extend

FOLDER = Path(__file__).parent
TABLE = FOLDER.parents[1] / "docs" / "VERIFIED.md"
HEAD = """\
# Verified

Written by `make verify` on {date} in {minutes:.0f} minutes; a row that does not hold fails the run.
Intervals are 95% unless the row says otherwise. Networks are `random_mlp` of seeds 0 to 4.

Conditions: {cpu}, {cores} cores, Python {python_version}, NumPy {numpy_version},
SciPy {scipy_version}, {blas}, {threads} BLAS thread(s) a process, cumprop {cumprop_version} at
{git_revision}.

| claim | measured | required | verdict | test |
|---|---|---|---|---|
"""
TRUTHS = FOLDER.parents[1] / "results" / "verify" / "truth"
ROWS = pytest.StashKey()
START = pytest.StashKey()
DESELECTED = pytest.StashKey()


def pytest_configure(config):
    config.stash[ROWS] = []
    config.stash[START] = time.monotonic()
    config.stash[DESELECTED] = False


@pytest.fixture
def record(request):
    """record(claim, measured, required, holds): a row of the table, and the assertion."""

    def record(claim, measured, required, holds):
        verdict = "holds" if holds else "**fails**"
        _add_row(request.node, claim, measured, required, verdict)
        print(f"\n  {claim}: {measured} (required: {required}): {verdict}", flush=True)
        assert holds, f"{claim}: {measured}, required {required}"

    return record


@pytest.fixture(scope="session")
def sampled(truths_of):
    """sampled(n_samples, width, depth, seeds, …): truths, kept in results/verify."""

    def sampled(n_samples, width, depth, seeds, activation="relu", init="he"):
        return truths_of([TruthSpec(width, depth, activation, init, s) for s in seeds], n_samples)

    return sampled


@pytest.fixture(scope="session")
def truths_of():
    """truths_of(specs, n_samples): truths of any random networks, kept in results/verify."""

    def truths_of(specs, n_samples):
        pool, truths = Parallel(n_jobs=cores(), return_as="generator"), []
        jobs = zip(specs, np.broadcast_to(n_samples, len(specs)), strict=True)
        for truth in pool(delayed(load_or_extend)(TRUTHS, spec, float(n)) for spec, n in jobs):
            print(f"\n  truth of seed {truth.spec.seed}: {truth.n_samples:,}", flush=True)
            truths.append(truth)
        return truths

    return truths_of


@pytest.fixture(scope="session")
def vn_mse():
    """vn_mse(truths, means): over the networks, its total interval, and that of each network."""

    def vn_mse(truths, means):
        errors, variances = [], []
        for mean, truth in zip(means, truths, strict=True):
            errors.append(mse_between(mean, truth.groups("output", truth.spec.depth))[0])
            variances.append(truth.variance("output", truth.spec.depth))
        interval = total_interval(errors, variances)
        return np.mean(errors) / np.mean(variances), interval, np.divide(errors, variances)

    return vn_mse


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that breaks before it has measured anything is a row that fails."""
    report = yield
    if report.failed and _name(item) not in _tests(item.config):
        _add_row(item, "(broke off)", call.excinfo.typename, "a measurement", "**fails**")
    return report


def pytest_deselected(items):
    for item in items:
        if FOLDER in item.path.parents:
            item.config.stash[DESELECTED] = True


def pytest_sessionfinish(session):
    """Write the table, failures included, if the whole tier has run."""
    config = session.config
    tests = {_name(item) for item in session.items if FOLDER in item.path.parents}
    whole = any(map(_holds_the_tier, _asked(config))) and not config.stash[DESELECTED]
    if not (whole and tests and tests == _tests(config)):
        return
    facts = provenance(int(os.environ.get("OPENBLAS_NUM_THREADS", cores())), 1)
    facts |= {"date": datetime.now(UTC).date().isoformat(), "cores": cores()}
    facts |= {"minutes": (time.monotonic() - config.stash[START]) / 60}
    lines = ["| " + " | ".join(row) + " |\n" for row in config.stash[ROWS]]
    TABLE.write_text(HEAD.format(**facts) + "".join(lines), encoding="utf-8")


def _add_row(item, *cells):
    escaped = [cell.replace("|", "\\|") for cell in (*cells, _name(item))]
    item.config.stash[ROWS].append(escaped)


def _name(item):
    return f"`{item.path.name}::{item.name}`"


def _tests(config):
    return {row[-1] for row in config.stash[ROWS]}


def _asked(config):
    return [config.invocation_params.dir / argument for argument in config.args]


def _holds_the_tier(path):
    return path.is_dir() and FOLDER.is_relative_to(path.resolve())
