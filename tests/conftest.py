"""Hypothesis draws the same examples every time; with CUMPROP_NO_SKIPS=1 a skipped test fails.

The lack of a GPU alone is no failure.
"""

import os

import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")


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
