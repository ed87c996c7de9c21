"""`docs/configuration.md`: every key of a configuration, from the schema that checks it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from allgrad.train.config.resolution import schema_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    Schema = Mapping[str, Any]

__all__ = ["reference"]

INTRODUCTION = """\
# Configuration reference

A run is described by one YAML file. This page lists every key that it can have. It is made from the schema by
`allgrad config --reference`; `allgrad config --schema` prints the same as a JSON schema for editors, and
`allgrad config FILE [key=value ...]` prints a file as a run would see it.

    seed: 1
    model: {name: mlp, hidden: [128, 128]}
    data: {name: csv, path: table.csv, target: price, numeric: [width, height]}
    loss: mse
    batch: {size: 256}
    optimizer: {name: adamw, lr: 4e-3, schedule: {name: cosine, warmup: 0.05}}
    train: {epochs: 12, eval_every: epoch}

- **Files.** `extends: base.yaml` (or a list of files) starts from other files, relative to this one; later ones win, and lists
  are replaced as a whole. `package:NAME.yaml` is a configuration that comes with allgrad.
- **Overrides.** `allgrad train FILE optimizer.lr=1e-3 model.name=gpt` changes single keys. Another `name` drops the options of
  the old component.
- **References.** `${data.context}` is the value of another key, and `$${` a literal `${`. `${env:NAME}` is an environment
  variable, accepted only in paths.
- **Paths** are relative to the file that says them, or to the working directory on the command line; `~` is the home directory.
  `run.dir` is always relative to the working directory. A run stores absolute paths.
- **Values.** `1e-3` and `100_000` are numbers. `on`, `010`, `0x1F` and `1:30` are texts, which are refused where a number is
  expected. A text that looks like a number needs quotes.
- **Components** (models, data sets, losses, ...) are named by `name`; `loss: mse` is short for `loss: {name: mse}`. A plugin
  (`--plugin my_module.py`) registers more.
"""

COMPONENTS = (
    ("Model", "model"),
    ("Data", "data"),
    ("Loss", "loss"),
    ("Optimizer", "optimizer"),
    ("Schedule", "optimizer.schedule"),
    ("Metric", "train.metrics[]"),
    ("Callback", "train.callbacks[]"),
    ("Logger", "logging.loggers[]"),
)
"""How the types of each kind of component end, and where they are in a file."""


LARGE = 2**31
"""Bounds from here on only keep nonsense out, and are not worth a reader's time."""


def reference(*, plugins: Sequence[str | Path] = ()) -> str:
    """The reference of all keys, as Markdown."""
    schema = schema_type(plugins).model_json_schema()
    types: dict[str, Schema] = schema["$defs"]
    sections = {name: path for path, name in _sections(schema, types, "")}
    lines = [INTRODUCTION, "## Top level", "", *_table(schema, schema["properties"], types)]
    for name, path in sections.items():
        lines += [
            "",
            f"## `{path}`",
            "",
            types[name]["description"],
            "",
            *_table(types[name], types[name]["properties"]),
        ]
    for ending, path in COMPONENTS:
        found = {name: type_ for name, type_ in types.items() if name.endswith(ending) and name not in sections}
        if found:
            lines += _kind(path, list(found.values()))
    return "\n".join(lines) + "\n"


def _kind(path: str, types: Sequence[Schema]) -> list[str]:
    """The components of one kind: the keys that all of them have once, then each with its own options."""
    first, *others = (type_["properties"] for type_ in types)
    shared = {key: part for key, part in first.items() if others and all(other.get(key) == part for other in others)}
    lines = ["", f"## `{path}`"]
    if shared:
        lines += ["", "All of them have these keys:", "", *_table(types[0], shared)]
    for type_ in types:
        lines += _component(path, type_, shared)
    return lines


def _component(path: str, schema: Schema, shared: Mapping[str, Schema]) -> list[str]:
    name = schema["properties"]["name"]["const"]
    own = {key: part for key, part in schema["properties"].items() if key not in shared and key != "name"}
    table = ["", *_table(schema, own)] if own else []
    return ["", f"### `{path}: {{name: {name}}}`", "", schema.get("description", ""), *table]


def _sections(schema: Schema, types: Mapping[str, Schema], prefix: str) -> Iterator[tuple[str, str]]:
    """(path, type) of every plain section below a type."""
    for key, part in schema["properties"].items():
        for option in part.get("anyOf", [part]):
            name = option.get("$ref", "").rpartition("/")[2]
            if name.endswith("Section"):
                yield prefix + key, name
                yield from _sections(types[name], types, f"{prefix}{key}.")


def _table(schema: Schema, properties: Mapping[str, Schema], types: Mapping[str, Schema] | None = None) -> list[str]:
    """A table of keys; the description of one that has none is its type's, in `types`."""
    required = schema.get("required", ())
    lines = ["| key | type | default | what it is |", "|---|---|---|---|"]
    for key, part in properties.items():
        default = "(required)" if key in required else _default(part)
        named = (types or {}).get(part.get("$ref", "").rpartition("/")[2], {})
        text = " ".join(str(part.get("description", named.get("description", ""))).split())
        lines.append("| " + " | ".join(_cell(cell) for cell in (f"`{key}`", _words(part), default, text)) + " |")
    return lines


def _default(schema: Schema) -> str:
    if "default" not in schema or (isinstance(schema["default"], dict) and schema["default"]):
        return ""  # a section: each of its keys has its own default
    return f"`{json.dumps(schema['default'])}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _words(schema: Schema) -> str:
    """A type in words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_words(option) for option in schema["anyOf"]))
    if "oneOf" in schema:
        return "component"
    if "$ref" in schema:
        return "section" if schema["$ref"].endswith("Section") else "component"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])}: {_words(schema['prefixItems'][0])}"
        return f"list of {_words(schema.get('items', {}))}"
    if kind == "object":
        return f"mapping of texts to {_words(schema.get('additionalProperties', {}))}"
    return {"string": "text", "boolean": "true, false", "null": "null"}.get(str(kind), f"{kind}{_bounds(schema)}")


def _bounds(schema: Schema) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    shown = {key: sign for key, sign in signs.items() if key in schema and abs(schema[key]) < LARGE}
    return f" {', '.join(f'{sign} {schema[key]:,.16g}' for key, sign in shown.items())}" if shown else ""
