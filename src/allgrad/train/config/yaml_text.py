"""The YAML of configurations: one dialect for reading and writing, with limits on what a file may ask for.

Reading follows the core schema of YAML 1.2, with what surprises people left out. A plain (unquoted) scalar is

| what                                  | written as                                      |
|---------------------------------------|-------------------------------------------------|
| null                                  | nothing, `~`, `null`                            |
| a boolean                             | `true`, `false`                                 |
| an integer                            | `12`, `-3`, `100_000` (groups of three digits)  |
| a number                              | `0.5`, `.5`, `1e-3`, `1.5E3`, `.inf`, `.nan`    |
| a text                                | everything else: `on`, `1:30`, `010`, `0x1F`    |

So `seed: 010`, which YAML 1.1 reads as 8 and YAML 1.2 as 10, is a text, and is refused where an integer is expected. Mapping
keys are always texts. Tags (`!!binary`), merge keys (`<<`) and several documents in one file are refused.

Writing quotes every text that this dialect, or a reader of YAML 1.1, would take for something else, so that `load(dump(x))`
equals `x`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from allgrad.train.config.errors import ConfigError, Mistake, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["DEEPEST", "Budget", "Document", "dump", "load"]

Path_ = tuple[str | int, ...]

DEEPEST = 50
"""How deep lists and mappings may be nested."""


@dataclass
class Budget:
    """What is left of what one configuration, with all the files that it extends, may use.

    Attributes:
        files: files to read.
        characters: characters in all of them, or in the result of `${...}`.
        nodes: values, keys not counted.
    """

    files: int = 64
    characters: int = 1 << 20
    nodes: int = 20_000

    def spend(self, where: Callable[[], str], *, files: int = 0, characters: int = 0, nodes: int = 0) -> None:
        """Take something off.

        Args:
            where: returns the place that a message names.

        Raises:
            ConfigError: nothing is left.
        """
        self.files -= files
        self.characters -= characters
        self.nodes -= nodes
        if min(self.files, self.characters, self.nodes) >= 0:
            return
        whole = Budget()
        for words, left, limit in (
            ("reads more than {} files", self.files, whole.files),
            ("has more than {} characters", self.characters, whole.characters),
            ("has more than {} values", self.nodes, whole.nodes),
        ):
            if left < 0:
                raise ConfigError([Mistake("", f"the configuration {words.format(f'{limit:,}')}.", where())])


@dataclass
class Document:
    """The content of one file.

    Attributes:
        value: null, booleans, numbers, texts, lists and mappings from texts.
        lines: where each key and each entry of a list is, counted from 1.
    """

    value: Any = None
    lines: dict[Path_, int] = field(default_factory=dict)


def load(text: str, label: str, budget: Budget | None = None) -> Document:
    """Read one document.

    Args:
        label: the file's name in messages.

    Raises:
        ConfigError: it is not valid YAML of this dialect, or exceeds the budget.

    Example:
        >>> load("a: [1e-3, on, '1']", "x.yaml").value
        {'a': [0.001, 'on', '1']}
    """
    budget = budget or Budget()
    budget.spend(lambda: label, characters=len(text))
    try:
        return _Reader(text, label, budget).document()
    except yaml.MarkedYAMLError as error:
        where = f"{label}:{error.problem_mark.line + 1}" if error.problem_mark else label
        raise ConfigError([Mistake("", f"is not valid YAML: {error.problem}.", where)]) from error
    except yaml.YAMLError as error:
        raise ConfigError([Mistake("", f"is not valid YAML: {str(error).splitlines()[0]}.", label)]) from error


def dump(value: Any) -> str:
    """YAML text that `load` reads back as an equal value.

    Example:
        >>> print(dump({"name": "1e5", "lr": 1e-3}), end="")
        name: '1e5'
        lr: 0.001
    """
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*|[1-9][0-9]{0,2}(_[0-9]{3})+)")
_NUMBER = re.compile(r"[-+]?(([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class _Reader:
    def __init__(self, text: str, label: str, budget: Budget) -> None:
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self.label, self.budget = label, budget
        self.anchors: dict[str, tuple[Any, int, int]] = {}
        self.lines: dict[Path_, int] = {}

    def document(self) -> Document:
        next(self.events)  # the stream begins
        first = next(self.events)
        if isinstance(first, yaml.StreamEndEvent):
            return Document()
        value, _, _ = self.node(next(self.events), (), 0)
        next(self.events)  # the document ends
        following = next(self.events)
        if not isinstance(following, yaml.StreamEndEvent):
            self.refuse(following, "there must be only one document in the file (remove `---`).")
        return Document(value, self.lines)

    def node(self, event: Any, path: Path_, depth: int) -> tuple[Any, int, int]:
        """A value, how many nodes it has and how deep it is."""
        if depth >= DEEPEST:
            self.refuse(event, f"lists and mappings are nested more than {DEEPEST} deep.")
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, depth)
        self.spend(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            found = self.scalar(event), 1, 0
        else:
            if event.tag is not None:
                self.refuse(event, f"the tag {event.tag} is not allowed.")
            found = (self.mapping if isinstance(event, yaml.MappingStartEvent) else self.sequence)(path, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = found
        return found

    def alias(self, event: Any, depth: int) -> tuple[Any, int, int]:
        if event.anchor not in self.anchors:
            self.refuse(event, f"*{event.anchor} refers to an anchor &{event.anchor} that is not defined above it.")
        value, size, height = self.anchors[event.anchor]
        if depth + height >= DEEPEST:
            self.refuse(event, f"lists and mappings are nested more than {DEEPEST} deep.")
        self.spend(event, size)
        return value, size, height

    def mapping(self, path: Path_, depth: int) -> tuple[dict[str, Any], int, int]:
        found: dict[str, Any] = {}
        size, height = 1, 0
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self.refuse(event, "a key must be a single word, not a list or a mapping.")
            key = self.checked(event)
            if key == "<<":
                self.refuse(event, "merge keys (<<) are not supported; use `extends`, or repeat the keys.")
            if key in found:
                self.refuse(event, f"duplicate key {shorten(key)}.")
            self.lines[(*path, key)] = event.start_mark.line + 1
            found[key], more, below = self.node(next(self.events), (*path, key), depth + 1)
            size, height = size + more, max(height, below + 1)
        return found, size, height

    def sequence(self, path: Path_, depth: int) -> tuple[list[Any], int, int]:
        found: list[Any] = []
        size, height = 1, 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            place = (*path, len(found))
            self.lines[place] = event.start_mark.line + 1
            value, more, below = self.node(event, place, depth + 1)
            found.append(value)
            size, height = size + more, max(height, below + 1)
        return found, size, height

    def scalar(self, event: Any) -> Any:
        text = self.checked(event)
        if event.tag in ("!", "tag:yaml.org,2002:str") or event.style is not None:
            return text
        if _NULL.fullmatch(text):
            return None
        if _BOOLEAN.fullmatch(text):
            return text.lower() == "true"
        if _INTEGER.fullmatch(text):
            if len(text) > 40 or abs(int(text)) >= 1 << 64:
                self.refuse(event, f"{shorten(text)} is too large for an integer of 64 bits.")
            return int(text)
        if _NUMBER.fullmatch(text):
            return float(text)
        if special := _SPECIAL.fullmatch(text):
            return float(special[1] + "inf") if special[2] else float("nan")
        return text

    def checked(self, event: Any) -> str:
        """The text of a scalar, in which every character can be written to a file."""
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            self.refuse(event, f"the tag {event.tag} is not allowed.")
        text: str = event.value
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            self.refuse(event, "a text must not contain NUL or half of a surrogate pair.")
        return text

    def spend(self, event: Any, nodes: int) -> None:
        self.budget.spend(lambda: self.where(event), nodes=nodes)

    def where(self, event: Any) -> str:
        return f"{self.label}:{event.start_mark.line + 1}"

    def refuse(self, event: Any, text: str) -> None:
        raise ConfigError([Mistake("", text, self.where(event))])


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 reads as something else than a text (SafeDumper does), and what this dialect does."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True

    def represent_sequence(self, tag: str, sequence: Any, flow_style: Any = None) -> yaml.SequenceNode:  # noqa: ARG002
        """A list of scalars on one line."""
        plain = not any(isinstance(each, dict | list | tuple) for each in sequence)
        return super().represent_sequence(tag, sequence, flow_style=plain)


def _write_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """A text with characters that other readers of YAML take for line breaks is written with escapes."""
    unusual = any(letter in text for letter in "\r\x85\u2028\u2029\ufeff")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if unusual else None)


_Dumper.add_representer(str, _write_text)
for _tag, _pattern in (("int", _INTEGER), ("float", _NUMBER)):
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern.pattern})\Z"), None)
