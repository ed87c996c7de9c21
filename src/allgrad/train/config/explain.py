"""pydantic's errors in the words of the configuration's author."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from allgrad.train.config.errors import Mistake, did_you_mean, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import BaseModel, ValidationError

__all__ = ["explain"]

Path_ = tuple[str | int, ...]


def explain(
    error: ValidationError, data: Mapping[str, Any], schema: type[BaseModel], locate: Callable[[Path_], str]
) -> list[Mistake]:
    """One mistake for each key that pydantic complains about.

    Args:
        data: what was validated.
        schema: the type that it was validated against.
        locate: from a key's path to the place where it was written.
    """
    grouped: dict[Path_, list[Any]] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] == "default_factory_not_called":  # it needs a key that is wrong itself
            continue
        grouped.setdefault(_key_path(detail["loc"], data), []).append(detail)
    found = []
    for path, details in grouped.items():
        text = _text(path, details, data, schema)
        if details[0]["type"].startswith("union_tag"):
            path = (*path, "name")
        found.append(Mistake(".".join(map(str, path)), text, locate(path)))
    return found


def _key_path(location: Sequence[Any], data: Any) -> Path_:
    """The keys in pydantic's location, without the labels of unions that pydantic puts between them."""
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


def _text(path: Path_, details: Sequence[Any], data: Any, schema: type[BaseModel]) -> str:
    first = details[0]
    kind, value = first["type"], first["input"]
    if kind == "missing":
        return "is missing, and has no default."
    if kind == "extra_forbidden":
        return f"unknown key. {did_you_mean(str(path[-1]), _section(schema, path[:-1], data).model_fields)}"
    if kind == "union_tag_not_found":
        return f"is missing. {did_you_mean('', _names_at(schema, path, data))}"
    if kind == "union_tag_invalid":
        tag = str(first["ctx"]["tag"])
        names = did_you_mean(tag, _names_at(schema, path, data))
        return f"nothing is registered as {shorten(tag)}. {names} Names of your own need --plugin FILE."
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"expected a section (key: value, ...), got {shorten(value)}."
    expected = " or ".join(dict.fromkeys(_expected(detail) for detail in details))
    return f"expected {expected}, got {shorten(value)}.{_hint(path, first)}"


def _hint(path: Path_, detail: Any) -> str:
    kind, value = detail["type"], detail["input"]
    if kind == "literal_error" and isinstance(value, str):
        choices = str(detail["ctx"]["expected"]).replace(" or ", ",").split(",")
        return " " + did_you_mean(value, [choice.strip("' ") for choice in choices])
    if kind == "string_type" and isinstance(value, int | float):
        return " Put quotes around a text that looks like a number."
    if kind in ("tuple_type", "list_type") and isinstance(value, dict) and all(str(key).isdigit() for key in value):
        return f" A list is given as a whole, for example {'.'.join(map(str, path))}=[1, 2]."
    return ""


_WORDS = {
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "int_type": "an integer",
    "float_type": "a number",
}
"""Where pydantic's words are a programmer's."""


def _expected(detail: Any) -> str:
    if detail["type"] in _WORDS:
        return _WORDS[detail["type"]]
    words = str(detail["msg"])
    for start in ("Input should be ", "Value error, ", "Assertion failed, "):
        words = words.removeprefix(start)
    return words if words.startswith("'") else words[:1].lower() + words[1:]


def _section(schema: type[BaseModel], path: Path_, data: Any) -> type[BaseModel]:
    """The type of the section at `path`; of several in a union, the one whose `name` the data has."""
    types: Sequence[type[BaseModel]] = [schema]
    for key in path:
        if isinstance(key, str):
            types = _types(_chosen(types, data).model_fields[key].annotation)
        data = data[key]
    return _chosen(types, data)


def _names_at(schema: type[BaseModel], path: Path_, data: Any) -> list[str]:
    """The registered names that the section at `path` can have."""
    keys = [key for key in path if isinstance(key, str)]
    upto = len(path) - 1 - path[::-1].index(keys[-1])
    types = _types(_section(schema, path[:upto], data).model_fields[keys[-1]].annotation)
    return [str(name) for each in types for name in get_args(each.model_fields["name"].annotation)]


def _types(annotation: Any) -> list[type[BaseModel]]:
    """The section types in an annotation."""
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [found for part in get_args(annotation) for found in _types(part)]


def _chosen(types: Sequence[type[BaseModel]], data: Any) -> type[BaseModel]:
    for candidate in types:
        name = candidate.model_fields.get("name")
        if name is not None and isinstance(data, dict) and data.get("name") in get_args(name.annotation):
            return candidate
    return types[0]
