"""The acceptance tier: what its tests record becomes docs/VERIFIED.md."""

import datetime
import os
from pathlib import Path

import pytest

from cumprop.provenance import provenance

TABLE = Path(__file__).parents[2] / "docs" / "VERIFIED.md"
HEAD = """\
# Verified

Written by `make verify` on {date}; a row that does not hold fails the run. Intervals are 95%.

Conditions: {cpu}, {cores} cores, Python {python_version}, NumPy {numpy_version},
SciPy {scipy_version}, {blas}, {threads} BLAS thread(s) a process, cumprop {cumprop_version} at
{git_revision}.

| claim | measured | required | verdict | test |
|---|---|---|---|---|
"""


def pytest_configure(config):
    config.stash[ROWS] = []


ROWS = pytest.StashKey()


@pytest.fixture
def record(request):
    """record(claim, measured, required, holds): a row of the table, and the assertion."""

    def record(claim, measured, required, holds):
        verdict = "holds" if holds else "**fails**"
        row = (claim, measured, required, verdict, f"`{request.node.name}`")
        request.config.stash[ROWS].append(row)
        print(f"\n  {claim}: {measured} (required: {required}): {verdict}")
        assert holds, f"{claim}: {measured}, required {required}"

    return record


def pytest_sessionfinish(session, exitstatus):
    """Write the table if the whole tier has run, failures included."""
    wanted = [item for item in session.items if item.get_closest_marker("verify")]
    rows = session.config.stash[ROWS]
    tests_with_rows = {row[-1] for row in rows}
    if len(wanted) < session.testscollected or not wanted:
        return
    if {f"`{item.name}`" for item in wanted} <= tests_with_rows:
        facts = provenance(int(os.environ.get("OPENBLAS_NUM_THREADS", 1)), 1)
        facts |= {"date": datetime.date.today().isoformat(), "cores": os.cpu_count()}
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        TABLE.write_text(HEAD.format(**facts) + "\n".join(lines) + "\n")
