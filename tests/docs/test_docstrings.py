"""Docstrings: a sentence with a subject everywhere; shapes, errors, cost, examples of public names.

Public are the names that a room gives to others, `cumprop.__all__`, the backends, and the public
methods of these classes. There are no exceptions.
"""

import ast
import importlib.util
import inspect
import pkgutil
import re
import sys
import textwrap
from functools import cached_property
from pathlib import Path

import pytest

import cumprop
from cumprop import estimators
from cumprop.contract import registry

ROOT = Path(__file__).parents[2]
SOURCES = sorted(p for room in ("cumprop", "estimators") for p in (ROOT / room).rglob("*.py"))

NO_SUBJECT = r"What|That|Those|Of"
"""First words of a docstring that are no noun, nor lead to one."""
NO_SUBJECT_LATER = r"What|That of|Those of"
"""First words of any sentence of which the same is true."""

FIRST_LINE = re.compile(r"[^a-z\s][^\n]*\.(?:\n\n.*)?", re.DOTALL)
"""A sentence of one line that starts with a capital or a symbol, then a blank line."""
ERROR = re.compile(r"(?:\w+\.)?(?:ConfigError|CumpropError|TooLarge)\b")
ARRAY = re.compile(r"\b(?:Array|ArrayLike|NDArray|ndarray)\b")
_LENGTH = r"(?:\d*[A-Va-z](?:_\w+|_\{[^}]*\})?|\d+|\.\.\.)"
_TERM = rf"{_LENGTH}(?: ?[-+*·/] ?{_LENGTH})*"
SHAPE = re.compile(rf"\((?:{_TERM},(?: {_TERM}(?:, {_TERM})*)?)?\)|\b(?:any|same) shape\b")
"""`()`, `(n,)`, `(n, n)`, `(2 n, n_{L+1})`, or words for arrays that may have any shape."""


# --- rules ---------------------------------------------------------------------------------------


def faults(name, text, tree):
    """The parts that a public docstring lacks, given the definition it belongs to."""
    if not text:
        return [f"{name} has no docstring"]
    lacks = []
    if not FIRST_LINE.fullmatch(text):
        lacks.append("does not start with a sentence of one line")
    if raises(tree) and not re.search(r"\b[Rr]aises?\b", text):
        lacks.append("does not say what it raises")
    prose = text.partition(">>> ")[0]
    if any(map(ARRAY.search, annotations(tree))) and not SHAPE.search(prose):
        lacks.append("gives no shape of its arrays")
    return [f"{name} {lack}" for lack in lacks]


def raises(tree):
    """Whether a definition raises an error of the project itself; a class, when it is made."""
    nodes = making(tree) if isinstance(tree, ast.ClassDef) else [tree]
    errors = [n.exc for node in nodes for n in ast.walk(node) if isinstance(n, ast.Raise) and n.exc]
    return any(ERROR.match(ast.unparse(error)) for error in errors)


def annotations(tree):
    """Types of parameters and of the result; of a class, those of its fields and parameters."""
    if isinstance(tree, ast.ClassDef):
        fields = [n for n in tree.body if isinstance(n, ast.AnnAssign)]
        found = [n.annotation for n in fields if not ast.unparse(n.target).startswith("_")]
        return [*map(ast.unparse, found), *(t for init in making(tree) for t in annotations(init))]
    given = tree.args
    found = [a.annotation for a in [*given.posonlyargs, *given.args, *given.kwonlyargs]]
    return [ast.unparse(annotation) for annotation in [*found, tree.returns] if annotation]


def making(tree):
    """The methods that run when an instance is made."""
    return [n for n in tree.body if getattr(n, "name", "") in ("__init__", "__post_init__")]


def undocumented(path, source):
    """A module, or its public functions and classes, without a docstring."""
    tree = ast.parse(source)
    definitions = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    public = [n for n in definitions if not n.name.startswith("_")]
    return [
        f"{path} {getattr(node, 'name', '')} has no docstring"
        for node in [tree, *public]
        if not ast.get_docstring(node)
    ]


def subjectless(path, source):
    """Docstrings of a module, private ones too, with a sentence that has no subject."""
    found = []
    for text, line in docstrings(ast.parse(source)):
        prose = " ".join(re.sub(r">>> .*?(\n\n|\Z)", r"\1", text, flags=re.DOTALL).split("\n"))
        first, *later = re.split(r"(?<=[.:?;]) +(?=[A-Z])|  ", prose)
        if re.match(rf"(?:{NO_SUBJECT})\b", first) or any(
            re.match(rf"(?:{NO_SUBJECT_LATER})\b", sentence) for sentence in later
        ):
            found.append(f"{path}:{line}: {first}")
    return found


def docstrings(tree):
    """Every string that stands alone: of a module, class, function, field or constant."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield inspect.cleandoc(text), node.lineno


# --- what is public ------------------------------------------------------------------------------


def rooms():
    """The packages of `cumprop`, and the modules that are rooms by themselves."""
    for module in pkgutil.walk_packages(cumprop.__path__, "cumprop."):
        alone = module.name.count(".") == 1
        if (module.ispkg or alone) and not module.name.startswith("cumprop.estimators"):
            yield importlib.import_module(module.name)


def exported(module):
    """The functions and classes that a module gives to others, by name."""
    own = "cumprop" if hasattr(module, "__path__") else module.__name__
    names = getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")])
    found = {f"{module.__name__}.{name}": getattr(module, name) for name in names}
    return {
        name: item
        for name, item in found.items()
        if getattr(item, "__module__", "").startswith(own)
        and (inspect.isclass(item) or inspect.isfunction(inspect.unwrap(item)))
    }


def backends():
    """The estimators of the repository, by name."""
    modules = pkgutil.iter_modules(estimators.__path__)
    return {f"estimator {module.name}": registry.get(module.name) for module in modules}


def documented(items):
    """Name, docstring and definition of each item and of its public methods; each item once."""
    for name, item in {id(item): (name, item) for name, item in items.items()}.values():
        yield name, inspect.getdoc(item), definition(item)
        for key, value in vars(item).items() if inspect.isclass(item) else ():
            function = behind(value)
            if not key.startswith("_") and inspect.isfunction(function):
                yield f"{name}.{key}", inherited(item, key), definition(function)


def behind(value):
    """The function of a method, property or class method; other values as they are."""
    if isinstance(value, property):
        return value.fget
    return inspect.unwrap(value.func if isinstance(value, cached_property) else value)


def inherited(item, key):
    """The docstring of a method, or of the method that it overrides."""
    texts = (getattr(behind(vars(cls).get(key)), "__doc__", "") for cls in item.__mro__)
    owners = [key in vars(cls) for cls in item.__mro__]
    return next(
        (inspect.cleandoc(t) for t, own in zip(texts, owners, strict=True) if own and t), ""
    )


def definition(item):
    """The syntax tree of a function or class."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(item)))
    return ast.parse(source).body[0]


# --- tests ---------------------------------------------------------------------------------------


def test_public_names_are_described():
    items = {f"cumprop.{name}": getattr(cumprop, name) for name in cumprop.__all__} | backends()
    for room in rooms():
        items |= exported(room)
    assert len(items) > 150
    found = [line for each in documented(items) for line in faults(*each)]
    assert not found, "\n".join(found)


def test_main_names_have_examples_and_backends_a_cost():
    items = {name: getattr(cumprop, name) for name in cumprop.__all__} | backends()
    found = [f"{name} has no example" for name, item in items.items() if ">>> " not in item.__doc__]
    costless = [name for name, item in backends().items() if "Cost: " not in item.__doc__]
    assert not found + costless


@pytest.mark.parametrize("rule", [undocumented, subjectless])
def test_rules_of_all_docstrings(rule):
    found = [
        line
        for path in SOURCES
        for line in rule(path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


# --- tests of these tests ------------------------------------------------------------------------

SOUND = '''"""A module."""

from cumprop.errors import CumpropError


class Scale:
    """A factor.

    Raises CumpropError for a factor of 0.
    """

    def __init__(self, factor: float) -> None:
        if not factor:
            raise CumpropError("factor is 0; give another")

    def scaled(self, x: "Array") -> "Array":
        """The product with x, (n,).

        Raises CumpropError for an empty x.
        """
        if not len(x):
            raise CumpropError("x is empty; give numbers")
        return x

    @property
    def factor(self) -> float:
        """The factor.

        >>> Scale(2.0).factor
        2.0
        """
        return 2.0
'''


@pytest.mark.parametrize(
    ("part", "replacement", "complaint"),
    [
        ("", "", None),
        ('"""A module."""', "", "fake.py  has no docstring"),
        (
            '    """A factor.\n\n    Raises CumpropError for a factor of 0.\n    """\n',
            "",
            "Scale has",
        ),
        ("    Raises CumpropError for a factor of 0.\n", "", "Scale does not say what it raises"),
        ("        Raises CumpropError for an empty x.\n", "", "scaled does not say what it raises"),
        ("with x, (n,)", "with (x)", "scaled gives no shape"),
        ("The product with x, (n,).", "product with x, (n,).", "scaled does not start"),
        (
            "The product with x, (n,).",
            "The product with\n        x, (n,).",
            "scaled does not start",
        ),
        ('"""The factor.', 'r"""What scales.', "What scales."),
        ("The product", "Of x the product", "Of x the product"),
        (
            "Raises CumpropError for an",
            "Those of others. Raises CumpropError for an",
            "The product",
        ),
    ],
)
def test_a_fault_is_found(tmp_path, monkeypatch, part, replacement, complaint):
    source = SOUND.replace(part, replacement) if part else SOUND
    path = tmp_path / "fake.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("fake", path)
    fake = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fake", fake)
    spec.loader.exec_module(fake)
    found = [line for each in documented(exported(fake)) for line in faults(*each)]
    found += undocumented("fake.py", source) + subjectless("fake.py", source)
    assert found == [] if complaint is None else complaint in " ".join(found)
