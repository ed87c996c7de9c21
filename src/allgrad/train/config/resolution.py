"""Reading a run's configuration: a YAML file, `key.sub=value` overrides, and one error that lists everything that is wrong.

`resolve` returns a `RunConfig` (schema.py) in which every key is set and checked, or raises `ConfigError`. How files, `extends`,
`${...}` and overrides combine is in sources.py; what a component's name means is in registry.py. pydantic and PyYAML are imported
by the functions that need them, so that importing this module costs nothing.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import PurePath
from typing import TYPE_CHECKING

from allgrad.train.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allgrad.train.config.schema import RunConfig
    from allgrad.train.config.validation import RunPlan

__all__ = ["default_name", "dump_yaml", "from_json", "plan", "resolve", "schema_type", "startup_seconds"]


def resolve(path: str | Path, overrides: Sequence[str] = (), *, plugins: Sequence[str | Path] = ()) -> RunConfig:
    """The configuration in `path`, with overrides, checked.

    Args:
        path: a YAML file, or `package:NAME.yaml` for one that comes with allgrad.
        overrides: texts of the form `key.sub=value`; the value is YAML.
        plugins: the user's Python files or modules that register components.

    Raises:
        ConfigError: lists everything that is wrong.
        PluginError: a plugin cannot be imported.

    Example:
        >>> config = resolve("package:moby_dick.yaml", ["train.steps=20", "optimizer.lr=1e-3"])  # doctest: +SKIP
        >>> config.train.steps, config.optimizer.lr  # doctest: +SKIP
        (20, 0.001)
    """
    from pydantic import ValidationError

    from allgrad.train.config.explain import explain
    from allgrad.train.config.paths import absolute_paths, check_environment
    from allgrad.train.config.sources import locate, merge, read_sources, source_of
    from allgrad.train.config.validation import check_keys

    schema = schema_type(plugins)
    sources = read_sources(path, overrides)
    data, from_environment = merge(sources)

    def where(key: tuple[str | int, ...]) -> str:
        return locate(sources, key)

    try:
        # Through JSON, because pydantic's strict mode accepts a list where a tuple is expected only from JSON.
        config = schema.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise ConfigError(explain(error, data, schema, where)) from error
    if mistakes := [*check_keys(config, where), *check_environment(config, from_environment, where)]:
        raise ConfigError(mistakes)

    def directory(key: tuple[str | int, ...]) -> Path | None:
        source = source_of(sources, key)
        return None if source is None else source.directory

    return absolute_paths(config, directory)


def startup_seconds(path: str | Path, overrides: Sequence[str] = ()) -> float:
    """How long ranks may take to join, as the configuration in `path` says; the default if it says nothing or has mistakes.

    A rank needs this before it joins. Mistakes are reported later, when the ranks can agree on them, and plugins run later. Not
    every rank can read the configuration of a run that continues.
    """
    from allgrad.train.config.schema import ParallelSection
    from allgrad.train.config.sources import merge, read_sources

    with suppress(ConfigError, OSError):
        section = merge(read_sources(path, overrides))[0].get("parallel")
        found = section.get("startup_seconds") if isinstance(section, dict) else None
        if isinstance(found, int | float) and 0 < found <= 1e6:
            return float(found)
    return float(ParallelSection().startup_seconds)


def default_name(path: str | Path) -> str:
    """The name of a run whose configuration gives none: the file's, without its ending.

    Example:
        >>> default_name("configs/diamonds.yaml"), default_name("package:diamonds.yaml")
        ('diamonds', 'diamonds')
    """
    return PurePath(str(path).removeprefix("package:")).stem


def from_json(text: str, *, plugins: Sequence[str | Path] = ()) -> RunConfig:
    """A configuration that `resolve` returned elsewhere, from its `model_dump_json()`."""
    return schema_type(plugins).model_validate_json(text)


def plan(config: RunConfig, samples: int) -> RunPlan:
    """How many steps the run has, given the number of training samples.

    Raises:
        ConfigError: the warm-up is as long as the run (which, for a run in epochs, only the data can tell).
    """
    from allgrad.train.config.validation import plan_run

    planned, mistakes = plan_run(config, samples)
    if mistakes:
        raise ConfigError(mistakes)
    return planned


def dump_yaml(config: RunConfig) -> str:
    """The configuration as YAML, with every key written out. `resolve` reads an equal configuration from it."""
    from allgrad.train.config.interpolation import escape
    from allgrad.train.config.yaml_text import dump

    return dump(escape(config.model_dump(mode="json")))


def schema_type(plugins: Sequence[str | Path] = ()) -> type[RunConfig]:
    """The type that configurations are checked against, with the options of all registered components."""
    from allgrad.train.config.options import run_config_type
    from allgrad.train.config.plugins import load_plugins
    from allgrad.train.config.registry import load_builtin

    load_builtin()
    load_plugins(plugins)
    return run_config_type()
