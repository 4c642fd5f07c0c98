"""Docstrings of public names: a sentence, shapes of arrays, errors, cost and an example."""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path

import cumprop
from cumprop import estimators
from cumprop.contract import registry

ROOT = Path(__file__).parents[2]

NO_SUBJECT = ("What", "That", "Those", "Of")
"""A docstring that starts with one of these words has no noun as its subject."""

NO_SUBJECT_LATER = ("What", "That of", "Those of")
"""Words that start no sentence of a docstring, be it the first or not."""

ERRORS = ("ConfigError", "CumpropError")

ARRAY = re.compile(r"\b(?:Array|NDArray|ndarray)\b")
_LENGTH = r"(?:\d*[A-Za-z](?:_\w+|_\{[^}]*\})?|\d+|\.\.\.)"
_TERM = rf"{_LENGTH}(?: ?[-+*·/] ?{_LENGTH})*"
SHAPE = re.compile(rf"\({_TERM},(?: {_TERM}(?:, {_TERM})*)?\)|\b(?:any|same) shape\b")
"""`(n,)`, `(n, n)`, `(2 n, ..., k_l)`, or words for arrays that may have any shape."""


# --- rules ---------------------------------------------------------------------------------------


def faults(name, item):
    """What the docstring of a public class, function or property lacks, a line each."""
    text = inspect.getdoc(item)
    if not text:
        return [f"{name} has no docstring"]
    first, _, rest = text.partition("\n")
    lacks = []
    if not re.match(r"[^a-z\s].*\.$", first) or rest.partition("\n")[0]:
        lacks.append("does not start with a sentence of one line and a blank line")
    tree = parsed(item)
    if raises(tree) and not re.search(r"\bRaises?\b", text):
        lacks.append("does not say what it raises")
    if any(ARRAY.search(annotation) for annotation in annotations(tree)) and not SHAPE.search(text):
        lacks.append("gives no shape of its arrays")
    return [f"{name} {lack}" for lack in lacks]


def parsed(item):
    """The syntax tree of a class or function; of a class, only what its making runs."""
    item = item.fget if isinstance(item, property) else inspect.unwrap(item)
    tree = ast.parse(textwrap.dedent(inspect.getsource(item))).body[0]
    if isinstance(tree, ast.ClassDef):
        making = ("__init__", "__post_init__", "__new__")
        tree.body = [
            node
            for node in tree.body
            if not isinstance(node, ast.FunctionDef) or node.name in making
        ]
    return tree


def raises(tree):
    """Whether a body raises an error of the project itself."""
    return any(
        isinstance(node, ast.Raise)
        and node.exc is not None
        and re.match(rf"(?:\w+\.)?(?:{'|'.join(ERRORS)})\b", ast.unparse(node.exc))
        for node in ast.walk(tree)
    )


def annotations(tree):
    """Types of parameters and of the result; of a class, those of its public fields."""
    if isinstance(tree, ast.ClassDef):
        found = [
            node.annotation
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and not node.target.id.startswith("_")
        ]
    else:
        given = tree.args
        found = [a.annotation for a in [*given.posonlyargs, *given.args, *given.kwonlyargs]]
        found.append(tree.returns)
    return [ast.unparse(annotation) for annotation in found if annotation is not None]


def subjectless(path, source):
    """Docstrings of a module, private ones too, with a sentence that has no subject."""
    found = []
    for text, line in docstrings(ast.parse(source)):
        prose = re.sub(r"^ *(>>>|\.\.\. ).*?(\n\n|\Z)", "", text, flags=re.DOTALL | re.MULTILINE)
        sentences = re.split(r"(?<=[.:?;])\s+(?=[A-Z])|\n\n+", " ".join(prose.split("\n")).strip())
        if re.match(rf"(?:{'|'.join(NO_SUBJECT)})\b", sentences[0]) or any(
            re.match(rf"(?:{'|'.join(NO_SUBJECT_LATER)})\b", s) for s in sentences
        ):
            found.append(f"{path}:{line}: {sentences[0]}")
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
    found = pkgutil.walk_packages(cumprop.__path__, "cumprop.")
    for module in found:
        if (module.ispkg or module.name.count(".") == 1) and module.name != "cumprop.estimators":
            yield importlib.import_module(module.name)


def exported(module):
    """Names of the classes and functions that a room gives to others."""
    own = module.__name__ if not hasattr(module, "__path__") else "cumprop"
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith(own)
    ]
    return {
        f"{module.__name__}.{name}": value
        for name in names
        if inspect.isclass(value := getattr(module, name)) or inspect.isfunction(value)
    }


def backends():
    """The estimators of the repository, by name."""
    return {
        f"estimator {module.name}": registry.get(module.name)
        for module in pkgutil.iter_modules(estimators.__path__)
    }


def with_methods(items):
    """Classes and functions, and the public methods that these classes define themselves."""
    for name, item in items.items():
        yield name, item
        if inspect.isclass(item):
            for key, value in vars(item).items():
                kept = isinstance(value, (property, classmethod, staticmethod))
                if not key.startswith("_") and (kept or inspect.isfunction(value)):
                    yield (
                        f"{name}.{key}",
                        value if isinstance(value, property) else getattr(item, key),
                    )


# --- tests ---------------------------------------------------------------------------------------


def test_public_names_are_described():
    items = {f"cumprop.{name}": getattr(cumprop, name) for name in cumprop.__all__} | backends()
    for room in rooms():
        items |= exported(room)
    unique = {id(item): (name, item) for name, item in reversed([*with_methods(items)])}
    found = [line for name, item in reversed(unique.values()) for line in faults(name, item)]
    assert not found, "\n".join(found)


def test_main_names_have_examples_and_backends_a_cost():
    backs = backends()
    items = {name: getattr(cumprop, name) for name in cumprop.__all__} | backs
    found = [f"{name} has no example" for name, item in items.items() if ">>> " not in item.__doc__]
    found += [f"{name} has no Cost:" for name, item in backs.items() if "Cost:" not in item.__doc__]
    assert not found, "\n".join(found)


def test_sentences_have_subjects():
    found = []
    for folder in ("cumprop", "estimators"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found += subjectless(path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)
