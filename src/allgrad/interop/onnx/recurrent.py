"""The ONNX of recurrent layers. Only their outputs are converted, not their last states.

ONNX has its gates in another order than PyTorch's (which is allgrad's): i, o, f, g instead of i, f, g, o in an LSTM, and z, r, n
instead of r, z, n in a GRU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import nn
from allgrad.interop.onnx.converters import register_converter

if TYPE_CHECKING:
    from allgrad.interop.onnx.graph import GraphBuilder

__all__ = ["gru", "lstm", "rnn"]


@register_converter(nn.LSTM)
def lstm(layer: nn.LSTM, graph: GraphBuilder, x: str) -> str:
    return _stacked(layer, graph, x, "LSTM", (0, 3, 1, 2))


@register_converter(nn.GRU)
def gru(layer: nn.GRU, graph: GraphBuilder, x: str) -> str:
    return _stacked(layer, graph, x, "GRU", (1, 0, 2), linear_before_reset=1)


@register_converter(nn.RNN)
def rnn(layer: nn.RNN, graph: GraphBuilder, x: str) -> str:
    kind = "Relu" if layer.nonlinearity == "relu" else "Tanh"
    return _stacked(layer, graph, x, "RNN", (0,), activations=[kind] * len(layer.directions))


def _stacked(layer: Any, graph: GraphBuilder, x: str, kind: str, gates: tuple[int, ...], **attributes: Any) -> str:
    """x and the result: (batch, length, features)."""
    directions, hidden = layer.directions, layer.hidden_size
    y = graph.transpose(x, 1, 0, 2)
    for number in range(layer.num_layers):
        weights = [layer._weights(number, direction) for direction in directions]
        w, u = (np.stack([_ordered(each[place].value.T, hidden, gates) for each in weights]) for place in (0, 1))
        values = [y, graph.constant(w, "W"), graph.constant(u, "R")]
        if layer.has_bias:
            pairs = [[_ordered(bias.value, hidden, gates) for bias in each[2:]] for each in weights]
            values.append(graph.constant(np.stack([np.concatenate(pair) for pair in pairs]), "B"))
        way = "bidirectional" if len(directions) == 2 else "forward"
        y = graph.op(
            kind, *values, hidden_size=hidden, direction=way, **attributes
        )  # (length, directions, batch, hidden)
        y = graph.reshape(graph.transpose(y, 0, 2, 1, 3), 0, 0, hidden * len(directions))
    return graph.transpose(y, 1, 0, 2)


def _ordered(array: Any, hidden: int, gates: tuple[int, ...]) -> Any:
    """Blocks of `hidden` rows in another order."""
    return np.concatenate([array[gate * hidden : (gate + 1) * hidden] for gate in gates])
