"""The error that a wrong configuration raises: one line per mistake, with the file, the line and the key."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from allgrad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ConfigError", "Mistake", "did_you_mean", "shorten"]

SHOWN = 20
"""How many mistakes a message lists."""

LONGEST_PART = 600
"""How many characters of a file name, a key or an explanation it shows."""

LONGEST_VALUE = 200
"""How many characters of a value it quotes."""


@dataclass(frozen=True)
class Mistake:
    """One mistake in a configuration.

    Attributes:
        key: the dotted key, or "" where the file as a whole is wrong.
        text: what is wrong and what to do, without the key.
        where: "FILE:LINE", "FILE" or "command line"; "" where it shows only later, against the data.

    Example:
        >>> str(Mistake("batch.size", "must be at least 1, not 0.", "run.yaml:3"))
        'run.yaml:3: batch.size: must be at least 1, not 0.'
    """

    key: str
    text: str
    where: str = ""

    def __str__(self) -> str:
        parts = (" ".join(part.splitlines()) for part in (self.where, self.key, self.text) if part)
        return ": ".join(part if len(part) <= LONGEST_PART else f"{part[:LONGEST_PART]}..." for part in parts)


class ConfigError(UsageError, ValueError):
    """A configuration that cannot be used. The message has one line per mistake, at most 20 of them.

    Attributes:
        mistakes: all of them.
    """

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        lines = [str(mistake) for mistake in mistakes[:SHOWN]]
        if len(mistakes) > SHOWN:
            lines.append(f"... and {len(mistakes) - SHOWN} more")
        super().__init__("\n".join(lines))
        self.mistakes = tuple(mistakes)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion for an unknown name, and the list of known ones."""
    names = sorted(known)
    near = get_close_matches(word[:LONGEST_VALUE], names, n=1, cutoff=0.55)
    return (f"Did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(names) or 'none'}."


def shorten(value: object) -> str:
    """The repr of a value, cut where it is too long for a message."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}... ({len(text):,} characters)"
