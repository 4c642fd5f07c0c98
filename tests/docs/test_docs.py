"""The documentation: generated pages are up to date, examples run, links lead somewhere."""

import contextlib
import doctest
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

import cumprop
from cumprop.cli import cli
from cumprop.contract.plugins import temporary_plugins

DOCS = Path(__file__).parents[2] / "docs"


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
    laws = {law.__name__ for law in generate.LAWS}
    assert laws == {name for name in cumprop.inputs.__all__ if name[0].isupper()} - {"Law"}
    assert set(api) == {*cumprop.__all__, *laws, *backends}
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


# --- README: what it shows is what is printed ----------------------------------------------------

NOT_RUN = {
    "make demo": "installs the environment and sweeps for minutes; .ci/run does both",
    "make test": "is the whole test suite, which this test belongs to",
}
"""Commands of README that no test runs, and why."""

NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?"


@pytest.mark.slow
def test_readme_prints_what_it_shows(tmp_path, monkeypatch):
    """Python in one namespace, the shell in the same empty folder, numbers to their last digit."""
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DOCS.parent / "configs", "configs")
    names, n_compared = {}, 0
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for language, block in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL):
        if language == "sh":
            assert {line.partition("#")[0].strip() for line in block.splitlines()} <= {*NOT_RUN}
        else:
            pairs = {"pycon": in_python, "console": in_shell}[language](block, names)
            for command, shown, printed in pairs:
                assert is_shown(shown, printed), f"{command}\nshown:\n{shown}\nprinted:\n{printed}"
                n_compared += 1
    assert n_compared >= 9


def in_python(block, names):
    """Every example of a session: its source, what the page shows, what it prints."""
    for example in doctest.DocTestParser().get_examples(block):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(example.source, "README.md", "single"), names)
        yield example.source, example.want, printed.getvalue()


def in_shell(block, _):
    """Every command behind `$ `, what the page shows, what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        done = subprocess.run(
            ["bash", "-eu", "-c", command],
            env=os.environ | {"PATH": path}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        yield command, shown, done.stdout


def is_shown(shown, printed):
    """`...` stands for any text; seconds differ; the last digit of a number may be off by one."""
    shown, printed = (
        re.sub(r"[\d.]+ s\b", "SECONDS s", " ".join(["", *text.split(), ""]))
        for text in (shown, printed)
    )
    words = re.escape(re.sub(NUMBER, "\0", shown)).replace("\0", f"({NUMBER})")
    found = re.fullmatch(words.replace(re.escape(" ... "), " (?:.* )?"), printed)
    return found is not None and all(
        is_close(*pair) for pair in zip(re.findall(NUMBER, shown), found.groups(), strict=True)
    )


def is_close(shown, printed):
    """Whether two printed numbers differ by one in the last digit, or by rounding, at most.

    Rounding is that of a sum in float32, which other processors order otherwise: 1e-6.
    """
    shown, printed = (Decimal(text.strip("%").replace(",", "")) for text in (shown, printed))
    last, rounding = Decimal((0, (1,), shown.as_tuple().exponent)), abs(shown) / 10**6
    return abs(shown - printed) <= max(last, rounding)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a 1.25 ± 0.03", "a  1.26 ± 0.03\n", True),
        ("a 1.25", "a 1.27", False),
        ("a 0.09535879", "a 0.09535877", True),
        ("a 0.09535879", "a 0.09535779", False),
        ("1.05e+09 FLOPs, 0.5 s", "1.06e+09 FLOPs, 12 s", True),
        ("1.05e+09 FLOPs", "1.05e+08 FLOPs", False),
        ("a 1\n...\nstatus: ok", "a 1\nb 2\nc 3\nstatus: ok", True),
        ("a 1\n...\nstatus: ok", "a 1\nstatus: unreliable", False),
        ("-0.5", "0.5", False),
        ("", "something", False),
    ],
)
def test_outputs_are_compared(shown, printed, same):
    assert is_shown(shown, printed) == same


# --- links ---------------------------------------------------------------------------------------

SKIPPED = {".venv", "site", "build", "dist", ".pytest_cache"}
MARKDOWN = sorted(
    path.relative_to(DOCS.parent)
    for path in DOCS.parent.rglob("*.md")
    if not SKIPPED & {*path.relative_to(DOCS.parent).parts}
)


@pytest.mark.parametrize("page", MARKDOWN, ids=str)
def test_links_lead_somewhere(page):
    """Links to files, and to headings in them; pages of the web are not fetched."""
    root = DOCS.parent
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code((root / page).read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (root / page).parent / name if name else root / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(path.read_text("utf-8")), f"{page}: no heading {target}"


def anchors(text):
    """Headings as GitHub and the site link to them: repeated ones are numbered."""
    found = []
    for heading in re.findall(r"^#+ +(.*?) *$", without_code(text, "```"), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\]\(.*?\)", "]", heading)).lower()
        found.append(words.replace(" ", "-"))
    return {f"{a}-{found[:i].count(a)}" if a in found[:i] else a for i, a in enumerate(found)}


def without_code(text, ticks="`"):
    """Text without fenced blocks, and without spans in backticks unless headings are wanted."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text) if ticks == "`" else text


def test_headings_become_anchors():
    text = "# A `b` (c)\n\n## Twice\n\n## Twice\n\n```sh\n# no heading\n```\n\n## 7. Truth: x\n"
    assert anchors(text) == {"a-b-c", "twice", "twice-1", "7-truth-x"}


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md", "docs/mathematics.md"])
def test_files_that_pages_name_are_there(page):
    """Paths in backticks start at the root or in a room; names of files are those of some file."""
    root = DOCS.parent
    starts = (root, root / "cumprop")
    text = (root / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`(\.?[\w./*-]+(?:/|\.(?:py|yaml|toml)))`", text))
    rooms = (root / name for name in ("cumprop", "estimators", "tests"))
    known = {path.name for room in rooms for path in room.rglob("*.py")}
    for path in named - {path for path in named if re.search(r"yours|^site/", path)}:
        assert path in known or any([*start.glob(path)] for start in starts), f"{page}: {path}"


def test_code_names_of_the_notation_are_in_the_code():
    table = (DOCS / "mathematics.md").read_text(encoding="utf-8").partition("\n## ")[0]
    names = re.findall(r"`([\w.]+)`", "".join(re.findall(r"^\|.*\|(.*?)\|$", table, re.MULTILINE)))
    sources = [p for room in ("cumprop", "estimators") for p in (DOCS.parent / room).rglob("*.py")]
    words = {w for path in sources for w in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    assert len(names) > 40 and not [n for n in names if not {*n.split(".")} <= words]
