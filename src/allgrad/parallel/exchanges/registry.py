"""Exchanges by name, so that a configuration or a plugin can choose one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from allgrad.parallel.exchanges.base import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

F = TypeVar("F", bound="Callable[..., Exchange]")

_factories: dict[str, Callable[..., Exchange]] = {}


def register_exchange(name: str) -> Callable[[F], F]:
    """A decorator that makes a class (or function) that builds an `Exchange` available as `reduction: {name: ...}`.

    Its keyword-only parameters are its options.

    Raises:
        ValueError: another exchange has this name.
    """

    def add(factory: F) -> F:
        taken = _factories.get(name)
        if taken is not None and _where(taken) != _where(factory):
            raise ValueError(
                f"exchange {name!r} is registered by {_where(taken)} already. {_where(factory)} needs another name."
            )
        _factories[name] = factory
        return factory

    return add


def exchange_factories() -> dict[str, Callable[..., Exchange]]:
    """All registered exchanges: name -> what makes it."""
    return dict(_factories)


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
    if name not in _factories:
        raise ValueError(
            f"The reduction parameter of DataParallel must be one of {sorted(_factories)}, a mapping with such a name, or an "
            f"Exchange. Got {reduction!r} instead."
        )
    return _factories[name](**options)


def describe_exchange(reduction: str | Mapping[str, Any] | Exchange) -> str:
    """The exchange in words, to compare between ranks.

    >>> describe_exchange("exact"), describe_exchange({"name": "top_k", "fraction": 0.01})
    ('exact', 'top_k (fraction=0.01)')
    """
    if isinstance(reduction, Exchange):
        return _where(type(reduction))
    if isinstance(reduction, str):
        return reduction
    options = {key: value for key, value in sorted(reduction.items()) if key != "name"}
    text = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return f"{reduction['name']} ({text})" if options else str(reduction["name"])


def _where(factory: Any) -> str:
    return f"{factory.__module__}.{factory.__qualname__}"
