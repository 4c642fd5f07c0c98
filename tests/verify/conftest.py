"""The acceptance tier: what its tests record becomes docs/VERIFIED.md."""

import os
import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from helpers.truths import load_or_extend
from joblib import Parallel, delayed

from cumprop.results.provenance import cores, provenance
from cumprop.results.scores import mse_between, total_interval
from cumprop.sampling import MeanSpec

FOLDER = Path(__file__).parent
TABLE = FOLDER.parents[1] / "docs" / "VERIFIED.md"
HEAD = """\
# Verified

Written by `make verify`, file by file; a row that does not hold fails the run. The rows of a file
are those of its last complete run, whose date and conditions stand above them.
Intervals are 95% unless the row says otherwise. Networks are `random_mlp` of seeds 0 to 4.
"""
SECTION = """
{date}, {minutes:.0f} minutes. {cpu}, {cores} cores, Python {python_version}, NumPy {numpy_version},
SciPy {scipy_version}, {blas}, {threads} BLAS thread(s) a process, cumprop {cumprop_version} at
{git_revision}.

| claim | measured | required | verdict | test |
|---|---|---|---|---|
"""
TRUTHS = FOLDER.parents[1] / "results" / "verify" / "truth"
ROWS = pytest.StashKey()
SECONDS = pytest.StashKey()
INCOMPLETE = pytest.StashKey()


def pytest_configure(config):
    config.stash[ROWS] = []
    config.stash[SECONDS] = defaultdict(float)
    config.stash[INCOMPLETE] = set()


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
        return truths_of([MeanSpec(width, depth, activation, init, s) for s in seeds], n_samples)

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
    item.config.stash[SECONDS][item.path] += call.duration
    if report.skipped:
        item.config.stash[INCOMPLETE].add(item.path)
    if report.failed and item not in _recorded(item.config):
        _add_row(item, "(broke off)", call.excinfo.typename, "a measurement", "**fails**")
    return report


def pytest_deselected(items):
    for item in items:
        item.config.stash[INCOMPLETE].add(item.path)


def pytest_sessionfinish(session):
    """Write the sections of the files all of whose tests have run, failures included."""
    config = session.config
    asked = [config.invocation_params.dir / argument for argument in config.args]
    sections = dict(re.findall(r"(?ms)^## (\S+)\n(.*?)(?=^## |\Z)", _written()))
    found = set()
    for path in {item.path for item in session.items if FOLDER in item.path.parents}:
        tests = {item for item in session.items if item.path == path}
        whole = any(path == place.resolve() or place.resolve() in path.parents for place in asked)
        if whole and path not in config.stash[INCOMPLETE] and tests <= _recorded(config):
            rows = [row for item, row in config.stash[ROWS] if item.path == path]
            sections[path.name] = _section(path, rows, config.stash[SECONDS][path])
            found.add(path.name)
    if found:
        known = {path.name for path in FOLDER.glob("test_*.py")}
        text = "".join(
            f"\n## {name}\n{sections[name].rstrip()}\n" for name in sorted(known & {*sections})
        )
        TABLE.write_text(HEAD + text, encoding="utf-8")


def _written():
    return TABLE.read_text(encoding="utf-8") if TABLE.is_file() else ""


def _section(path, rows, seconds):
    """What stands below the heading of a file."""
    facts = provenance(int(os.environ.get("OPENBLAS_NUM_THREADS", cores())), 1)
    facts |= {"date": datetime.now(UTC).date().isoformat(), "cores": cores()}
    facts |= {"minutes": seconds / 60}
    return SECTION.format(**facts) + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _add_row(item, *cells):
    escaped = [cell.replace("|", "\\|") for cell in (*cells, f"`{item.name}`")]
    item.config.stash[ROWS].append((item, escaped))


def _recorded(config):
    return {item for item, _ in config.stash[ROWS]}
