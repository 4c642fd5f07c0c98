"""The rooms of `cumprop/`: a room imports only rooms above it in this list, lazily or not."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = (
    "errors", "memory", "threads", "parameters", "text", "files", "streams", "flops",
    "activations", "inputs", "networks", "contract", "sampling", "functionals", "estimators",
    "experiments", "results", "sweep", "training", "plots", "reproduction", "cli",
)  # fmt: skip


def against(name, source, modules):
    """Imports of one module (`cumprop.plots.style`) that go down the list, or to the top."""
    room = name.split(".")[1]
    package = name if name in packages(modules) else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        for target in imported(node, package, modules):
            other = target.split(".")[1]
            if ORDER.index(other) > ORDER.index(room):
                yield f"{name}:{node.lineno} imports {target}"


def imported(node, package, modules):
    """The modules of cumprop that a node imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name in modules]
    if not isinstance(node, ast.ImportFrom):
        return []
    start = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    module = ".".join([*start, *([node.module] if node.module else [])])
    found = [f"{module}.{alias.name}" for alias in node.names]
    return [n if n in modules else module for n in found if n in modules or module in modules]


def sources():
    """Text by module name; `estimators/` is the package cumprop.estimators."""
    found = {}
    for folder in ("cumprop", "estimators"):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts if folder == "cumprop" else ("cumprop", *parts))
            found[name.removesuffix(".__init__")] = path.read_text()
    return found


def packages(modules):
    return {name.rpartition(".")[0] for name in modules}


MODULES = {name: text for name, text in sources().items() if name != "cumprop"}


def test_every_folder_is_a_room_with_a_purpose():
    assert {name.split(".")[1] for name in MODULES} == {*ORDER}
    for name in packages(MODULES) - {"cumprop"}:
        assert ast.get_docstring(ast.parse(MODULES[name])), name


def test_rooms_import_only_rooms_above_them():
    wrong = [line for name, text in MODULES.items() for line in against(name, text, MODULES)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line",
    [
        "import cumprop.plots.style",
        "from cumprop.plots import style",
        "from cumprop.plots.style import save",
        "def f():\n    from cumprop.plots import style",
        "if TYPE_CHECKING:\n    from cumprop.plots.style import Figure",
        "from ..plots import style",
    ],
)
def test_an_import_against_the_order_is_found(line):
    found = [*against("cumprop.flops.meter", line, MODULES)]
    assert len(found) == 1 and "imports cumprop.plots" in found[0]
    assert not [*against("cumprop.cli.estimate", line, MODULES)]
