"""Memory: peaks that are measured."""

import numpy as np

from cumprop.memory import free_memory, traced_peak, with_resident_peak


def test_peaks_see_what_was_freed():
    assert 80e6 <= traced_peak(lambda: np.ones(10**7).sum()) < 81e6
    result, peak = with_resident_peak(lambda: np.ones(10**8).sum())
    assert result == 10**8
    assert peak is None or 600e6 < peak < 900e6
    assert 0 < free_memory() < 10**16
