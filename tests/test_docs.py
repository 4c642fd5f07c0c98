"""The documentation: generated pages are up to date, and the tutorial runs."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cumprop
from cumprop.cli import cli
from cumprop.contract.plugins import temporary_plugins

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("cumprop_docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date(generate):
    for name, text in generate.pages().items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, f"{name}: run make docs"


def test_every_command_and_public_name_is_there_with_an_example(generate):
    api, commands = (dict(sections(text)) for text in generate.pages().values())
    backends = {
        module.name for module in generate.pkgutil.iter_modules(generate.estimators.__path__)
    }
    assert set(api) == {*cumprop.__all__, *backends}
    for name, text in api.items():
        assert ">>> " in text, f"{name} has no example"
    assert set(commands) == {*paths(cli, "cumprop")}
    for name, text in commands.items():
        assert f"Example:\n    {name}" in text, f"{name} has no example"


def paths(command, path):
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from paths(inner, f"{path} {name}")


def sections(text):
    return re.findall(r"^## `(.*?)`\n(.*?)(?=^## |^# |\Z)", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def forgetful():
    """Plugins that are loaded are forgotten."""
    with temporary_plugins():
        yield


@pytest.mark.slow
def test_tutorial(tmp_path, monkeypatch, capsys, forgetful):
    """Its blocks in their order, Python in one namespace, the shell with this environment."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    names = {"__name__": "tutorial"}
    for language, block in re.findall(r"```(python|sh)\n(.*?)```", text, re.DOTALL):
        if language == "python":
            exec(compile(block, "tutorial.md", "exec"), names)
        else:
            done = subprocess.run(
                ["bash", "-eu", "-c", block],
                env=os.environ | {"PATH": path}, capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, f"{block}\n{done.stderr}"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (DOCS / target).exists(), f"{page.name}: {target}"
