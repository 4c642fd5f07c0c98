"""Memory: peaks that are measured, and what the C library keeps."""

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest

from cumprop import memory
from cumprop.memory import free_memory, recently_free_memory, traced_peak, with_resident_peak

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


def test_free_memory_is_asked_for_ten_times_a_second(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(memory, "monotonic", lambda: now[0])
    monkeypatch.setattr(memory, "free_memory", lambda: int(100 * now[0]))
    memory._free_memory_at.cache_clear()
    found = []
    for now[0] in (1.0, 1.05, 1.5, 1.58, 1.71):
        found.append(recently_free_memory())
    memory._free_memory_at.cache_clear()
    assert found == [100, 100, 150, 150, 171]


FAULTS = """
import resource, sys
import numpy as np
from cumprop.memory import keep_freed_memory, with_resident_peak

def work():
    arrays = [np.ones(2**17) for _ in range(100)]  # 100 MB, freed at once

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if "keep" in sys.argv:
    keep_freed_memory()
work()
before = faults()
work()
print(faults() - before, with_resident_peak(work)[1] or 10**8)
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no such setting"
)
def test_freed_memory_is_kept_and_peaks_see_it():
    """100 MB are 25,600 pages; those that are kept cost no fault, and belong to a peak."""
    command = [sys.executable, "-c", FAULTS]
    returned, kept = (
        [int(word) for word in subprocess.check_output([*command, *words]).split()]
        for words in ([], ["keep"])
    )
    assert returned[0] > 10_000 and kept[0] < 100
    assert 90e6 < kept[1] < 130e6
