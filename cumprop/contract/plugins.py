"""Plugins: Python files that register further estimators."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cumprop.contract import registry
from cumprop.errors import ConfigError

_PREFIX = "cumprop_plugin_"


def load_plugin(path: str | Path) -> None:
    """Run a Python file that registers estimators, once in a process.

    The file runs with the rights of the caller, so load only files that you trust. Raises
    ConfigError where the file is missing or fails.
    """
    path = Path(path).resolve()
    name = f"{_PREFIX}{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"--plugin {path}: no such Python file")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"--plugin {path}: {reason}") from error


@contextmanager
def temporary_plugins() -> Iterator[None]:
    """Forget plugins loaded inside the `with` block when it ends, for tests."""
    before = set(sys.modules)
    try:
        yield
    finally:
        for module in {name for name in sys.modules if name.startswith(_PREFIX)} - before:
            del sys.modules[module]
            registry.forget(module)
