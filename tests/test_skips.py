"""CUMPROP_NO_SKIPS=1, as continuous integration sets it: what cannot run fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TESTS = """
import pytest
def test_a(): pytest.importorskip("no_such_module")
@pytest.mark.skip(reason="no CUDA device")
def test_b(): pass
@pytest.mark.xfail
def test_c(): assert False
"""

DOCTESTS = "--doctest-modules --doctest-ignore-import-errors --import-mode=importlib"


def outcome(directory, **environment):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(directory)]
    done = subprocess.run(
        command, cwd=directory, env=os.environ | environment, capture_output=True, text=True
    )
    return done.stdout


def test_skips_can_be_turned_off(tmp_path):
    """A missing PyTorch is then a failure, in a test as in a module; a missing GPU is not."""
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (tmp_path / "test_some.py").write_text(TESTS)
    assert "2 skipped, 1 xfailed" in outcome(tmp_path, CUMPROP_NO_SKIPS="")
    assert "1 failed, 1 skipped, 1 xfailed" in outcome(tmp_path, CUMPROP_NO_SKIPS="1")
    (tmp_path / "test_some.py").write_text("import pytest\npytest.importorskip('no_such_module')")
    assert "1 error" in outcome(tmp_path, CUMPROP_NO_SKIPS="1")


def test_a_test_module_that_cannot_be_imported_fails(tmp_path):
    """Doctests would read it first, and skip it; pytest then would find an empty module."""
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (tmp_path / "test_some.py").write_text("from math import no_such_name\ndef test_a(): pass")
    assert "1 error" in outcome(tmp_path, PYTEST_ADDOPTS=DOCTESTS)


def test_modules_whose_helper_needs_an_extra_are_skipped(tmp_path):
    """Doctests would read the helper first, and leave it half made for both of them."""
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (tmp_path / "aid.py").write_text("import pytest\npytest.importorskip('no_such_module')\nx = 1")
    for name in ("test_one.py", "test_two.py"):
        (tmp_path / name).write_text("from aid import x\ndef test_a(): pass")
    found = outcome(
        tmp_path, PYTEST_ADDOPTS=DOCTESTS, PYTHONPATH=str(tmp_path), CUMPROP_NO_SKIPS=""
    )
    assert "2 skipped" in found and "error" not in found
