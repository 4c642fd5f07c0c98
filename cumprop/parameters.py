"""Parameters from users, checked against their declared types."""

from __future__ import annotations

from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from cumprop.errors import CumpropError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_WORDS = {
    int: ["a whole number"],
    float: ["a number"],
    str: ["text"],
    bool: ["true", "false"],
    NoneType: ["null"],
}


def typed(value: Any, hint: Any, name: str) -> Any:
    """`value` converted to the type `hint`; `name` is for the error message.

    Only a float such as 4e6 becomes an integer, and a NumPy number a Python one. Raises
    CumpropError for a value of another type, also for text that spells a number.

    >>> typed(4e6, int, "n_samples"), typed(1, float, "tolerance")
    (4000000, 1.0)
    >>> try:
    ...     typed("x", int | Literal["auto"] | None, "window")
    ... except CumpropError as error:
    ...     print(error)
    window must be a whole number, 'auto' or null, got 'x'
    """
    if type(value) is hint or (type(hint) is UnionType and type(value) in get_args(hint)):
        return value  # the usual cases, without waiting for pydantic
    from numpy import generic
    from pydantic import ValidationError

    given = value.item() if isinstance(value, generic) else value
    for candidate in (given, whole(given)):
        try:
            return _adapter(hint).validate_python(candidate, strict=True)
        except ValidationError:
            continue
    raise CumpropError(f"{name} must be {_in_words(hint)}, got {' '.join(repr(value).split())}")


def whole(value: Any) -> Any:
    """An integer for a float that is whole, such as 4e6; any other value as it is.

    >>> whole(4e6), whole(0.5), whole("4e6")
    (4000000, 0.5, '4e6')
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))


def _in_words(hint: Any) -> str:
    *others, last = _choices(hint)
    return f"{', '.join(others)} or {last}" if others else last


def _choices(hint: Any) -> list[str]:
    if get_origin(hint) in (Union, UnionType):
        return [choice for part in get_args(hint) for choice in _choices(part)]
    if get_origin(hint) is Literal:
        return [*map(repr, get_args(hint))]
    return _WORDS.get(hint, [f"of type {getattr(hint, '__name__', hint)}"])
