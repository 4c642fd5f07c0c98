"""Write docs/api.md from the docstrings of the public API, and docs/cli.md from `--help`.

python docs/generate.py
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import click

import cumprop
from cumprop import contract, estimators, inputs
from cumprop.cli import cli

FOLDER = Path(__file__).parent
LAWS = (inputs.Gaussian, inputs.Uniform, inputs.Independent, inputs.Mixture, inputs.Empirical)
WRITTEN = "<!-- Written by docs/generate.py (make docs); change the source, not this page. -->\n"


def pages() -> dict[str, str]:
    """Names of the generated pages, and what they should hold."""
    return {"api.md": "\n".join(api()) + "\n", "cli.md": "\n".join(commands()) + "\n"}


def api() -> Iterator[str]:
    """The public names of the package, then its backends."""
    yield f"# Python interface\n\n{WRITTEN}"
    yield "Everything here is imported from `cumprop`; arrays are NumPy's unless you give tensors."
    for name in sorted(cumprop.__all__, key=str.lower):
        yield from _described(name, getattr(cumprop, name))
    yield "\n# Laws of the input\n"
    yield "Imported from `cumprop.inputs`, and given to `MLP` and `load` as `input`."
    for cls in LAWS:
        yield from _described(cls.__name__, cls)
    yield "\n# Backends\n"
    yield "By name in `cumprop.estimate`, `--estimator` and YAML; parameters are fields."
    for module in pkgutil.iter_modules(estimators.__path__):
        cls = contract.get(module.name)
        yield f"\n## `{module.name}`\n"
        given = ", ".join(f"`{f.name}`" + _default(f) for f in fields(cls))
        yield (f"Parameters: {given}.\n" if given else "No parameters.\n")
        yield _page(inspect.getdoc(cls) or "")


def commands() -> Iterator[str]:
    """`cumprop --help`, and that of every command."""
    yield f"# Command line\n\n{WRITTEN}"
    yield "Exit codes: 0 done, 1 runtime error, 2 usage or configuration, 3 finished with failed"
    yield "cells, 130 interrupted. `--debug` in front of a command shows tracebacks."
    yield from _helps(cli, click.Context(cli, info_name="cumprop", **SHOWN, **cli.context_settings))


SHOWN: dict[str, Any] = {"terminal_width": 100}


def _helps(command: click.Command, context: click.Context) -> Iterator[str]:
    """The help of a command, then of those in it."""
    yield f"\n## `{context.command_path}`\n\n```\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from _helps(inner, click.Context(inner, context, info_name=name, **SHOWN))


def _described(name: str, item: Any) -> Iterator[str]:
    yield f"\n## `{name}`\n"
    if not (inspect.isclass(item) and issubclass(item, Exception)):
        yield f"```python\n{name}{_signature(item)}\n```\n"
    yield _page(inspect.getdoc(item) or "")
    if inspect.isclass(item):
        for method, value in vars(item).items():
            if not method.startswith("_") and (text := _method(method, value)):
                yield f"\n{text}"


def _method(name: str, value: Any) -> str:
    """A list entry of a public method or property; empty for a field."""
    function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    function = value.func if isinstance(value, cached_property) else function
    if not inspect.isfunction(function) or not function.__doc__:
        return ""
    is_value = isinstance(value, property | cached_property)
    called = "" if is_value else _signature(function, "self", "cls")
    return f"**`.{name}{called}`** {_page(inspect.getdoc(function) or '')}"


def _signature(item: Any, *left_out: str) -> str:
    signature = inspect.signature(item)
    kept = [p for p in signature.parameters.values() if p.name not in left_out]
    words = re.sub(r"(: |-> )'(.*?)'", r"\1\2", str(signature.replace(parameters=kept)))
    return re.sub(r"<factory>|<class .*?>", "...", words)


def _default(field: Any) -> str:
    return "" if field.default is MISSING else f" = {field.default!r}"


def _page(docstring: str) -> str:
    """A docstring as Markdown: its examples fenced."""
    parts = re.split(r"\n\n(?=>>>)", docstring, maxsplit=1)
    example = f"\n\n```pycon\n{parts[1]}\n```" if len(parts) > 1 else ""
    return parts[0].replace("*", r"\*") + example


if __name__ == "__main__":
    for page, text in pages().items():
        (FOLDER / page).write_text(text, encoding="utf-8")
