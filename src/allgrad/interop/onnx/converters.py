"""What each layer becomes in an ONNX graph: one function per class, registered.

A converter is called as converter(layer, graph, *values), with the names of the layer's inputs in the graph, and returns the name
of its result. It describes the layer in evaluation mode, in allgrad's layout (images are channels-last).

    @register_converter(Scale)
    def scale(layer, graph, x):
        return graph.op("Mul", x, graph.constant(layer.factor.value))

A class is looked up exactly: a subclass may compute something else, and needs a converter of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from allgrad.errors import AllgradError

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.interop.onnx.graph import GraphBuilder
    from allgrad.nn import Module

__all__ = ["ExportError", "convert", "register_converter"]

Converter = TypeVar("Converter", bound="Callable[..., str]")

_converters: dict[type, Callable[..., str]] = {}


class ExportError(AllgradError):
    """A model cannot be written as ONNX, or what was written computes something else."""


def register_converter(*layers: type[Module]) -> Callable[[Converter], Converter]:
    """A decorator that registers the converter of one or more classes of layers."""

    def add(converter: Converter) -> Converter:
        _converters.update(dict.fromkeys(layers, converter))
        return converter

    return add


def convert(layer: Module, graph: GraphBuilder, *values: str) -> str:
    """Add a layer to a graph.

    Args:
        layer: any module whose class has a converter.
        values: the names of its inputs.

    Raises:
        ExportError: names the class of a layer that has none, and where it is.
    """
    converter: Any = _converters.get(type(layer))
    if converter is None or "forward" in vars(layer):
        kind = type(layer)
        where = f" ({layer.path})" if layer.path else ""
        raise ExportError(
            f"The layer {kind.__module__}.{kind.__qualname__}{where} has no ONNX converter. Register one with "
            "`allgrad.interop.onnx.converters.register_converter` in a plugin."
        )
    with graph.inside(layer.path.rpartition(".")[2] if layer.path else type(layer).__name__):
        found: str = converter(layer, graph, *values)
    return found
