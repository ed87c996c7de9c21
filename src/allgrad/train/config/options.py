"""From the signatures of registered components to the complete schema of a configuration."""

from __future__ import annotations

import inspect
import re
import sys
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_type_hints

from pydantic import AfterValidator, Field, create_model

from allgrad.train.config import registry
from allgrad.train.config.plugins import PluginError
from allgrad.train.config.schema import (
    Component,
    LoggingSection,
    OptimizerSection,
    ParallelSection,
    RunConfig,
    ScheduleSection,
    Section,
    TrainSection,
    WarmModelSection,
)

__all__ = ["descriptions", "run_config_type"]

_NO_SEARCH = {"use_attribute_docstrings": False}
"""For types made at run time: pydantic would search source files for descriptions that are not there (half a second)."""


def run_config_type() -> type[RunConfig]:
    """`RunConfig` with the options of every registered component.

    Raises:
        PluginError: a component declares an option without a usable type.
    """
    return _run_config_type(registry.registered())


@lru_cache(maxsize=8)
def _run_config_type(registered: tuple[registry.Entry, ...]) -> type[RunConfig]:  # noqa: ARG001 (what the result depends on)
    train = _narrowed(
        TrainSection,
        metrics=_several(registry.metrics) | None,
        callbacks=_several(registry.callbacks),
    )
    schedule = _choice(registry.schedules, ScheduleSection)
    optimizer = _choice(registry.optimizers, OptimizerSection, schedule=schedule | None)
    return _narrowed(
        RunConfig,
        model=_choice(registry.models, WarmModelSection),
        data=_choice(registry.datasets, Component),
        loss=_choice(registry.losses, Component),
        optimizer=optimizer,
        train=train,
        parallel=_narrowed(ParallelSection, reduction=_choice(registry.exchanges, Component)),
        logging=_narrowed(LoggingSection, loggers=_several(registry.loggers)),
    )


def _narrowed(base: type[Any], **types: Any) -> type[Any]:
    """`base` with other types for some fields, whose defaults and descriptions stay."""
    fields = {}
    for name, annotation in types.items():
        old = base.model_fields[name]
        settings: dict[str, Any] = {"description": old.description, "validate_default": old.validate_default}
        if not old.is_required():
            # A section's own default must be of the narrowed type, and is made only when it is needed.
            narrowed = isinstance(old.default, Section)
            settings |= {"default_factory": annotation} if narrowed else {"default": old.default}
        fields[name] = (annotation, Field(**settings))
    return create_model(base.__name__, __base__=base, __cls_kwargs__=_NO_SEARCH, __doc__=base.__doc__, **fields)  # type: ignore[call-overload,no-any-return]


def _several(kind: registry.Registry) -> Any:
    """The type of a list of components."""
    return tuple.__class_getitem__((_choice(kind, Component), ...))


def _choice(kind: registry.Registry, base: type[Component], **types: Any) -> Any:
    """The union of the registered components' sections, told apart by `name`."""
    sections = [_component_type(kind, name, base, types) for name in kind.names()]
    if not sections:
        return Annotated[base, AfterValidator(_refuse_unregistered)]
    if len(sections) == 1:  # pydantic has no discriminated union of one
        return sections[0]
    return Annotated[Union[tuple(sections)], Field(discriminator="name")]  # noqa: UP007 (a union made at run time)


def _refuse_unregistered(section: Component) -> Component:  # noqa: ARG001
    raise ValueError("a registered name (nothing is registered; names of your own need --plugin)")


def _component_type(
    kind: registry.Registry, name: str, base: type[Component], types: dict[str, Any]
) -> type[Component]:
    factory = kind[name].factory
    about = descriptions(inspect.getdoc(factory) or "")
    fields: dict[str, Any] = {"name": (Literal[name], Field(description=f"Selects this {kind.kind}."))}
    for option, (annotation, default) in _options(kind, name).items():
        if option not in base.model_fields:
            fields[option] = (annotation, Field(default, description=about.get(option)))
    title = "".join(part.capitalize() for part in [*name.split("_"), kind.kind])
    if types:
        base = _narrowed(base, **types)
    summary = (inspect.getdoc(factory) or "").partition("\n\n")[0]
    return create_model(title, __base__=base, __cls_kwargs__=_NO_SEARCH, __doc__=summary, **fields)


def descriptions(docstring: str) -> dict[str, str]:
    """The arguments that the section `Args:` of a docstring describes.

    Example:
        >>> descriptions('''A line.
        ...
        ... Args:
        ...     width: units of
        ...         each layer.
        ...     depth: number of layers.
        ...
        ... Raises:
        ...     ValueError: never.
        ... ''')
        {'width': 'Units of each layer.', 'depth': 'Number of layers.'}
    """
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", inspect.cleandoc(docstring), re.MULTILINE)
    found: dict[str, str] = {}
    for match in re.finditer(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE):
        for name in match[1].split(", "):
            text = " ".join(match[2].split())
            found[name] = text[:1].upper() + text[1:] if text.split(maxsplit=1)[0].isalpha() else text
    return found


def _options(kind: registry.Registry, name: str) -> dict[str, tuple[Any, Any]]:
    """The keyword-only parameters of a component: name to (type, default)."""
    entry = kind[name]
    parameters = inspect.signature(entry.factory).parameters.values()
    keywords = {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY}
    for option, parameter in keywords.items():
        if parameter.annotation is parameter.empty:
            what = f"{kind.kind} {name!r} ({entry.where})"
            raise PluginError(f"{what}: option {option!r} needs a type annotation.")
    # Only the options' annotations are evaluated: those of the arguments may be names that only a type checker knows.
    holder = type(name, (), {"__annotations__": {option: each.annotation for option, each in keywords.items()}})
    try:
        hints = get_type_hints(holder, vars(sys.modules[entry.factory.__module__]), include_extras=True)
    except NameError as error:
        raise PluginError(
            f"{kind.kind} {name!r} ({entry.where}): the type of an option cannot be evaluated ({error}). "
            "Import it at run time, not under TYPE_CHECKING."
        ) from error
    return {
        option: (hints[option], ... if each.default is each.empty else each.default)
        for option, each in keywords.items()
    }
