"""Reading a configuration: layers of YAML into a checked `Config`, with all errors at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from cumprop.contract import available, build, get
from cumprop.errors import ConfigError, CumpropError
from cumprop.experiments import yaml_loader
from cumprop.experiments.models import (
    Config,
    CriticalInit,
    EstimatorGrid,
    ManualInit,
    Network,
    listed,
)
from cumprop.experiments.yaml_loader import Node, Problem
from cumprop.networks import Shape

_TAGGED: dict[str | int, type[BaseModel]] = {
    "manual init": ManualInit,
    "critical init": CriticalInit,
}
M = TypeVar("M", bound=BaseModel)
_ANY_SHAPE = Shape((64,) * 6, ("relu",) * 4)


def load(
    path: str | Path,
    scale: str | None = None,
    sets: Sequence[str] = (),
    figures: Sequence[str] | None = None,
) -> Config:
    """The checked configuration in a YAML file.

    Later layers override earlier ones: the file it extends and that file's scale `scale`, the file
    and its scale, then `sets` such as "network.width=[64,128]". `figures` are the known names, None
    allows any. Raises ConfigError with every problem, one line each: `file:line:col key: message
    (did you mean …?)`.
    """
    root = read(path, scale, sets)
    command = root.child("command")
    if command is not None:
        message = f"not a sweep; run `cumprop {command.plain()} {path}`"
        yaml_loader.refuse([Problem(command.mark, "command", message)])
    return check(root, figures)


def read(path: str | Path, scale: str | None = None, sets: Sequence[str] = ()) -> Node:
    """The YAML of a configuration, its layers merged as `load` says, not yet checked."""
    root = yaml_loader.load(path)
    offered = root.value.pop("scales", None)
    if scale is not None:
        root = yaml_loader.merge(root, _chosen(str(path), offered, scale))
    for words in sets:
        key, node = yaml_loader.setting(words, f"--set {words}")
        root = yaml_loader.assign(root, key.split("."), node)
    return root


def scales(path: str | Path) -> list[str]:
    """The names of the scales a configuration file offers."""
    return _names(yaml_loader.load(path).child("scales"))


def schema() -> dict[str, Any]:
    """The JSON schema of `configs/*.yaml`, for editors; kept in configs/schema.json."""
    whole = Config.model_json_schema()
    whole["title"] = "cumprop experiment"
    whole["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    partial = {"type": "object", "description": "overrides chosen by --scale or SCALE"}
    whole["properties"] |= {
        "extends": {"type": "string", "description": "YAML file merged below this one"},
        "scales": {"type": "object", "additionalProperties": partial},
    }
    for part in (whole, whole["$defs"]["Network"], whole["$defs"]["Truth"]):
        part.pop("required")  # what is missing here may come from the file that is extended
    return whole


def check(root: Node, figures: Sequence[str] | None = None) -> Config:
    """The configuration below a node; raises ConfigError with every problem."""
    config, problems = validated(root, Config)
    network, unmakeable = _network(root)
    problems += unmakeable
    for i, entry in enumerate(_items(root, "estimators")):
        problems += _entry_problems(entry, f"estimators[{i}]", network)
    for i, node in enumerate(_items(root, "figures")):
        if figures is not None and isinstance(node.value, str) and node.value not in figures:
            message = f"unknown figure {node.value!r}; the known ones are {', '.join(figures)}"
            problems.append(Problem(node.mark, f"figures[{i}]", message))
    yaml_loader.refuse(problems)
    assert config is not None
    return config


def validated(root: Node, model: type[M]) -> tuple[M | None, list[Problem]]:
    """The `model` below a node, None where there are problems; and the problems with places."""
    try:
        return model.model_validate(root.plain()), []
    except ValidationError as error:
        return None, [_located(root, e, model) for e in error.errors(include_url=False)]


def load_as(
    model: type[M], path: str | Path, scale: str | None = None, sets: Sequence[str] = ()
) -> M:
    """The `model` in a YAML file, with `scale` and `sets` as in `load`.

    Raises ConfigError with every problem.
    """
    found, problems = validated(read(path, scale, sets), model)
    yaml_loader.refuse(problems)
    assert found is not None
    return found


def _items(root: Node, key: str) -> list[Node]:
    node = root.child(key)
    return node.value if node and isinstance(node.value, list) else []


def _names(scales: Node | None) -> list[str]:
    return list(scales.value) if scales and isinstance(scales.value, dict) else []


def _chosen(path: str, offered: Node | None, scale: str) -> Node:
    chosen = offered.child(scale) if offered else None
    if chosen is None:
        names = _names(offered)
        raise ConfigError(
            f"{path}: no scale {scale!r}; it has {', '.join(names) or 'none'}{_hint(scale, names)}"
        )
    return chosen if chosen.value is not None else Node({}, chosen.mark)


def _network(root: Node) -> tuple[Network | None, list[Problem]]:
    """The network section, None where such networks cannot be made; and the problem if so."""
    node = root.child("network")
    try:
        network = Network.model_validate(node.plain() if node else None)
    except ValidationError:
        return None, []  # reported with the whole configuration
    assert node is not None
    try:
        network.tiny()
    except CumpropError as error:
        return None, [Problem((node.child("init") or node).mark, "network.init", str(error))]
    return network, []


def _entry_problems(entry: Node, name: str, network: Network | None) -> Iterator[Problem]:
    """Problems of one entry of `estimators`: parameter by parameter, then together."""

    def problem(error: object, *path: str | int, key: bool = False) -> Problem:
        node, full = entry, name
        for part in path:
            node = node.child(part) or node
            full += f".{part}" if isinstance(part, str) else ""
        return Problem((node.key_mark if key else None) or node.mark, full, str(error))

    given = entry.plain()
    if not isinstance(given, dict) or not isinstance(backend := given.get("name"), str):
        return  # reported with the whole configuration
    try:
        cls = get(backend)
        valid = [f.name for f in fields(cls)]
    except CumpropError as error:
        yield problem(f"{error}{_hint(backend, available())}", "name")
        return
    if "repeats" in given and "n_samples" not in valid:
        yield problem(f"{backend} gives the same every time; leave repeats out", "repeats")
    alone = list[Problem]()
    for key in (key for key in given if key not in EstimatorGrid.model_fields):
        if key not in valid:
            message = f"unknown parameter{_hint(key, valid)}; {backend} takes {', '.join(valid)}"
            message = _renamed(cls.renamed, key) or message
            alone.append(problem(message, key, key=True))
            continue
        for i, value in enumerate(listed(given[key])):
            try:
                build(backend, **{key: value})
            except CumpropError as error:
                alone.append(problem(error, key, i))
    yield from alone
    if not alone:
        try:
            grid = EstimatorGrid.model_validate(given)
            for shape in _shapes(network):
                list(grid.estimators(shape))
        except ValidationError:
            return  # reported with the whole configuration
        except CumpropError as error:
            yield problem(error, *(("tolerance",) if "tolerance" in given else ()))


def _shapes(network: Network | None) -> list[Shape]:
    if network is None:
        return [_ANY_SHAPE]
    return [network.shape(width, depth) for width in network.width for depth in network.depth]


def _renamed(names: Mapping[str, str], key: Any) -> str | None:
    """The error message for a key that has another name now."""
    now = names.get(key)
    return None if now is None else f"is called {now} now; write {now}"


def _hint(word: str, choices: Sequence[str]) -> str:
    """The spelling that was probably meant, in words, or an empty text."""
    close = get_close_matches(word, choices, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _located(root: Node, error: Any, whole: type[BaseModel]) -> Problem:
    """A pydantic error of the model `whole` as one line that names the place in the file."""
    node, key, model = root, "", whole
    *path, last = error["loc"] or ("",)  # the whole is no mapping
    for part in path:
        below = node.child(part)
        if below is not None:  # else the tag of a union, or the one value of an implied list
            node, key = below, key + (f"[{part}]" if isinstance(part, int) else f".{part}")
        model = _below(model, part)
    below = node.child(last)
    if below is not None or error["type"] == "missing":
        key += f"[{last}]" if isinstance(last, int) else f".{last}"
    node = below or node
    if error["type"] == "extra_forbidden":
        keys = [*model.model_fields, *(("extends", "scales") if model is whole else ())]
        message = f"unknown key{_hint(last, keys)}; known here: {', '.join(keys)}"
        message = _renamed(getattr(model, "renamed", {}), last) or message
        return Problem(node.key_mark or node.mark, key.lstrip("."), message)
    return Problem(node.mark, key.lstrip("."), _message(error))


def _below(model: type[BaseModel], part: str | int) -> type[BaseModel]:
    """The model that a key of `model`, or the tag of a union, leads to."""
    field = model.model_fields.get(str(part))
    candidates = [field.annotation, *get_args(field.annotation)] if field else []
    below = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
    return _TAGGED.get(part, below[0] if below else model)


def _message(error: Any) -> str:
    given, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "is missing; add it"
        case "int_type" | "int_from_float":
            return f"must be a whole number, got {given!r}"
        case "float_type":
            return f"must be a number, got {given!r}"
        case "string_type":
            return f"must be text, got {given!r}"
        case "list_type":
            return f"must be a list, got {given!r}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be a mapping of keys to values, got {given!r}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}, got {given!r}"
        case "greater_than":
            return f"must be greater than {context['gt']:g}, got {given!r}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}, got {given!r}"
        case "too_short":
            return "must not be empty"
        case "literal_error":
            choices = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            return f"must be one of {', '.join(choices)}, got {given!r}{_hint(str(given), choices)}"
        case "value_error":
            return str(context["error"])
        case _:
            return f"{error['msg'].lower()}, got {given!r}"
