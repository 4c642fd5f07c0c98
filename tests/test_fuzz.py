"""Configurations and command lines of all kinds: no traceback, and a code that means something.

300 of each here, 10,000 in tests/verify/test_fuzz.py; malformed networks are in
test_importers_fuzz.py. Whatever hypothesis finds once belongs into a test of its own.
"""

import fuzzing
import pytest
from hypothesis import settings

CASES = settings(max_examples=300, deadline=None)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return fuzzing.Places(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(autouse=True)
def elsewhere(places, monkeypatch):
    """Results and figures that are given no folder go here."""
    monkeypatch.chdir(places.folder / "empty")
    monkeypatch.delenv("SCALE", raising=False)


def test_configurations(places):
    tally = fuzzing.configurations_checked(places, CASES)
    assert tally.n == 600
    assert min(tally.codes.values()) > 50
    assert set(tally.codes) == {0, 2}


def test_command_lines(places):
    tally = fuzzing.command_lines_checked(places, CASES)
    assert tally.n == 300
    assert set(tally.codes) >= {0, 1, 2}
