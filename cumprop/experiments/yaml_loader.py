"""YAML that remembers where everything stands, so that an error can say `file:line:col`.

YAML 1.2 scalars (`1e-6` and `4e6` are numbers, `yes` and `1:30` are text), no aliases, no tags,
no duplicate keys; `extends:` merges another file below this one. Every problem of a file is
found in one go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cumprop.errors import ConfigError


@dataclass(frozen=True)
class Mark:
    """Where something was written: a file with line and column, or a command-line option."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a configuration; its text is one line."""

    mark: Mark
    key: str
    message: str

    def __str__(self) -> str:
        subject = f" {self.key}" if self.key else ""
        return f"{self.mark}{subject}: {self.message}"


@dataclass(frozen=True)
class Node:
    """A value with the place it was written at, and the place of its key.

    `value` is a scalar, a list of nodes or a dict from key to node.
    """

    value: Any
    mark: Mark
    key_mark: Mark | None = None

    def plain(self) -> Any:
        """The value without its marks."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, part: str | int) -> Node | None:
        """The node below `part`, None where there is none."""
        if isinstance(self.value, dict):
            return self.value.get(part)
        if isinstance(self.value, list) and isinstance(part, int) and part < len(self.value):
            node: Node = self.value[part]
            return node
        return None


def refuse(problems: Sequence[Problem]) -> None:
    """Raise ConfigError with one line for each problem, in reading order; nothing if none."""
    if problems:
        ordered = sorted(problems, key=lambda p: (p.mark.source, p.mark.line, p.mark.column))
        raise ConfigError("\n".join(dict.fromkeys(map(str, ordered))))


def load(path: str | Path) -> Node:
    """The mapping in a YAML file, with the files it `extends:` merged below it.

    Mappings merge key by key, anything else is replaced. The file outranks the `scales` of the
    files below it, its own `scales` outrank the file. Raises ConfigError with one line per problem:
    unreadable or missing file, bad syntax, duplicate key, alias, tag, circular extends.
    """
    problems: list[Problem] = []
    root = _load(Path(path), (), problems)
    refuse(problems)
    return root


def parse(text: str, source: str) -> Node:
    """The value in a piece of YAML, such as the right-hand side of `--set`.

    >>> parse("[1e-6, 4e6, yes]", "--set").plain()
    [1e-06, 4000000.0, 'yes']
    """
    problems: list[Problem] = []
    node = _parse(text, source, problems)
    refuse(problems)
    mark = Mark(source)
    return _relocate(node, mark)


def setting(words: str, where: str, form: str = "--set key=value") -> tuple[str, Node]:
    """Key and value of a setting such as width=64; ConfigError, which shows the `form`, of others.

    >>> key, node = setting("width=[64,128]", "--set width=[64,128]")
    >>> key, node.plain()
    ('width', [64, 128])
    """
    key, equals, value = (part.strip() for part in words.partition("="))
    if not (key and equals):
        raise ConfigError(f"{where}: write {form}")
    return key, parse(value, where)


def merge(base: Node, over: Node) -> Node:
    """`over` on top of `base`: mappings merge key by key, anything else is replaced."""
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return replace(over, value=merged)


def assign(root: Node, path: Sequence[str], node: Node) -> Node:
    """`root` with `node` at a dotted path, mappings made on the way; numbers index lists."""
    if not path:
        return node
    head, *rest = path
    if isinstance(root.value, list):
        if not (head.isdigit() and int(head) < len(root.value)):
            last = len(root.value) - 1
            raise ConfigError(f"{node.mark}: {head!r} is no index of a list; use 0 to {last}")
        items = list(root.value)
        items[int(head)] = assign(items[int(head)], rest, node)
        return replace(root, value=items)
    below = dict(root.value) if isinstance(root.value, dict) else {}
    inner = below.get(head, Node({}, node.mark, node.mark))
    below[head] = assign(inner, rest, node)
    return replace(root, value=below)


def _relocate(node: Node, mark: Mark) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: _relocate(below, mark) for key, below in value.items()}
    elif isinstance(value, list):
        value = [_relocate(below, mark) for below in value]
    return Node(value, mark, mark)


def _load(path: Path, below: tuple[Path, ...], problems: list[Problem]) -> Node:
    mark = Mark(str(path))
    empty = Node({}, replace(mark, line=1, column=1))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        problems.append(Problem(mark, "", f"cannot be read: {reason}"))
        return empty
    node = _parse(text, str(path), problems)
    if node.value is None:
        node = empty
    if not isinstance(node.value, dict):
        problems.append(Problem(node.mark, "", "must be a mapping, `key: value` lines"))
        return empty
    parent = node.value.pop("extends", None)
    if parent is None:
        return node
    if not isinstance(parent.value, str):
        problems.append(Problem(parent.mark, "extends", "must be the path of one YAML file"))
        return node
    target, chain = path.parent / parent.value, (*below, path.resolve())
    if target.resolve() in chain:
        circle = " -> ".join(p.name for p in (*chain, target))
        problems.append(Problem(parent.mark, "extends", f"goes round in a circle: {circle}"))
        return node
    if not target.is_file():
        problems.append(Problem(parent.mark, "extends", f"no such file: {target}"))
        return node
    base = _load(target, chain, problems)
    scales = base.value.get("scales")
    if scales is not None and isinstance(scales.value, dict):  # which this file outranks
        own = replace(node, value={k: v for k, v in node.value.items() if k != "scales"})
        scales.value.update({name: merge(scale, own) for name, scale in scales.value.items()})
    return merge(base, node)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 core scalars; aliases refused (they can make a small file endlessly large)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own interface)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not read; use extends:", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


_SCALARS = {
    "null": re.compile(r"~|null|Null|NULL|"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]{1,99}"),
    "float": re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
}
for _name, _pattern in _SCALARS.items():
    _exact = re.compile(f"(?:{_pattern.pattern})$")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _exact, None)


def _parse(text: str, source: str, problems: list[Problem]) -> Node:
    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is not None:
            return _build(root, source, "", problems)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        mark = Mark(source, at.line + 1, at.column + 1) if at else Mark(source)
        problems.append(Problem(mark, "", f"not YAML: {error.problem or error.context}"))
    except yaml.YAMLError as error:
        problems.append(Problem(Mark(source), "", f"not YAML: {str(error).splitlines()[0]}"))
    except RecursionError:
        problems.append(Problem(Mark(source), "", "nested too deeply"))
    return Node(None, Mark(source, 1, 1))


def _build(node: yaml.Node, source: str, name: str, problems: list[Problem]) -> Node:
    mark = _mark(node, source)
    if isinstance(node, yaml.MappingNode):
        return Node(dict(_items(node, source, name, problems)), mark)
    if isinstance(node, yaml.SequenceNode):
        items = [_build(n, source, f"{name}[{i}]", problems) for i, n in enumerate(node.value)]
        return Node(items, mark)
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind not in (*_SCALARS, "str"):
        problems.append(Problem(mark, name, f"tag {node.tag} is not read; write a plain value"))
        return Node(None, mark)
    return Node(_scalar(kind, node.value), mark)


def _items(
    node: yaml.MappingNode, source: str, name: str, problems: list[Problem]
) -> Iterator[tuple[str, Node]]:
    seen: dict[str, Mark] = {}
    for key_node, value_node in node.value:
        at = _mark(key_node, source)
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(Problem(at, name, "a key must be a plain word"))
            continue
        key = str(key_node.value)
        full = f"{name}.{key}".lstrip(".")
        if key in seen:
            first = seen[key]
            problems.append(Problem(at, full, f"duplicate key, first given in line {first.line}"))
            continue
        seen[key] = at
        yield key, replace(_build(value_node, source, full, problems), key_mark=at)


def _scalar(kind: str, text: str) -> Any:
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(re.sub(r"\.(inf|nan)", r"\1", text.lower()))
    return text


def _mark(node: yaml.Node, source: str) -> Mark:
    return Mark(source, node.start_mark.line + 1, node.start_mark.column + 1)
