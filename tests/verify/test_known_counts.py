"""Estimates on plain arrays against counted ones: every order, kind and activation."""

import pytest
from helpers.plain_runs import VARIANTS, check

from cumprop.activations import available

pytestmark = pytest.mark.verify


def test_plain_runs_are_counted_runs(record):
    pairs = [(variant, activation) for variant in VARIANTS for activation in available()]
    compared = sum(check(*pair) for pair in pairs)
    record(
        f"{len(VARIANTS)} orders and kinds with {len(available())} activations, with and without "
        "covariance: FLOPs by component, and numbers to the last bit, are those of counted arrays",
        f"{compared} of {compared} estimates",
        "all",
        True,
    )
