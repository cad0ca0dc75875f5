"""Types of arguments: public functions and records refuse a value of another type in one sentence.

Whole numbers and numbers may be NumPy's, and a sequence may be an array; a bool is no number.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import fields
from functools import cache, wraps
from numbers import Integral, Real
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from foir.errors import BadPrompt

P = ParamSpec("P")
R = TypeVar("R")
MAX_SHOWN = 40  # characters of a value in a message
_NUMBERS = {int: Integral, float: Real}
_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "True or False", NoneType: "None"}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function refuse arguments that do not fit its annotations.

    Raises:
        BadPrompt: On a call, where an argument does not fit.
    """
    names = list(inspect.signature(function).parameters)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        hints = _hints(function)
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            if name in hints:
                _check(name, value, hints[name])
        return function(*args, **kwargs)

    return call


def check_fields(record: Any) -> None:
    """Refuse a dataclass whose fields do not fit their annotations.

    Raises:
        BadPrompt: One does not.
    """
    kind: Any = type(record)
    hints = _hints(kind)
    for field in fields(record):
        _check(field.name, getattr(record, field.name), hints[field.name])


def check_text(text: str) -> None:
    """Refuse text that is no Unicode (half of a surrogate pair) or holds NUL.

    Raises:
        BadPrompt: It is.
    """
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
        raise BadPrompt("The text holds a NUL or half of a character: write it again.")


@cache
def _hints(annotated: Any) -> dict[str, Any]:
    """Annotations; read with the first call, when all modules that they name are imported."""
    own = {name: hint for name, hint in annotated.__annotations__.items() if name != "return"}
    names = vars(sys.modules[annotated.__module__])
    return get_type_hints(SimpleNamespace(__annotations__=own), names)


def _check(name: str, value: Any, hint: Any) -> None:
    if not _fits(value, hint):
        raise BadPrompt(f"{name} must be {_describe(hint)}, not {_describe_value(value)}.")


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if hint in _NUMBERS:
        return isinstance(value, _NUMBERS[hint]) and not isinstance(value, bool)
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if origin is None:
        return isinstance(value, NoneType if hint is None else hint)
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if issubclass(origin, Sequence) or origin is Collection:
        return _fit_sequence(value, origin, inner)
    return isinstance(value, origin)


def _fit_sequence(value: Any, origin: Any, inner: tuple[Any, ...]) -> bool:
    if isinstance(value, np.ndarray) and value.ndim:
        value = value.tolist()
    if not isinstance(value, Sequence | Set if origin is Collection else Sequence) or isinstance(value, str | bytes):
        return False
    if origin is tuple and inner[-1] is not Ellipsis:
        return len(value) == len(inner) and all(map(_fits, value, inner))
    return all(_fits(each, inner[0]) for each in value)


def _describe(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin in (Union, UnionType):
        return " or ".join(map(_describe, inner))
    if origin is not None and issubclass(origin, Collection) and not issubclass(origin, Mapping) and inner:
        count = len(inner) if origin is tuple and inner[-1] is not Ellipsis else ""
        return f"a list of {count} {_describe(inner[0]).removeprefix('a ')}s".replace("  ", " ").replace(
            "texts", "text"
        )
    return _NAMES.get(hint) or str(getattr(origin or hint, "__name__", hint))


def _describe_value(value: Any) -> str:
    is_short = isinstance(value, str | float | NoneType | bool) and len(ascii(value)) <= MAX_SHOWN
    return ascii(value) if is_short else f"a value of type {type(value).__name__}"
