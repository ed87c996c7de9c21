"""From files and overrides to one mapping, and from a key back to the place where it was written.

The sources of a configuration are, from the lowest to the highest: the files that `extends` names (recursively; of several,
later ones win), the file itself, and the overrides from the command line. A source changes the ones below it key by key; lists
are replaced as a whole. Three rules go beyond that:

- a component may be given as a plain string: `loss: mse` means `loss: {name: mse}`;
- a source that gives a component another `name` drops the options of the old one. What all components of that kind share,
  such as an optimizer's `lr` and `schedule`, stays;
- of two keys that exclude each other (`train.steps`, `train.epochs`), the one in the higher source wins.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allgrad.train.config.errors import ConfigError, Mistake, shorten
from allgrad.train.config.interpolation import interpolate
from allgrad.train.config.schema import (
    COMPONENT_LISTS,
    EXCLUSIVE,
    Component,
    OptimizerSection,
    ScheduleSection,
    WarmModelSection,
)
from allgrad.train.config.seal import broken_seal
from allgrad.train.config.yaml_text import DEEPEST, Budget, load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Source", "locate", "merge", "read_sources", "source_of"]

COMPONENTS: tuple[tuple[tuple[str, ...], type[Component]], ...] = (
    (("model",), WarmModelSection),
    (("data",), Component),
    (("loss",), Component),
    (("optimizer",), OptimizerSection),
    (("optimizer", "schedule"), ScheduleSection),
    (("parallel", "reduction"), Component),
)
"""The sections that name a component, and the keys that all components of that kind share."""

PACKAGE = "package:"
"""Prefix of a configuration that is part of allgrad: `package:diamonds.yaml`."""

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Source:
    """One file, or all overrides.

    Attributes:
        label: the file's path as given, or "command line".
        directory: what relative paths in it are relative to.
        values: its content, references unresolved, components that were plain strings as sections.
        lines: the line of each key, counted from 1; none for overrides.
    """

    label: str
    directory: Path
    values: dict[str, Any]
    lines: Mapping[Path_, int]


def read_sources(path: str | Path, overrides: Sequence[str]) -> list[Source]:
    """All sources, lowest first.

    Raises:
        ConfigError: a file is missing or is not a YAML mapping, `extends` goes in a circle, or an override is not
            `key.sub=value`.
    """
    budget = Budget()
    sources = _read_chain(path, (), budget)
    if overrides:
        values: dict[str, Any] = {}
        for text in overrides:
            # A name in its short form is a section at once: `optimizer=muon optimizer.lr=1e-2` means both.
            values = _merged(values, _named(_override(text, budget), {}))
        sources.append(Source("command line", Path.cwd(), values, {}))
    return sources


def merge(sources: Sequence[Source]) -> tuple[dict[str, Any], dict[Path_, str]]:
    """One mapping, with `${...}` resolved, and the keys that contain an environment variable (see `interpolate`).

    Raises:
        ConfigError: a reference leads nowhere or in a circle.
    """
    total: dict[str, Any] = {}
    for source in sources:
        _make_room(total, source.values)
        total = _merged(total, source.values)
    return interpolate(total, lambda path: locate(sources, path))


def source_of(sources: Sequence[Source], path: Path_) -> Source | None:
    """The source that gave a key its value; None where no source gave one."""
    return next((source for source in reversed(sources) if _holds(source.values, path)), None)


def locate(sources: Sequence[Source], path: Path_) -> str:
    """Where a key was written: "FILE:LINE" or "command line"; for a key that nobody wrote, where its section was."""
    for depth in range(len(path), 0, -1):
        source = source_of(sources, path[:depth])
        if source is not None:
            line = source.lines.get(path[:depth])
            return f"{source.label}:{line}" if line else source.label
    return next((source.label for source in reversed(sources) if source.lines), sources[0].label)


def _read_chain(path: str | Path, above: tuple[Path, ...], budget: Budget) -> list[Source]:
    file = _package_file(str(path)) if str(path).startswith(PACKAGE) else Path(path)
    budget.spend(lambda: str(path), files=1)
    document = load(_read_text(file, str(path)), str(path), budget)
    resolved = file.resolve()
    if resolved in above:
        circle = " -> ".join(part.name for part in [*above[above.index(resolved) :], resolved])
        raise ConfigError([Mistake("extends", f"the files extend each other in a circle: {circle}.", str(path))])
    values = {} if document.value is None else document.value
    if not isinstance(values, dict):
        raise ConfigError([Mistake("", "must be a mapping of sections (model: ..., data: ..., ...).", str(path))])
    bases = values.pop("extends", None)
    source = Source(str(path), file.absolute().parent, _named(values, document.lines), document.lines)
    names = bases if isinstance(bases, list) else [] if bases is None else [bases]
    if any(not isinstance(name, str) for name in names):
        where = f"{path}:{document.lines[('extends',)]}"
        raise ConfigError([Mistake("extends", f"expected a file name or a list of them, got {shorten(bases)}.", where)])
    chain: list[Source] = []
    for name in names:
        base = name if name.startswith(PACKAGE) else file.parent / Path(name).expanduser()
        chain += _read_chain(base, (*above, resolved), budget)
    return [*chain, source]


def _package_file(name: str) -> Path:
    """The path of a configuration that is part of allgrad."""
    import allgrad

    directory = Path(allgrad.__file__).parent / "configs"
    path = directory / name.removeprefix(PACKAGE)
    if path.parent != directory or not path.is_file():
        known = ", ".join(sorted(PACKAGE + file.name for file in directory.glob("*.yaml")))
        raise ConfigError([Mistake("", f"is not a configuration that comes with allgrad. Known: {known}.", name)])
    return path


def _read_text(path: Path, label: str) -> str:
    """The text of a regular file, of which no more is read than a configuration may have."""

    def refuse(text: str) -> ConfigError:
        return ConfigError([Mistake("", text, label)])

    limit = Budget().characters
    try:
        # Non-blocking, because opening a FIFO would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise refuse("is not a regular file.")
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(limit + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        near = get_close_matches(path.name, [other.name for other in path.parent.glob("*.yaml")], n=1)
        hint = f"Did you mean {path.parent / near[0]}?" if near else "Check the path."
        raise refuse(f"there is no such file. {hint}") from error
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # NUL in the name
        raise refuse(f"is not a file name: {error}.") from error
    if len(content) > limit:
        raise refuse(f"is larger than {limit >> 20} MiB, the most that a configuration may have.")
    if broken_seal(content):
        raise refuse(
            "does not have the digest in its first line: it was edited, or damaged. If you edited it, delete that line and read "
            "it again."
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refuse(f"is not valid UTF-8 (invalid byte at offset {error.start}).") from error


def _override(text: str, budget: Budget) -> dict[str, Any]:
    """The nested mapping that `key.sub=value` means."""
    key, equals, value = text.partition("=")
    hint = "Write overrides as key.sub=value, for example optimizer.lr=1e-3."
    parts = key.split(".")
    if not equals or not all(parts) or any(letter.isspace() for letter in key) or len(parts) > DEEPEST:
        raise ConfigError([Mistake("", f"{shorten(text)} is not an override. {hint}", "command line")])
    try:
        found = load(value, "command line", budget).value
    except ConfigError as error:
        cause = error.mistakes[0].text
        raise ConfigError([Mistake(key, f"{shorten(value)}: {cause} {hint}", "command line")]) from error
    for part in reversed(parts):
        found = {part: found}
    values: dict[str, Any] = found
    return values


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A new mapping: `below`, changed by `above` key by key."""
    total = dict(below)
    for key, value in above.items():
        old = total.get(key)
        total[key] = _merged(old if isinstance(old, dict) else {}, value) if isinstance(value, dict) else value
    return total


def _named(values: dict[str, Any], lines: dict[Path_, int]) -> dict[str, Any]:
    """`values` with each component that is a plain string as a section with that name, at the same line."""
    total = _merged({}, values)
    for path in [path for path, _ in COMPONENTS] + list(COMPONENT_LISTS):
        parent = _at(total, path[:-1])
        if not isinstance(parent, dict):
            continue
        part = parent.get(path[-1])
        if isinstance(part, str) and path not in COMPONENT_LISTS:
            parent[path[-1]] = {"name": part}
            lines[(*path, "name")] = lines.get(path, 0)
        if isinstance(part, list) and path in COMPONENT_LISTS:
            parent[path[-1]] = [{"name": each} if isinstance(each, str) else each for each in part]
    return total


def _make_room(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Take out of `below` what the rules at the top of this file say that `above` replaces."""
    for path, common in COMPONENTS:
        section = _at(below, path)
        old, new = _at(below, (*path, "name")), _at(above, (*path, "name"))
        if old is not None and new is not None and old != new:
            for option in set(section) - set(common.model_fields):
                del section[option]
    for pair in EXCLUSIVE:
        for mine, other in (pair, pair[::-1]):
            section = _at(below, other[:-1])
            if _at(above, mine) is not None and isinstance(section, dict):
                section.pop(other[-1], None)


def _at(values: Any, path: Sequence[str]) -> Any:
    """The value under `path`; None where there is none."""
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _holds(values: Any, path: Path_) -> bool:
    for key in path:
        inside = key in values if isinstance(values, dict) else isinstance(values, list) and key in range(len(values))
        if not inside:
            return False
        values = values[key]
    return True
