"""Settings of optimizers and schedules: each is declared once, in the signature of the class.

    def __init__(self, params, *, lr: NonNegative = 1e-3, betas: tuple[Beta, Beta] = (0.9, 0.999)) -> None:
        super().__init__(params, locals())

Types, limits, and defaults are all read from there: by the checks in this file, and by the configuration schema, which
understands the same annotations. The annotations must therefore be imported at run time, not under TYPE_CHECKING.
"""

from __future__ import annotations

import inspect
import math
import numbers
import operator
import types
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from allgrad.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

NonNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
Beta = Annotated[float, Ge(0), Lt(1)]
"""The weight of the old value in a running mean."""
Count = Annotated[int, Ge(1)]

_LIMITS = {
    "ge": (operator.ge, "at least"),
    "gt": (operator.gt, "above"),
    "le": (operator.le, "at most"),
    "lt": (operator.lt, "below"),
}


class SettingError(OptionError):
    """An optimizer or schedule was given a setting that it does not have, or a value that is out of range."""


def declared(kind: type) -> dict[str, Any]:
    """The settings of an optimizer or schedule: name to type annotation, limits included.

    Args:
        kind: the class; its keyword-only parameters, and those of its base classes, are the settings.

    Example:
        >>> from allgrad.optim import SGD
        >>> list(declared(SGD))
        ['lr', 'momentum', 'dampening', 'weight_decay', 'nesterov']
    """
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__[:-1]):
        made = vars(base).get("__init__")
        if made is not None:
            parameters = inspect.signature(made).parameters.values()
            annotations = {each.name: each.annotation for each in parameters if each.kind is each.KEYWORD_ONLY}
            # Only these are evaluated: annotations of other parameters may exist for the type checker alone.
            holder = type("Settings", (), {"__annotations__": annotations})
            hints |= get_type_hints(holder, made.__globals__, include_extras=True)
    return hints


def checked(owner: str, name: str, value: Any, annotation: Any) -> Any:
    """The value as a plain Python object (a list becomes a tuple, a NumPy number a Python number).

    Args:
        owner: the class, for messages.
        name: of the setting.
        annotation: the setting's type, as `declared` returns it.

    Raises:
        SettingError: if it has another type or is out of range.

    Example:
        >>> checked("SGD", "momentum", 0.9, Beta)
        0.9
    """
    plain = _converted(value, annotation)
    if plain is _WRONG:
        raise SettingError(f"{owner}: {name} must be {_described(annotation)}. Got {value!r} instead.")
    return plain


_WRONG: Any = object()
_PLAIN: dict[Any, tuple[type, Callable[[Any], Any], str]] = {
    float: (numbers.Real, float, "a number"),
    int: (numbers.Integral, int, "an integer"),
    bool: (bool, bool, "true or false"),
    str: (str, str, "text"),
    type(None): (type(None), lambda _: None, "None"),
}


def _converted(value: Any, annotation: Any) -> Any:
    """The value in the annotated type, or `_WRONG`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        plain = _converted(value, arguments[0])
        fits = plain is not _WRONG and all(test(plain, limit) for test, limit, _ in _limits(arguments[1:]))
        return plain if fits else _WRONG
    if origin in (Union, types.UnionType):
        return next((plain for each in arguments if (plain := _converted(value, each)) is not _WRONG), _WRONG)
    if origin is Literal:
        return value if value in arguments else _WRONG
    if origin is tuple:
        return _converted_tuple(value, arguments)
    kind, convert, _ = _PLAIN[annotation]
    if not isinstance(value, kind) or (isinstance(value, bool) and annotation is not bool):
        return _WRONG
    plain = convert(value)
    return _WRONG if annotation is float and not math.isfinite(plain) else plain


def _converted_tuple(values: Any, entries: tuple[Any, ...]) -> Any:
    if not isinstance(values, (list, tuple)):
        return _WRONG
    if entries[1:] == (...,):
        entries = entries[:1] * len(values)
    if len(values) != len(entries):
        return _WRONG
    plain = tuple(_converted(value, entry) for value, entry in zip(values, entries, strict=True))
    return _WRONG if any(value is _WRONG for value in plain) else plain


def _limits(marks: tuple[Any, ...]) -> list[tuple[Callable[[Any, Any], bool], float, str]]:
    """The test, the limit, and the words for it, of `Ge(0)` and the like."""
    found = ((mark, name) for mark in marks for name in _LIMITS if hasattr(mark, name))
    return [
        (_LIMITS[name][0], limit, f"{_LIMITS[name][1]} {limit}")
        for mark, name in found
        for limit in (getattr(mark, name),)
    ]


def _described(annotation: Any) -> str:
    """The rule in words, for messages."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return " ".join([_described(arguments[0]), " and ".join(words for _, _, words in _limits(arguments[1:]))])
    if origin in (Union, types.UnionType):
        return " or ".join(map(_described, arguments))
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is tuple:
        number = "a list of values" if arguments[1:] == (...,) else f"{len(arguments)} values"
        return f"{number}, each {_described(arguments[0])}"
    return _PLAIN[annotation][2]
