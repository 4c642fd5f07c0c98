"""Memory: peaks that are measured."""

import os

import numpy as np
import pytest

from cumprop.memory import free_memory, traced_peak, with_resident_peak

pytestmark = pytest.mark.slow


def test_peaks_see_what_was_freed():
    assert 80e6 <= traced_peak(lambda: np.ones(10**7).sum()) < 81e6
    assert 0 < free_memory() < 10**16


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="other systems do not tell"
)
def test_resident_peaks_see_what_was_freed():
    result, peak = with_resident_peak(lambda: np.ones(10**8).sum())
    assert result == 10**8
    assert 600e6 < peak < 900e6
