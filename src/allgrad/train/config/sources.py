"""From files and overrides to one mapping, and from a key back to the place where it was written.

Contract. The layers of a configuration are, from the bottom: what `extends` names (recursively, relative to the file
that says it; of several, later ones win), the file itself, the overrides of the command line. OmegaConf reads each
(YAML 1.1 without its traps: `1e-3` is a number, a key that stands twice is an error), merges them key by key (lists
are replaced as a whole) and then resolves `${...}`. Two rules make changing one's mind in an upper layer possible:

- a layer that gives a section another `name` drops the options of the old component (what is common to the section,
  like an optimizer's `lr` and `schedule`, stays);
- of keys that exclude each other (`train.steps`, `train.epochs`), one in an upper layer clears the other below.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from allgrad.train.config.errors import ConfigError, Problem
from allgrad.train.config.schema import Component, OptimizerSection, ScheduleSection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["EXCLUSIVE", "Layer", "locate", "merge", "read_layers"]

EXCLUSIVE = (
    (("train", "steps"), ("train", "epochs")),
    (("checkpoint", "every"), ("checkpoint", "every_minutes")),
    (("optimizer", "clip_norm"), ("optimizer", "clip_value")),
)

COMPONENTS: tuple[tuple[tuple[str, ...], type[Component]], ...] = (
    (("model",), Component),
    (("data",), Component),
    (("loss",), Component),
    (("optimizer",), OptimizerSection),
    (("optimizer", "schedule"), ScheduleSection),
)
"""Where sections with a `name` stand, and what is common to those of one kind."""

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Layer:
    """One file, or all overrides.

    Attributes:
        label: the file's path as given, or "command line".
        config: its content, `${...}` unresolved.
        lines: where each key stands, 1-based; empty for overrides.
    """

    label: str
    config: DictConfig
    lines: Mapping[Path_, int]


def read_layers(path: str | Path, overrides: Sequence[str]) -> list[Layer]:
    """All layers, lowest first.

    Raises:
        ConfigError: when a file is missing or no YAML mapping, `extends` goes in a circle, or an override is no
            `key.sub=value`.
    """
    layers = _read_chain(Path(path), ())
    if overrides:
        merged = OmegaConf.merge(*[_override(text) for text in overrides])
        assert isinstance(merged, DictConfig)
        layers.append(Layer("command line", merged, {}))
    return layers


def merge(layers: Sequence[Layer]) -> dict[str, Any]:
    """One plain mapping, with `${...}` resolved.

    Raises:
        ConfigError: for an interpolation that leads nowhere or in a circle, and a mandatory value (`???`) not given.
    """
    total = OmegaConf.create({})
    for layer in layers:
        _make_room(total, layer.config)
        merged = OmegaConf.merge(total, layer.config)
        assert isinstance(merged, DictConfig)
        total = merged
    try:
        plain = OmegaConf.to_container(total, resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, RecursionError) as error:
        raise ConfigError([_unresolved(layers, error)]) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def locate(layers: Sequence[Layer], path: Path_) -> str:
    """Where a key was written: "FILE:LINE" or "command line"; for a key that nobody wrote, where its section was."""
    for depth in range(len(path), 0, -1):
        for layer in reversed(layers):
            if _holds(layer.config, path[:depth]):
                line = layer.lines.get(path[:depth])
                return f"{layer.label}:{line}" if line else layer.label
    files = [layer.label for layer in layers if layer.lines] or [layer.label for layer in layers]
    return files[-1]


def _read_chain(path: Path, below: tuple[Path, ...]) -> list[Layer]:
    resolved = path.resolve()
    if resolved in below:
        circle = " -> ".join(part.name for part in [*below[below.index(resolved) :], resolved])
        raise ConfigError(
            [Problem(str(path), "extends", "a chain of files that ends", circle, "Remove one `extends`.")]
        )
    layer = _read_file(path)
    bases = layer.config.pop("extends", None)
    names = list(bases) if OmegaConf.is_list(bases) else [] if bases is None else [bases]
    if any(not isinstance(name, str) for name in names):
        where = f"{path}:{layer.lines[('extends',)]}"
        raise ConfigError([Problem(where, "extends", "a file name or a list of them", str(bases), "")])
    chain = [part for name in names for part in _read_chain(path.parent / name, (*below, resolved))]
    return [*chain, layer]


def _read_file(path: Path) -> Layer:
    label = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = get_close_matches(path.name, [file.name for file in path.parent.glob("*.yaml")], n=1)
        hint = f"Did you mean {path.parent / near[0]}?" if near else "Check the path."
        raise ConfigError([Problem(label, "", "a configuration file", "no such file", hint)]) from error
    except OSError as error:
        raise ConfigError([Problem(label, "", "a readable file", error.strerror or str(error), "")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(label, "", "UTF-8 text", f"byte {error.start} is none", "")]) from error
    try:
        config = OmegaConf.create(text) if text.strip() else OmegaConf.create({})
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{label}:{mark.line + 1}" if mark else label
        raise ConfigError([Problem(where, "", "valid YAML", f"{error.problem}", "")]) from error
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError([Problem(label, "", "valid YAML", str(error).splitlines()[0], "")]) from error
    if not isinstance(config, DictConfig) or (node is not None and not isinstance(node, yaml.MappingNode)):
        raise ConfigError([Problem(label, "", "a mapping of sections (model:, data:, ...)", "something else", "")])
    lines: dict[Path_, int] = {}
    if node is not None:
        _collect_lines(node, (), lines)
    return Layer(label, config, lines)


def _collect_lines(node: yaml.Node, path: Path_, lines: dict[Path_, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                lines[(*path, key.value)] = key.start_mark.line + 1
                _collect_lines(value, (*path, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*path, index)] = value.start_mark.line + 1
            _collect_lines(value, (*path, index), lines)


def _override(text: str) -> DictConfig:
    key, equals, _ = text.partition("=")
    hint = "Write overrides as key.sub=value, for example optimizer.lr=1e-3."
    if not equals or not all(key.split(".")) or any(letter.isspace() for letter in key):
        raise ConfigError([Problem("command line", "", "key.sub=value", repr(text), hint)])
    try:
        return OmegaConf.from_dotlist([text])
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        cause = str(error).splitlines()[0]
        raise ConfigError([Problem("command line", key, "a YAML value", f"{text!r} ({cause})", hint)]) from error


def _make_room(below: DictConfig, layer: DictConfig) -> None:
    """Take out of `below` what the two rules on top say that `layer` replaces."""
    for path, common in COMPONENTS:
        old, new = _raw(below, (*path, "name")), _raw(layer, (*path, "name"))
        if old is not None and new is not None and old != new:
            for option in set(_raw(below, path)) - set(common.model_fields):
                _delete(below, (*path, option))
    for pair in EXCLUSIVE:
        for mine, other in (pair, pair[::-1]):
            if _raw(layer, mine) is not None:
                _delete(below, other)


def _raw(config: Any, path: Path_) -> Any:
    """The value under `path` as written (`${...}` unresolved); None where there is none."""
    for key in path:
        if not OmegaConf.is_dict(config) or key not in config._content:
            return None
        config = config._get_node(key)
    return config if OmegaConf.is_config(config) else config._value()


def _holds(config: Any, path: Path_) -> bool:
    plain: Any = OmegaConf.to_container(config, resolve=False)
    for key in path:
        if isinstance(plain, str):
            return False
        try:
            plain = plain[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _delete(config: DictConfig, path: Path_) -> None:
    parent: Any = config
    for key in path[:-1]:
        if not OmegaConf.is_dict(parent) or key not in parent:
            return
        parent = parent[key]
    if OmegaConf.is_dict(parent):
        parent.pop(path[-1], None)


def _unresolved(layers: Sequence[Layer], error: BaseException) -> Problem:
    key = str(getattr(error, "full_key", "") or "")
    path: Path_ = tuple(key.split(".")) if key else ()
    cause = str(error).splitlines()[0]
    where = locate(layers, path) if path else layers[-1].label
    if isinstance(error, MissingMandatoryValue):
        return Problem(where, key, "a value", "???", "It must be given in the file or as an override.")
    if isinstance(error, RecursionError):
        cause = "references that go in a circle"
    return Problem(where, key, "a reference ${section.key} that can be resolved", cause, "")
