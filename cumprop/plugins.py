"""Plugins: Python files that register further estimators."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

from cumprop.errors import ConfigError


def load_plugin(path: str | Path) -> None:
    """Run a Python file that registers estimators, once in a process.

    The file runs with the rights of the caller: load none that you would not run. Raises
    ConfigError where it cannot be run.
    """
    path = Path(path).resolve()
    name = f"cumprop_plugin_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
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
