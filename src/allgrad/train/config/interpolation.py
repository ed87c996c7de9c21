"""`${section.key}` in a configuration: replaced by the value of that key, wherever it was given.

A text that is a reference and nothing else takes the value with its type; inside a longer text the value is written out.
`$${` is a literal `${`. `${env:NAME}` is an environment variable. It is accepted only in options that are paths
(`resolve` checks that), because a run stores its configuration, where a password must not end up.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from allgrad.train.config.errors import LONGEST_VALUE, ConfigError, Mistake, did_you_mean, shorten
from allgrad.train.config.yaml_text import DEEPEST, Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["escape", "interpolate"]

Path_ = tuple[str | int, ...]

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}$]*)(\}?)")
_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")


def interpolate(data: Mapping[str, Any], locate: Callable[[Path_], str]) -> tuple[dict[str, Any], dict[Path_, str]]:
    """`data` with every reference resolved, and the keys whose values contain an environment variable, with its name.

    Args:
        locate: from a key's path to the place where it was written.

    Raises:
        ConfigError: a reference leads nowhere or in a circle, or the result is too large.

    Example:
        >>> interpolate({"batch": {"size": 8}, "name": "b${batch.size}"}, str)
        ({'batch': {'size': 8}, 'name': 'b8'}, {})
    """
    resolver = _Resolver(data, locate)
    return resolver.value(data, ()), resolver.from_environment


def escape(value: Any) -> Any:
    """`value` with each `${` in its texts doubled to `$${`, so that `interpolate` returns it as it was."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {key: escape(part) for key, part in value.items()}
    if isinstance(value, list):
        return [escape(part) for part in value]
    return value


class _Resolver:
    def __init__(self, data: Mapping[str, Any], locate: Callable[[Path_], str]) -> None:
        self.data, self.locate, self.budget = data, locate, Budget()
        self.active: list[str] = []
        self.from_environment: dict[Path_, str] = {}

    def value(self, value: Any, path: Path_) -> Any:
        """A copy of `value` without references."""
        if len(path) > DEEPEST:
            self.refuse(path, f"references nest it more than {DEEPEST} deep.")
        characters = len(value) if isinstance(value, str) else 0
        self.budget.spend(lambda: self.locate(path), nodes=1, characters=characters)
        if isinstance(value, dict):
            return {key: self.value(part, (*path, key)) for key, part in value.items()}
        if isinstance(value, list):
            return [self.value(part, (*path, place)) for place, part in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return self.text(value, path)
        return value

    def text(self, text: str, path: Path_) -> Any:
        whole = _REFERENCE.fullmatch(text)
        if whole is not None and whole[1] is not None:
            return self.reference(whole, path)

        def written(found: re.Match[str]) -> str:
            if found[1] is None:
                return "${"
            value = self.reference(found, path)
            if isinstance(value, dict | list):
                self.refuse(path, f"{found[0]} is a section or a list, and cannot be part of a text.")
            return value if isinstance(value, str) else json.dumps(value)

        return _REFERENCE.sub(written, text)

    def reference(self, found: re.Match[str], path: Path_) -> Any:
        name = found[1]
        if found[2] and name.startswith("env:"):
            return self.environment(name.removeprefix("env:"), path)
        if not found[2] or not _NAME.fullmatch(name):
            self.refuse(
                path,
                f"{shorten(found[0])} is neither ${{section.key}} nor ${{env:NAME}}. Write $${{ for a literal ${{.",
            )
        if name in self.active:
            self.refuse(path, f"references go in a circle: {' -> '.join([*self.active[-5:], name])}.")
        if len(self.active) >= DEEPEST:
            self.refuse(path, f"a chain of more than {DEEPEST} references.")
        target: Any = self.data
        for key in name.split("."):
            if not isinstance(target, dict) or key not in target:
                known = did_you_mean(key, target) if isinstance(target, dict) else "There is no section above it."
                self.refuse(path, f"${{{name[:LONGEST_VALUE]}}} refers to a key that is not set. {known}")
            target = target[key]
        self.active.append(name)
        value = self.value(target, path)
        self.active.pop()
        return value

    def environment(self, name: str, path: Path_) -> str:
        if name not in os.environ:
            self.refuse(path, f"the environment variable {shorten(name)} is not set.")
        self.from_environment[path] = name
        return os.environ[name]

    def refuse(self, path: Path_, text: str) -> None:
        raise ConfigError([Mistake(".".join(map(str, path)), text, self.locate(path))])
