"""10,000 configurations and command lines of all kinds; what is drawn is in tests/fuzzing.py."""

import pytest
from helpers import fuzzing
from hypothesis import settings

pytestmark = pytest.mark.verify

CLEAR = "codes 0, 1, 2, 3, 130; no traceback; every problem one line"


def test_configurations(tmp_path, record):
    cases = settings(max_examples=3500, deadline=None)
    tally = fuzzing.configurations_checked(tmp_path, cases)
    claim = f"{tally.n:,} commands on 3,500 configurations, valid, broken and mangled"
    record(claim, str(tally), CLEAR, tally.n >= 7000)


def test_command_lines(tmp_path, record):
    cases = settings(max_examples=3000, deadline=None)
    tally = fuzzing.command_lines_checked(tmp_path, cases)
    claim = f"{tally.n:,} command lines of all commands, right and wrong"
    record(claim, str(tally), CLEAR, tally.n >= 3000)
