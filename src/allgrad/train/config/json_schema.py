"""The JSON schema of a configuration file, for editors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.train.config.resolution import schema_type

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["json_schema"]

_REFERENCE = {"type": "string", "pattern": r"\$\{.+\}"}
_ABOUT = ("title", "description", "default")


def json_schema(*, plugins: Sequence[str | Path] = ()) -> dict[str, Any]:
    """All keys of a configuration file with their types, defaults and descriptions.

    A file may leave out what is in the one that it extends, a section's `name` too, write a component as a plain string, and
    give `${...}` for any value.
    """
    schema: dict[str, Any] = _as_written(schema_type(plugins).model_json_schema())
    names = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    schema["properties"]["extends"] = {**names, "description": "Files that this one changes, relative to it."}
    return schema


def _as_written(schema: Any) -> Any:
    """From what a resolved configuration is to what one file may say."""
    if isinstance(schema, list):
        return [_as_written(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        key: _as_written(part) for key, part in schema.items() if key not in ("required", "discriminator", "oneOf")
    }
    if "oneOf" in schema:  # without a name, several of the sections may fit
        found["anyOf"] = [{"enum": sorted(schema["discriminator"]["mapping"])}, *schema["oneOf"]]
    elif "$ref" in schema and not schema["$ref"].endswith("Section"):  # the only component of its kind
        found = {"anyOf": [{"type": "string"}, found]}
    if isinstance(found.get("properties"), dict):
        found["properties"] = {key: _or_reference(part) for key, part in found["properties"].items()}
    return found


def _or_reference(schema: dict[str, Any]) -> dict[str, Any]:
    about = {key: schema[key] for key in _ABOUT if key in schema}
    return {**about, "anyOf": [{key: part for key, part in schema.items() if key not in _ABOUT}, _REFERENCE]}
