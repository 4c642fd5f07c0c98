"""Configurations and command lines of all kinds: no traceback, and a code that means something.

600 commands on configurations and 200 lines of all commands here, 10,000 in
tests/verify/test_fuzz.py; malformed networks are in test_importers_fuzz.py.
"""

import pytest
from helpers import fuzzing
from hypothesis import settings

pytestmark = pytest.mark.slow


def test_configurations(tmp_path):
    tally = fuzzing.configurations_checked(tmp_path, settings(max_examples=300, deadline=None))
    assert tally.n == 600
    assert set(tally.codes) == {0, 2}
    assert min(tally.codes.values()) > 50


def test_command_lines(tmp_path):
    tally = fuzzing.command_lines_checked(tmp_path, settings(max_examples=200, deadline=None))
    assert tally.n == 200
    assert set(tally.codes) >= {0, 1, 2}
