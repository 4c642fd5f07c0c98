"""The wheel: what the tree has is in it. .ci/packaging installs and uses it."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools.build_meta import build_wheel; build_wheel('dist')"


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_tree_and_no_other(tmp_path):
    """Data files, too, and a package that nobody has listed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    tree = [name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]
    for name in tree:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("cumprop/new", "estimators/new", "estimators/new/inner"):
        tree.append(f"{folder}/__init__.py")
        (tmp_path / folder).mkdir()
        (tmp_path / tree[-1]).touch()
    done = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        found = {name for name in file.namelist() if ".dist-info/" not in name}
    prefixes = {"cumprop/": "cumprop/", "estimators/": "cumprop/estimators/"}
    assert found == {
        inside + name.removeprefix(folder)
        for folder, inside in prefixes.items()
        for name in tree
        if name.startswith(folder)
    }
