"""The precision of a model's matrix products: float32, or bfloat16 operands with float32 sums (kernels/bf16.py).

Only products change, of linear layers (the projections of attention too), convolutions and recurrences, forward and backward.
Attention's scores and weighted sums, weights, gradients, normalisation, softmax, losses and the optimizer are float32. A layer's
backward pass has the precision of its forward pass. The products in derivatives of derivatives (`Fused` operations on their
reference) are float32 in backward.
"""

from __future__ import annotations

import fnmatch
import warnings
from typing import TYPE_CHECKING

from allgrad.autodiff import on_recompute
from allgrad.autodiff.fused import on_backward
from allgrad.kernels import bf16
from allgrad.nn.errors import LayerOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from allgrad.nn.module import Module

__all__ = ["PRECISIONS", "apply_precision", "set_precision"]

PRECISIONS = ("float32", "bf16")

_told = False


def set_precision(model: Module, precision: str, *, float32_layers: Iterable[str] = ()) -> None:
    """Choose the precision of a model's products. With "bf16" it warns once that this is emulated.

    Args:
        model: its layers are changed in place; calling this again changes them back.
        precision: "float32" or "bf16".
        float32_layers: patterns (`*`, `?`) of the paths of modules that stay in float32, with all modules inside of them.

    Raises:
        LayerOptionError: another precision, or a pattern that matches no module.

    Example:
        >>> from allgrad import nn
        >>> model = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Linear(2, 1, rng=1))
        >>> set_precision(model, "bf16", float32_layers=["1"])  # doctest: +SKIP
        >>> model.precision, model[0].precision, model[1].precision  # doctest: +SKIP
        ('bf16', None, 'float32')
    """
    apply_precision(model, precision, float32_layers)
    global _told
    if precision == "bf16" and not _told:
        _told = True
        warnings.warn(bf16.EMULATED, RuntimeWarning, stacklevel=2)


def apply_precision(model: Module, precision: str, float32_layers: Iterable[str]) -> None:
    """`set_precision` without the warning, for the trainer, which lets one rank of many say it."""
    if precision not in PRECISIONS:
        raise LayerOptionError(f"precision must be one of {', '.join(PRECISIONS)}. Got {precision!r} instead.")
    paths = dict(model.named_modules())
    for module in paths.values():
        module.precision = None
    for pattern in float32_layers:
        found = fnmatch.filter(paths, pattern)
        if not found:
            known = ", ".join(path for path in paths if path)
            raise LayerOptionError(f"float32_layers: {pattern!r} matches no layer. The layers are {known}.")
        for path in found:
            paths[path].precision = "float32"
    if precision == "bf16":
        on_backward(_same_again)
        if model.precision is None:
            model.precision = "bf16"


def _same_again() -> Callable[[], AbstractContextManager[None]] | None:
    """What a backward pass must enter to see the precision of the forward pass; None for float32."""
    return _in_bf16 if bf16.enabled() else None


def _in_bf16() -> AbstractContextManager[None]:
    return bf16.products(True)


def _for_recomputation() -> Callable[[], AbstractContextManager[None]]:
    on = bf16.enabled()
    return lambda: bf16.products(on)


on_recompute(_for_recomputation)
