"""What is wrong with a configuration, in words: where, which key, what was expected, what came, the way out."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pydantic import BaseModel, ValidationError

__all__ = ["ConfigError", "Problem", "problems_of"]


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Attributes:
        where: "FILE:LINE", "FILE" or "command line".
        key: the dotted key, or "" where it concerns the file as a whole.
        expected, got: what should stand there, and what does.
        hint: the way out, or "".
    """

    where: str
    key: str
    expected: str
    got: str
    hint: str

    def __str__(self) -> str:
        key = f" {self.key}:" if self.key else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.where}:{key} expected {self.expected}. Got {self.got} instead.{hint}"


class ConfigError(ValueError):
    """A configuration that cannot be used. The message names every problem, one a line."""

    exit_code = 2  # what the command line ends with

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def problems_of(
    error: ValidationError, data: Mapping[str, Any], schema: type[BaseModel], locate: Callable[[tuple[Any, ...]], str]
) -> list[Problem]:
    """pydantic's errors as problems, one for each key.

    Args:
        data: what was validated.
        schema: the type that it was validated against.
        locate: from a key's path to where it was written.
    """
    grouped: dict[tuple[Any, ...], list[Any]] = {}
    for detail in error.errors(include_url=False):
        grouped.setdefault(_key_path(detail["loc"], data), []).append(detail)
    found = []
    for path, details in grouped.items():
        expected, got, hint = _explain(path, details, data, schema)
        if details[0]["type"].startswith("union_tag"):
            path = (*path, "name")
        found.append(Problem(locate(path), ".".join(map(str, path)), expected, got, hint))
    return found


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The way out for a name that is not known."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1, cutoff=0.55)
    return (f"Did you mean {near[0]!r}? " if near else "") + f"Known here: {', '.join(names) or 'none'}."


def _key_path(location: Sequence[Any], data: Any) -> tuple[Any, ...]:
    """The keys in pydantic's location, without the labels of unions that it puts between them."""
    path: list[Any] = []
    for place, part in enumerate(location):
        last = place == len(location) - 1
        if isinstance(data, dict) and (part in data or last):
            path.append(part)
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int):
            path.append(part)
            data = data[part] if part < len(data) else None
    return tuple(path)


def _explain(path: tuple[Any, ...], details: Sequence[Any], data: Any, schema: type[BaseModel]) -> tuple[str, str, str]:
    first = details[0]
    if first["type"] == "missing":
        return "a value", "nothing", "It has no default: give it."
    if first["type"] == "extra_forbidden":
        known = _section(schema, path[:-1], data).model_fields
        return "a known key", repr(path[-1]), did_you_mean(str(path[-1]), known)
    if first["type"].startswith("union_tag"):
        names = _names(_section(schema, path[:-1], data).model_fields[path[-1]].annotation)
        word = str(first["ctx"].get("tag", "nothing"))
        return (
            "a registered name",
            word,
            f"{did_you_mean(word, names)} What a file of yours registers needs --plugin FILE.",
        )
    if first["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return "a section (key: value, ...)", repr(first["input"]), ""
    expected = " or ".join(dict.fromkeys(_expected(detail) for detail in details))
    hint = ""
    if isinstance(first["input"], str) and first["type"] == "literal_error":
        hint = did_you_mean(first["input"], [name.strip("' ") for name in _split(first["ctx"]["expected"])])
    return expected, repr(first["input"]), hint


_WORDS = {
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
}
"""Where pydantic's words are a programmer's."""


def _expected(detail: Any) -> str:
    if detail["type"] in _WORDS:
        return _WORDS[detail["type"]]
    words = str(detail["msg"])
    for start in ("Input should be ", "Value error, ", "Assertion failed, "):
        words = words.removeprefix(start)
    return words[:1].lower() + words[1:] if not words.startswith("'") else words


def _split(listed: str) -> list[str]:
    return listed.replace(" or ", ",").split(",")


def _section(schema: type[BaseModel], path: Sequence[Any], data: Any) -> type[BaseModel]:
    """The type of the section at `path`; of several in a union, the one whose `name` the data has."""
    for key in path:
        data = data[key]
        if isinstance(key, str):
            schema = _chosen(_types(schema.model_fields[key].annotation), data)
    return schema


def _types(annotation: Any) -> list[type[BaseModel]]:
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [found for part in get_args(annotation) for found in _types(part)]


def _names(annotation: Any) -> list[str]:
    return [str(name) for part in _types(annotation) for name in get_args(part.model_fields["name"].annotation)]


def _chosen(types: Sequence[type[BaseModel]], data: Any) -> type[BaseModel]:
    for candidate in types:
        name = candidate.model_fields.get("name")
        if name is not None and isinstance(data, dict) and data.get("name") in get_args(name.annotation):
            return candidate
    return types[0]
