"""A module as a notebook shows it: its parts, which can be opened, and how many parameters each has."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["module_html"]


class Shown(Protocol):
    """What is needed of a module."""

    def extra_repr(self) -> str: ...

    def named_children(self) -> Iterable[tuple[str, Shown]]: ...

    def parameter_count(self) -> int: ...


def module_html(module: Shown, name: str = "") -> str:
    """Nested `<details>` elements; the outermost is open."""
    what = f"{type(module).__name__}({module.extra_repr()})"
    count = module.parameter_count()
    line = (
        (f"<b>{html.escape(name)}</b> " if name else "")
        + f"<code>{html.escape(what)}</code>"
        + (f" {count:,} parameters" if count else "")
    )
    children = [module_html(child, child_name) for child_name, child in module.named_children()]
    if not children:
        return f"<div>{line}</div>"
    inside = f'<div style="margin-left: 1.5em">{"".join(children)}</div>'
    state = "" if name else ' open=""'
    return f"<details{state}><summary>{line}</summary>{inside}</details>"
