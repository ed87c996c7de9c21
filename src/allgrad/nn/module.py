"""`Module`: parameters, buffers, and other modules under names, and a forward pass.

The value of an attribute decides what it is: a `Parameter`, a `Module`, or an array that `register_buffer` declared. They are
found in the order of assignment, a module's own parameters before its children's, which is also PyTorch's order. Nothing is
registered behind the scenes, and attribute access costs nothing extra.

A module has no stored path. Its path ("blocks.0.attn") is its place in the model that is running: the outermost module that
was called, or the one that `running` names. Error messages show the path, and layers that draw random numbers draw them
under it. So neither depends on what was called, listed, or printed before, and a layer that two models share has a path in
each.
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar

import numpy as np

from allgrad.autodiff import on_recompute
from allgrad.kernels import bf16
from allgrad.nn.module_html import module_html
from allgrad.nn.parameter import SAME, Array, Parameter, TorchLayout
from allgrad.nn.state import Entry, LoadResult, load_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

Merge = Literal["mean", "last"]
M = TypeVar("M", bound="Module")


class BufferRule(NamedTuple):
    """How the virtual workers' copies of a buffer become one after a step, and PyTorch's layout of it."""

    merge: Merge
    layout: TorchLayout = SAME


_running: ContextVar[Module | None] = ContextVar("allgrad_running_model", default=None)

_trees: weakref.WeakKeyDictionary[Module, tuple[int, dict[int, str]]] = weakref.WeakKeyDictionary()
"""For each model that ran: the number of assignments of modules at the time, and the path of each module by its id."""

_assignments = 0
"""How often a module was assigned to an attribute. Paths are listed anew after the next one."""

_changes = 0
"""How often any attribute of any module was set or deleted."""


def changes() -> int:
    """A number that another one takes the place of as soon as an attribute of a module is set or deleted.

    For decisions that depend on attributes of modules (`fusion.py`): they hold as long as the number stays the same.
    """
    return _changes


class running:  # noqa: N801 - used like a function; a context made of a generator costs twice as much
    """A context in which the paths of modules are their places in `model`, whichever of its modules are called.

    >>> from allgrad import nn
    >>> model = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Dropout(0.5))
    >>> with nn.running(model):
    ...     model[1].path
    '1'
    """

    __slots__ = ("model", "token")

    def __init__(self, model: Module | None) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.token = _running.set(self.model)

    def __exit__(self, *_: object) -> None:
        _running.reset(self.token)


def _same_model_again() -> Callable[[], AbstractContextManager[None]]:
    model = _running.get()
    return lambda: running(model)


on_recompute(_same_model_again)


class Module:
    """Base class of layers and models.

    Subclasses assign parameters and modules to attributes and define `forward`; `super().__init__()` is not needed.

    Attributes:
        precision: of the products in this module and below; None is that of the module around it. See `set_precision`.
        training: whether dropout drops and batch norm updates its statistics; see `train`.
        communicates_across_workers: whether this layer sums over the virtual workers in the middle of a step (synchronized
            batch norm). Data parallelism then runs them as threads that wait for each other.
        rows_independent: whether the result for a sample does not depend on the samples around it, samples are along the
            first axis, and parameters are used by layers of `allgrad.nn` only. Then the virtual workers of a rank can run as one
            batch, which is faster and gives the same bits. It is not inherited: each class declares it for itself.

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
    precision: Literal["float32", "bf16"] | None = None
    communicates_across_workers: ClassVar[bool] = False
    rows_independent: bool = False
    _rules: dict[str, BufferRule]

    def forward(self, *args: Any, **keywords: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward() method. Define one.")

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if self.precision is not None:
            with running(_running.get() or self), bf16.products(self.precision == "bf16"):
                return self.forward(*args, **keywords)
        if _running.get() is not None:
            return self.forward(*args, **keywords)
        token = _running.set(self)
        try:
            return self.forward(*args, **keywords)
        finally:
            _running.reset(token)

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name)
        if isinstance(before, Parameter) and value is not None and not isinstance(value, Parameter):
            raise TypeError(
                f"{self.where()}: {name!r} is a Parameter of shape {before.shape} and cannot become a {type(value).__name__}. "
                "Write new numbers with .assign(array), or assign another Parameter."
            )
        object.__setattr__(self, name, value)
        _count_change(of_modules=isinstance(value, Module))

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        _count_change(of_modules=True)

    # Paths.

    @property
    def path(self) -> str | None:
        """The place in the running model, "" for the model itself; None outside of one."""
        model = _running.get()
        if model is None:
            return None
        found = _trees.get(model)
        if found is None or found[0] != _assignments:
            found = _trees[model] = _assignments, {id(module): path for path, module in model.named_modules()}
        return found[1].get(id(self))

    def where(self) -> str:
        """The layer and its path, for messages."""
        path = self.path
        return f"{type(self).__name__} {path!r}" if path else type(self).__name__

    # Contents.

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules among the attributes, in order of assignment.

        Raises:
            TypeError: if a plain list, tuple, or dict contains modules or parameters.
        """
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple, dict)):
                _refuse_hidden(self, name, value)

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it with their paths. A module that is used twice is listed once, under its first path."""
        seen: set[int] = set()
        for path, module in self._walk(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield path, module

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their names, which become their `name`. A tied one is listed once, under its first name."""
        for name, parameter in self._named_parameters():
            parameter.name = name
            yield name, parameter

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def parameter_count(self) -> int:
        """The number of trained numbers."""
        return sum(parameter.size for _, parameter in self._named_parameters())

    def _named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        seen: set[int] = set()
        for path, module in self._walk(""):
            for name, parameter in module._own_parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield _join(path, name), parameter

    def _own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Parameter))

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(_join(prefix, name))

    # Buffers.

    def register_buffer(self, name: str, value: Array, *, merge: Merge, layout: TorchLayout = SAME) -> None:
        """Declare an array that is saved with the model but not trained, such as running statistics.

        Layers write it in place. In training, each virtual worker starts from the state at the beginning of the step. After
        the step, data parallelism merges the workers' copies.

        Args:
            name: the attribute.
            value: the initial array; it is copied.
            merge: "mean" over the workers, or "last" for the last worker's copy (if it is the same for all, such as a count of
                steps).
            layout: PyTorch's layout of it.

        Raises:
            ValueError: for another `merge`.
        """
        if merge not in ("mean", "last"):
            raise ValueError(f"register_buffer({name!r}): merge must be 'mean' or 'last'. Got {merge!r} instead.")
        self.__dict__.setdefault("_rules", {})[name] = BufferRule(merge, layout)
        object.__setattr__(self, name, np.array(value))

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """All buffers with their names. These are the arrays themselves, not copies."""
        return ((name, array) for name, array, _ in self._buffers())

    def buffer_rules(self) -> dict[str, BufferRule]:
        """How each buffer is merged over the virtual workers."""
        return {name: rule for name, _, rule in self._buffers()}

    def buffers_state(self) -> dict[str, Array]:
        """A copy of each buffer, for `load_buffers_state`."""
        return {name: array.copy() for name, array in self.named_buffers()}

    def load_buffers_state(self, state: Mapping[str, Array]) -> None:
        """Overwrite each buffer in place."""
        for name, array in self.named_buffers():
            array[...] = state[name]

    def _buffers(self) -> Iterator[tuple[str, Array, BufferRule]]:
        for path, module in self.named_modules():
            for name, rule in module.__dict__.get("_rules", {}).items():
                yield _join(path, name), getattr(module, name), rule

    # Saving and loading.

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers, with PyTorch's names and shapes; tied ones under each of their names."""
        return {name: np.array(layout.to_torch(array), order="C") for name, array, layout, _ in self._entries()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Take over the numbers of a `state_dict`, ours or PyTorch's.

        Args:
            state: name to array (anything that `np.asarray` accepts), in PyTorch's shape.
            strict: whether a name on one side only is an error.

        Returns:
            The names that are missing from `state`, and those that the model does not have.

        Raises:
            StateError: if names are missing or unexpected (with `strict`), an array has another shape or a dtype that does not
                convert, or tied names hold different numbers. Nothing is written in that case.
        """
        return load_entries(type(self).__name__, list(self._entries()), state, strict=strict)

    def _entries(self) -> Iterator[Entry]:
        """Everything that is saved."""
        for path, module in self._walk(""):
            for name, parameter in module._own_parameters():
                yield Entry(_join(path, name), parameter.value, parameter.layout, parameter)
            for name, rule in module.__dict__.get("_rules", {}).items():
                buffer = getattr(module, name)
                yield Entry(_join(path, name), buffer, rule.layout, buffer)

    # Modes.

    def train(self: M, mode: bool = True) -> M:
        """Set `training` of this module and all below it. Returns the module itself."""
        for module in self.modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self: M) -> M:
        """The same as `train(False)`."""
        return self.train(False)

    def apply(self: M, function: Callable[[Module], None]) -> M:
        """Call `function` on every module below, then on this one. Returns the module itself."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def zero_grad(self) -> None:
        """Empty all gradients."""
        for parameter in self.parameters():
            parameter.zero_grad()

    # Printing.

    def extra_repr(self) -> str:
        """The text between the brackets of the repr: sizes and options."""
        return ""

    def __repr__(self) -> str:
        head = f"{type(self).__name__}({self.extra_repr()}"
        lines = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        count = self.parameter_count()
        tail = f"  # {count:,} parameters" if count else ""
        if not lines:
            return f"{head}){tail}"
        return f"{head}{tail}\n  " + "\n  ".join(lines) + "\n)"

    def _repr_html_(self) -> str:
        return module_html(self)


def _count_change(*, of_modules: bool) -> None:
    global _assignments, _changes
    _assignments += of_modules
    _changes += 1


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _refuse_hidden(module: Module, name: str, value: Any) -> None:
    items = value.values() if isinstance(value, dict) else value
    if any(isinstance(item, (Module, Parameter)) for item in items):
        raise TypeError(
            f"{module.where()}: the attribute {name!r} is a {type(value).__name__} that contains modules or parameters. They "
            "would not be trained or saved. Use nn.ModuleList, or an attribute for each."
        )
