"""`Module`: parameters, buffers and other modules under names, and a forward pass.

What an attribute holds decides what it is: a `Parameter`, a `Module`, or an array that `register_buffer` declared. They are
found in order of assignment, a module's own parameters before its children's, which is PyTorch's order too. Nothing is
registered behind the scenes, and attributes are read at the speed of attributes.

A module learns its path in the model ("blocks.0.attn") when the model is called, or asked for its parameters, for the first
time: error messages name it, and layers that draw random numbers draw them under it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar

import numpy as np

from allgrad.nn.parameter import SAME, Array, Parameter, TorchLayout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Merge = Literal["mean", "last"]
M = TypeVar("M", bound="Module")


class BufferRule(NamedTuple):
    """How the virtual workers' copies of a buffer become one after a step, and how PyTorch lays it out."""

    merge: Merge
    layout: TorchLayout = SAME


class LoadResult(NamedTuple):
    """The names that `load_state_dict` found on one side only."""

    missing: list[str]
    unexpected: list[str]


class Module:
    """Base class of layers and models.

    Subclasses assign parameters and modules to attributes and write `forward`; `super().__init__()` is not needed.

    Attributes:
        training: whether dropout drops and batch norm learns; see `train`.
        path: the place in the model, "" for the model itself, None before the first use.
        communicates_across_workers: whether this layer sums over the virtual workers in the middle of a step, as
            synchronised batch norm does. Data parallelism then runs the workers as threads that wait for each other.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         self.factor = nn.Parameter(np.full(3, 2.0, np.float32))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> model = Scale()
    >>> model(np.ones(3, np.float32)).tolist(), [name for name, _ in model.named_parameters()]
    ([2.0, 2.0, 2.0], ['factor'])
    """

    training: bool = True
    communicates_across_workers: ClassVar[bool] = False
    path: str | None = None
    _rules: dict[str, BufferRule]

    def forward(self, *args: Any, **keywords: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward(); write one.")

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if self.path is None:
            self.assign_paths()
        return self.forward(*args, **keywords)

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name)
        if isinstance(before, Parameter) and value is not None and not isinstance(value, Parameter):
            raise TypeError(
                f"{self.where()}: {name!r} is a Parameter of shape {before.shape} and cannot become a {type(value).__name__}. "
                "Write new numbers with .assign(array), or assign another Parameter."
            )
        object.__setattr__(self, name, value)
        if self.path is not None and isinstance(value, Module):
            value.assign_paths(_join(self.path, name))

    # What is in it.

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules among the attributes, in order of assignment.

        Raises:
            TypeError: if modules or parameters hide in a plain list, tuple or dict.
        """
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple, dict)):
                _refuse_hidden(self, name, value)

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it with their paths; one that is used twice comes once."""
        seen: set[int] = set()
        for path, module in self._walk(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield path, module

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their names; a tied one once, under its first name."""
        self.assign_paths(self.path or "")
        seen: set[int] = set()
        for path, module in self._walk(""):
            for name, parameter in module._own_parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield _join(path, name), parameter

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def parameter_count(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.size for parameter in self.parameters())

    def _own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Parameter))

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(_join(prefix, name))

    def assign_paths(self, prefix: str = "") -> None:
        """Tell this module, all below it and their parameters where they are. The first of several places counts."""
        named: set[int] = set()
        for path, module in self.named_modules(prefix):
            object.__setattr__(module, "path", path)
            for name, parameter in module._own_parameters():
                if id(parameter) not in named:
                    named.add(id(parameter))
                    parameter.name = _join(path, name)

    def where(self) -> str:
        """The layer and its path, as messages say it."""
        return f"{type(self).__name__} {self.path!r}" if self.path else type(self).__name__

    # Buffers.

    def register_buffer(self, name: str, value: Array, *, merge: Merge, layout: TorchLayout = SAME) -> None:
        """Declare an array that is saved with the model but not trained, such as running statistics.

        Layers write it in place. In training every virtual worker starts from the step's opening state; after the step the
        data-parallel side merges the workers' copies.

        Args:
            merge: "mean" of the workers, or the "last" worker's (for what is the same in all, such as a count of steps).
            layout: how PyTorch lays it out.
        """
        if merge not in ("mean", "last"):
            raise ValueError(f"register_buffer({name!r}): merge must be 'mean' or 'last'. Got {merge!r} instead.")
        self.__dict__.setdefault("_rules", {})[name] = BufferRule(merge, layout)
        object.__setattr__(self, name, np.array(value))

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """All buffers with their names: the arrays themselves, not copies."""
        return ((name, array) for name, array, _ in self._buffers())

    def buffer_rules(self) -> dict[str, BufferRule]:
        """How each buffer is merged over the virtual workers."""
        return {name: rule for name, _, rule in self._buffers()}

    def buffers_state(self) -> dict[str, Array]:
        """A copy of every buffer, in our layout; what `load_buffers_state` takes back."""
        return {name: array.copy() for name, array in self.named_buffers()}

    def load_buffers_state(self, state: Mapping[str, Array]) -> None:
        """Write every buffer, in place."""
        for name, array in self.named_buffers():
            array[...] = state[name]

    def _buffers(self) -> Iterator[tuple[str, Array, BufferRule]]:
        for path, module in self.named_modules():
            for name, rule in module.__dict__.get("_rules", {}).items():
                yield _join(path, name), getattr(module, name), rule

    # On disk.

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers under PyTorch's names, in PyTorch's shapes; tied ones under each name."""
        return {name: np.array(layout.to_torch(array), order="C") for name, array, layout, _ in self._entries()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Take over the numbers of a `state_dict`, ours or PyTorch's.

        Args:
            state: name -> array (anything that `np.asarray` takes) in PyTorch's shape.
            strict: whether a name on one side only is an error.

        Returns:
            The names that are missing in `state`, and those that the model does not have.

        Raises:
            KeyError: `strict`, and names are missing or unexpected: all of them are named. Nothing has been written then.
            ValueError: an array has another shape, or tied names hold different numbers.
        """
        entries = list(self._entries())
        given = {id(target) for name, _, _, target in entries if name in state}
        missing = [name for name, _, _, target in entries if name not in state and id(target) not in given]
        unexpected = [name for name in state if name not in {entry[0] for entry in entries}]
        if strict and (missing or unexpected):
            raise KeyError(
                f"load_state_dict: {type(self).__name__} does not match. "
                f"Missing: {', '.join(missing) or 'none'}. Unexpected: {', '.join(unexpected) or 'none'}. "
                "Pass strict=False to load what fits."
            )
        found: dict[int, tuple[str, Any, Array]] = {}
        for name, array, layout, target in entries:
            if name not in state:
                continue
            new = _converted(name, np.asarray(state[name]), array, layout)
            if id(target) in found and not np.array_equal(found[id(target)][2], new, equal_nan=True):
                raise ValueError(
                    f"load_state_dict: {found[id(target)][0]!r} and {name!r} are tied in this model, "
                    "but hold different numbers. Build the model untied, or drop one of them."
                )
            found.setdefault(id(target), (name, target, new))
        for _, target, new in found.values():
            if isinstance(target, Parameter):
                target.assign(new)
            else:
                target[...] = new
        return LoadResult(missing, unexpected)

    def _entries(self) -> Iterator[tuple[str, Array, TorchLayout, Any]]:
        """What stands on disk: name, array, layout, and the Parameter or buffer itself."""
        for path, module in self._walk(""):
            for name, parameter in module._own_parameters():
                yield _join(path, name), parameter.value, parameter.layout, parameter
            for name, rule in module.__dict__.get("_rules", {}).items():
                buffer = getattr(module, name)
                yield _join(path, name), buffer, rule.layout, buffer

    # Modes.

    def train(self: M, mode: bool = True) -> M:
        """Set `training` here and below; returns the module itself."""
        for module in self.modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self: M) -> M:
        return self.train(False)

    def apply(self: M, function: Callable[[Module], None]) -> M:
        """Call `function` on every module below, then on this one; returns the module itself."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def zero_grad(self) -> None:
        """Empty all gradients."""
        for parameter in self.parameters():
            parameter.zero_grad()

    # For people.

    def extra_repr(self) -> str:
        """What stands in the brackets of the repr: sizes and options."""
        return ""

    def __repr__(self) -> str:
        head = f"{type(self).__name__}({self.extra_repr()}"
        lines = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        count = self.parameter_count()
        tail = f"  # {count:,} parameters" if count else ""
        if not lines:
            return f"{head}){tail}"
        return f"{head}{tail}\n  " + "\n  ".join(lines) + "\n)"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _converted(name: str, given: Array, ours: Array, layout: TorchLayout) -> Array:
    expected = layout.to_torch(ours).shape
    if given.shape != expected:
        raise ValueError(
            f"load_state_dict: {name!r} has shape {expected} in this model. Got shape {given.shape} instead."
        )
    if not np.can_cast(given.dtype, ours.dtype, "same_kind"):
        raise ValueError(f"load_state_dict: {name!r} is {ours.dtype} in this model. Got {given.dtype} instead.")
    return layout.from_torch(given).astype(ours.dtype)


def _refuse_hidden(module: Module, name: str, value: Any) -> None:
    items = value.values() if isinstance(value, dict) else value
    if any(isinstance(item, (Module, Parameter)) for item in items):
        raise TypeError(
            f"{module.where()}: the attribute {name!r} is a {type(value).__name__} with modules or parameters in it, which "
            "would not be trained or saved. Use nn.ModuleList, or an attribute for each."
        )
