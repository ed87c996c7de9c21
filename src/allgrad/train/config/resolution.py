"""Reading a run's configuration: one YAML file, `key.sub=value` overrides, and one message for all that is wrong.

Contract.

- `resolve` returns a `RunConfig` (schema.py) in which everything is set, known and checked, or raises `ConfigError`,
  whose message has one line for each mistake: file and line, key, what was expected, what came, the way out.
- How files, `extends`, `${...}` and overrides combine stands in layers.py; what names mean, in registry.py.
- `dump_yaml` writes what `resolve` read: resolving that file again gives an equal `RunConfig`.
- Importing this module costs nothing: pydantic and OmegaConf are imported by the functions that need them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from allgrad.train.config.errors import ConfigError, Problem, problems_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allgrad.train.config.schema import RunConfig
    from allgrad.train.config.validation import RunPlan

__all__ = ["ConfigError", "Problem", "changed_keys", "dump_yaml", "from_json", "json_schema", "plan", "resolve"]


def resolve(path: str | Path, overrides: Sequence[str] = (), *, plugins: Sequence[str | Path] = ()) -> RunConfig:
    """The configuration in `path`, with overrides, checked.

    Args:
        path: a YAML file.
        overrides: `key.sub=value` each; the value is YAML.
        plugins: Python files that register models, data sets or losses of the user's.

    Raises:
        ConfigError: with everything that is wrong.
        allgrad.train.config.registry.PluginError: when a plugin cannot be run.

    Example:
        >>> config = resolve("configs/moby_dick.yaml", ["train.steps=20", "optimizer.lr=1e-3"])  # doctest: +SKIP
        >>> config.train.steps, config.optimizer.lr  # doctest: +SKIP
        (20, 0.001)
    """
    from pydantic import ValidationError

    from allgrad.train.config.sources import locate, merge, read_layers
    from allgrad.train.config.validation import check_together

    schema = _schema(plugins)
    layers = read_layers(path, overrides)
    data = merge(layers)

    def where(key: tuple[Any, ...]) -> str:
        return locate(layers, key)

    try:
        # By way of JSON, because pydantic's strict mode takes a list for a tuple from JSON only.
        config = schema.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise ConfigError(problems_of(error, data, schema, where)) from error
    problems = check_together(config, where)
    if problems:
        raise ConfigError(problems)
    return config


def from_json(text: str, *, plugins: Sequence[str | Path] = ()) -> RunConfig:
    """A configuration that `resolve` returned elsewhere, from its `model_dump_json()`."""
    return _schema(plugins).model_validate_json(text)


def plan(config: RunConfig, samples: int) -> RunPlan:
    """How many steps the run has, given the number of training samples.

    Raises:
        ConfigError: when the warm-up is as long as the run (which, for a run in epochs, only the data can tell).
    """
    from allgrad.train.config.validation import plan_run

    planned, wrong = plan_run(config, samples)
    if wrong:
        raise ConfigError([Problem("configuration", *finding) for finding in wrong])
    return planned


def changed_keys(one: RunConfig, other: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Where two configurations differ: dotted key to the two values; a key that one lacks has None there.

    A resumed run is compared with the `config.yaml` in its folder by this.
    """
    first, second = _flat(one.model_dump(mode="json")), _flat(other.model_dump(mode="json"))
    pairs = {key: (first.get(key), second.get(key)) for key in [*first, *second]}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def dump_yaml(config: RunConfig) -> str:
    """The configuration as YAML, every key written out, in the schema's order."""
    import yaml

    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    return text


def json_schema(*, plugins: Sequence[str | Path] = ()) -> dict[str, Any]:
    """The JSON schema of a configuration file, for editors: all keys with their types, defaults and descriptions.

    A file may leave out what stands in the one that it extends, a section's `name` too, and give `${...}` for any value.
    """
    schema: dict[str, Any] = _as_written(_schema(plugins).model_json_schema())
    names = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    schema["properties"]["extends"] = {**names, "description": "Files that this one is laid over, relative to it."}
    return schema


_REFERENCE = {"type": "string", "pattern": r"\$\{.+\}"}
_ABOUT = ("title", "description", "default")


def _as_written(schema: Any) -> Any:
    """From what a resolved configuration is to what one file may say."""
    if isinstance(schema, list):
        return [_as_written(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _as_written(part) for key, part in schema.items() if key not in ("required", "discriminator")}
    if "oneOf" in found:  # without a name, several of the sections may fit
        found["anyOf"] = found.pop("oneOf")
    if isinstance(found.get("properties"), dict):
        found["properties"] = {key: _or_reference(part) for key, part in found["properties"].items()}
    return found


def _or_reference(schema: dict[str, Any]) -> dict[str, Any]:
    about = {key: schema[key] for key in _ABOUT if key in schema}
    return {**about, "anyOf": [{key: part for key, part in schema.items() if key not in _ABOUT}, _REFERENCE]}


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in section.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _schema(plugins: Sequence[str | Path]) -> type[RunConfig]:
    from allgrad.train.config.registry import load_builtin, load_plugins
    from allgrad.train.config.schema import run_config_type

    load_builtin()
    load_plugins(plugins)
    return run_config_type()
