"""Modules in a row, in a list, and around a skip connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from allgrad.nn.activations import Activation
from allgrad.nn.conv import Conv2d
from allgrad.nn.module import Module
from allgrad.nn.pooling import MaxPool2d

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class ModuleList(Module):
    """Modules under the names "0", "1", ...; it holds them and calls none.

    >>> from allgrad import nn
    >>> layers = nn.ModuleList(nn.ReLU() for _ in range(2))
    >>> len(layers), [name for name, _ in layers.named_children()]
    (2, ['0', '1'])
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"{self.where()}: holds modules. Got {type(module).__name__} instead.")
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
    """Modules, each called on the result of the one before.

    An elementwise activation is run inside the layer before it, if that is one that can (linear, convolution, batch norm) and
    has none of its own; and so is max-pooling by tiles behind a convolution, whose large image is then never stored. The
    numbers are the same. (The gradients, too; but of pixels that only rounding makes equal another one may get it.)

    >>> import numpy as np
    >>> from allgrad import nn
    >>> model = nn.Sequential(nn.Linear(4, 8, rng=0), nn.ReLU(), nn.Linear(8, 2, rng=1))
    >>> model(np.ones((3, 4), np.float32)).shape
    (3, 2)
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        modules: list[Any] = [module for module in self.__dict__.values() if isinstance(module, Module)]
        at = 0
        while at < len(modules):
            module = modules[at]
            at += 1
            if not hasattr(module, "activated"):
                x = module(x)
                continue
            curve = before = getattr(module, "curve", None)
            if curve is None and at < len(modules) and isinstance(modules[at], Activation):
                curve = modules[at].curve
                at += 1
            pool = modules[at] if at < len(modules) and isinstance(module, Conv2d) else None
            if type(pool) is MaxPool2d and pool.tile is not None and module.pools(curve, pool.tile):
                x = module.activated(x, curve, pool.tile)
                at += 1
            else:
                x = module(x) if curve is before else module.activated(x, curve)
        return x


class Residual(Module):
    """x + module(x), or shortcut(x) + module(x).

    Args:
        module: what is added.
        shortcut: what is done to x on the way past; nothing by default.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.Residual(nn.ReLU())(np.array([-1.0, 2.0])).tolist()
    [-1.0, 4.0]
    """

    def __init__(self, module: Module, shortcut: Module | None = None) -> None:
        self.module = module
        self.shortcut = shortcut

    def forward(self, x: Any) -> Any:
        past = x if self.shortcut is None else self.shortcut(x)
        return past + self.module(x)
