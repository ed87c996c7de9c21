"""Containers: modules in a sequence, in a list, and with a skip connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from allgrad.nn.errors import InputTypeError
from allgrad.nn.fusion import calls_of
from allgrad.nn.module import Module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class ModuleList(Module):
    """Modules under the names "0", "1", ... It has no forward pass of its own.

    Args:
        modules: the modules, in order.

    >>> from allgrad import nn
    >>> layers = nn.ModuleList(nn.ReLU() for _ in range(2))
    >>> len(layers), [name for name, _ in layers.named_children()]
    (2, ['0', '1'])
    """

    rows_independent = True

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> None:
        if not isinstance(module, Module):
            raise InputTypeError(f"{self.where()}: can contain only modules. Got {type(module).__name__} instead.")
        setattr(self, str(len(self)), module)

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> list[Module]: ...
    def __getitem__(self, index: int | slice) -> Module | list[Module]:
        return list(self.children())[index]


class Sequential(ModuleList):
    """Modules that are called one after another, each on the result of the one before.

    Neighbours that have a fused form run as one operation (see `fusion.py`). The numbers are the same.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> model = nn.Sequential(nn.Linear(4, 8, rng=0), nn.ReLU(), nn.Linear(8, 2, rng=1))
    >>> model(np.ones((3, 4), np.float32)).shape
    (3, 2)
    """

    rows_independent = True

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        for call in calls_of(self):
            x = call(x)
        return x


class Residual(Module):
    """x + module(x), or shortcut(x) + module(x).

    Args:
        module: its result is added.
        shortcut: applied to x on the skip connection; by default x is unchanged.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.Residual(nn.ReLU())(np.array([-1.0, 2.0])).tolist()
    [-1.0, 4.0]
    """

    rows_independent = True

    def __init__(self, module: Module, shortcut: Module | None = None) -> None:
        self.module = module
        self.shortcut = shortcut

    def forward(self, x: Any) -> Any:
        skip = x if self.shortcut is None else self.shortcut(x)
        return skip + self.module(x)
