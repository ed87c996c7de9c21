"""Exchanges by name, so that a configuration or a plugin can choose one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.parallel.exchanges.base import Exchange
from allgrad.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["describe_exchange", "exchanges", "make_exchange", "register_exchange"]

exchanges = Registry("exchange", "an allgrad.parallel.Exchange", ("open", "post", "finish", "same_bits"))

register_exchange = exchanges.register
"""A decorator that makes an `Exchange` available as `reduction: {name: ...}`; its keyword-only parameters are its options."""


def make_exchange(reduction: str | Mapping[str, Any] | Exchange) -> Exchange:
    """The exchange that a `reduction` asks for: a name, a mapping of `name` and options, or an exchange itself.

    Raises:
        ValueError: there is no such exchange.
        TypeError: it has no such option.

    >>> make_exchange("exact").same_bits
    True
    """
    if isinstance(reduction, Exchange):
        return reduction
    options = {"name": reduction} if isinstance(reduction, str) else dict(reduction)
    name = options.pop("name", None)
    if name not in exchanges.names():
        raise ValueError(
            f"The reduction parameter of DataParallel must be one of {exchanges.names()}, a mapping with such a name, or an "
            f"Exchange. Got {reduction!r} instead."
        )
    made: Exchange = exchanges[name].factory(**options)
    return made


def describe_exchange(reduction: str | Mapping[str, Any] | Exchange) -> str:
    """The exchange in words, to compare between ranks.

    >>> describe_exchange("exact"), describe_exchange({"name": "top_k", "fraction": 0.01})
    ('exact', 'top_k (fraction=0.01)')
    """
    if isinstance(reduction, Exchange):
        return f"{type(reduction).__module__}.{type(reduction).__qualname__}"
    if isinstance(reduction, str):
        return reduction
    options = {key: value for key, value in sorted(reduction.items()) if key != "name"}
    text = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return f"{reduction['name']} ({text})" if options else str(reduction["name"])
