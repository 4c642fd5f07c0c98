"""The backends that are known by name: files of `estimators/`, entry points, loaded plugins."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import partial
from inspect import getfile
from typing import TYPE_CHECKING, Any, TypeVar

from cumprop.errors import CumpropError
from cumprop.parameters import typed

if TYPE_CHECKING:
    from cumprop.contract.estimator import Estimator
    from cumprop.networks import Shape

_registry: dict[str, type[Estimator]] = {}
E_ = TypeVar("E_", bound="type[Estimator]")


def register(name: str) -> Callable[[E_], E_]:
    """Make the class below this decorator known as the backend `name`.

    Raises CumpropError where another class has the name already.

    >>> from dataclasses import dataclass
    >>> from cumprop.contract.estimator import Estimator
    >>> @register("nothing")
    ... @dataclass(frozen=True)
    ... class Nothing(Estimator):
    ...     version = 1
    >>> get("nothing").name
    'nothing'
    >>> forget(__name__)
    """

    name = typed(name, str, "the name of an estimator")

    def decorate(cls: E_) -> E_:
        known = _registry.setdefault(name, cls)
        if (getfile(known), known.__qualname__) != (getfile(cls), cls.__qualname__):
            raise CumpropError(f"estimator {name!r} is registered twice; rename one of them")
        cls.name = name
        return cls

    return decorate


def forget(module: str) -> None:
    """Forget the backends that a Python module of this name has registered."""
    for name in [name for name, cls in _registry.items() if cls.__module__ == module]:
        del _registry[name]


def available() -> list[str]:
    """Names of all backends: files of `estimators/`, entry points and loaded plugins.

    >>> "cumulant" in available()
    True
    """
    unavailable()
    return sorted(_registry)


def unavailable() -> dict[str, str]:
    """Reasons why files of `estimators/` or entry points give no estimator, by their names.

    >>> unavailable()
    {}
    """
    reasons = {}
    for name in sorted(_sources()):
        try:
            get(name)
        except CumpropError as error:
            reasons[name] = str(error)
    return reasons


def get(name: str) -> type[Estimator]:
    """The class of the backend called `name`.

    Raises CumpropError where no backend has the name, or its file cannot be imported.

    >>> get("monte_carlo").__name__
    'MonteCarlo'
    """
    if name not in _registry:
        source = _own().get(name) or _sources().get(name)
        if source is not None:
            _load(name, *source)
        elif name not in (known := available()):
            raise CumpropError(f"unknown estimator {name!r}; the known ones are {', '.join(known)}")
    return _registry[name]


def _load(name: str, where: str, load: Callable[[], object]) -> None:
    """Import a module that is to register an estimator."""
    try:
        load()
    except Exception as error:
        _registry.pop(name, None)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CumpropError(f"{where} cannot be imported: {reason}") from error
    if name not in _registry:
        raise CumpropError(
            f"{where} defines no estimator named {name}: decorate a class with "
            f'@register("{name}"), or move the file away'
        )


Sources = dict[str, tuple[str, Callable[[], object]]]
"""The place of each estimator, and how to import it."""


def _sources() -> Sources:
    """The files of `estimators/`, and entry points."""
    points = importlib.metadata.entry_points(group="cumprop.estimators")
    return _own() | {point.name: (f"entry point {point.value}", point.load) for point in points}


def _own() -> Sources:
    """The files of `estimators/` alone."""
    package = importlib.import_module("cumprop.estimators")
    return {
        module.name: (
            f"estimators/{module.name}{'' if module.ispkg else '.py'}",
            partial(importlib.import_module, f"cumprop.estimators.{module.name}"),
        )
        for module in pkgutil.iter_modules(package.__path__)
        if not module.name.startswith("_")
    }


def build(name: str, /, **parameters: Any) -> Estimator:
    """An instance of the backend `name` with these parameters.

    Raises CumpropError for a name or parameter that is not known, a parameter that is missing, and
    a value of another type than declared.

    >>> build("cumulant", order=3).order
    3
    """
    cls = get(name)
    _check_names(cls, parameters)
    for f in fields(cls):
        if f.default is f.default_factory is MISSING and f.name not in parameters:
            raise CumpropError(f"estimator {name} needs the parameter {f.name!r}; give it")
    return cls(**parameters)


def build_for(name: str, tolerance: float, shape: Shape, /, **parameters: Any) -> Estimator:
    """The instance of the backend `name` that is to meet a tolerance, other parameters given.

    `tolerance` is relative to the output standard deviation, as in `Estimator.from_tolerance`.
    Raises CumpropError for a tolerance that is not > 0, a parameter that the tolerance decides, and
    as `build` does.

    >>> from cumprop.networks import Shape
    >>> build_for("monte_carlo", 0.01, Shape((64,) * 4, ("relu",) * 2)).n_samples
    10000
    """
    cls = get(name)
    _check_names(cls, parameters)
    tolerance = typed(tolerance, float, "tolerance")
    if not tolerance > 0:
        raise CumpropError(f"tolerance is {tolerance}; give a number > 0")
    try:
        return cls.from_tolerance(tolerance, shape, **parameters)
    except TypeError as error:
        if "multiple values for" not in str(error):
            raise
        given = ", ".join(parameters)
        raise CumpropError(f"tolerance decides what {given} also sets; give one of them") from None


def _check_names(cls: type[Estimator], parameters: Mapping[str, Any]) -> None:
    valid = [f.name for f in fields(cls)]
    for key in parameters:
        if key in cls.renamed:
            raise CumpropError(
                f"parameter {key!r} of estimator {cls.name} is called {cls.renamed[key]} now"
            )
        if key not in valid:
            raise CumpropError(
                f"estimator {cls.name} has no parameter {key!r}; "
                f"it takes {', '.join(valid) or 'none'}"
            )
