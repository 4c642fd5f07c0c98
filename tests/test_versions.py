"""Versions: pyproject.toml decides, and every other file says the same."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import cumprop

ROOT = Path(__file__).parents[1]


def test_the_release_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert cumprop.__version__ == version, "install cumprop anew: pip install --no-deps -e ."
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest.groups() == (version, str(citation["date-released"]))
    assert citation["version"] == version


@pytest.fixture
def versions(monkeypatch):
    """The module .ci/versions.py, which asks no index here."""
    spec = importlib.util.spec_from_file_location("versions", ROOT / ".ci" / "versions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "resolved", lambda lines: pytest.fail(f"no pin: {lines}"))
    return module


def test_pins_are_those_that_pyproject_asks_for(versions):
    """Every package once in the file of its part, at a version that is allowed."""
    for path, text in versions.pages().items():
        assert (ROOT / path).read_text() == text, f"{path}: run make pins"


def test_no_other_file_names_a_version():
    for name in ("Makefile", ".ci/run", ".ci/packaging", ".ci/floors"):
        assert not re.search(r"\w==\d", (ROOT / name).read_text()), name


def test_a_missing_or_outdated_pin_is_renewed_and_the_others_stay(versions, monkeypatch, tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["a>=1.10", "b>=2", "c>=3"]\n[project.optional-dependencies]\n'
    )
    (tmp_path / "pins.txt").write_text("a==1.9\nb==2.0.1\ngone==1\n")
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    monkeypatch.setattr(versions, "FILES", {"pins.txt": ("core",)})
    asked = []

    def resolved(lines):
        asked.extend(lines)
        return {"a": "1.11", "b": "2.0.1", "c": "3.0"}

    monkeypatch.setattr(versions, "resolved", resolved)
    assert versions.pages() == {"pins.txt": "a==1.11\nb==2.0.1\nc==3.0\n"}
    assert asked == ["b==2.0.1", "a>=1.10", "c>=3"]
