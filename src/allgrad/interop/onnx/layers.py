"""The ONNX of layers that are not recurrent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import nn
from allgrad.interop.onnx.converters import ExportError, convert, register_converter
from allgrad.nn import activations

if TYPE_CHECKING:
    from allgrad.interop.onnx.graph import GraphBuilder
    from allgrad.nn.activations import ActivationFunction

__all__ = ["activate", "linear", "slice_rows"]


def activate(graph: GraphBuilder, x: str, function: ActivationFunction | None) -> str:
    """An elementwise activation.

    Raises:
        ExportError: it is not one of `allgrad.nn.activations.ACTIVATIONS`.
    """
    if function is None:
        return x
    name = next((name for name, each in activations.ACTIVATIONS.items() if each is function), None)
    simple = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softplus": "Softplus"}
    if name in simple:
        return graph.op(simple[name], x)
    if name == "leaky_relu":
        return graph.op("LeakyRelu", x, alpha=0.01)
    if name == "elu":
        return graph.op("Elu", x, alpha=1.0)
    if name == "silu":
        return graph.op("Mul", x, graph.op("Sigmoid", x))
    if name == "gelu":
        inner = graph.op("Erf", graph.op("Mul", x, graph.number(math.sqrt(0.5))))
        return _half_gated(graph, x, inner)
    if name == "gelu_tanh":
        cube = graph.op("Mul", graph.op("Mul", x, x), x)
        inner = graph.op("Add", x, graph.op("Mul", cube, graph.number(0.044715)))
        return _half_gated(graph, x, graph.op("Tanh", graph.op("Mul", inner, graph.number(math.sqrt(2 / math.pi)))))
    raise ExportError(
        f"The activation {function.name!r} has no ONNX form here. Use one of {', '.join(activations.ACTIVATIONS)}."
    )


def _half_gated(graph: GraphBuilder, x: str, inner: str) -> str:
    """x (1 + inner) / 2"""
    gate = graph.op("Add", inner, graph.number(1))
    return graph.op("Mul", graph.op("Mul", x, graph.number(0.5)), gate)


def slice_rows(graph: GraphBuilder, table: Any, length: str) -> str:
    """The first `length` rows of a constant table."""
    end = graph.op("Unsqueeze", length, graph.integers(0))
    return graph.op("Slice", graph.constant(table, "table"), graph.integers(0), end, graph.integers(0))


@register_converter(nn.Activation, nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus)
def activation(layer: nn.Activation, graph: GraphBuilder, x: str) -> str:
    return activate(graph, x, layer.activation)


@register_converter(nn.LeakyReLU)
def leaky_relu(layer: nn.LeakyReLU, graph: GraphBuilder, x: str) -> str:
    return graph.op("LeakyRelu", x, alpha=float(layer.negative_slope))


@register_converter(nn.ELU)
def elu(layer: nn.ELU, graph: GraphBuilder, x: str) -> str:
    return graph.op("Elu", x, alpha=float(layer.alpha))


@register_converter(nn.Dropout)
def dropout(layer: nn.Dropout, graph: GraphBuilder, x: str) -> str:  # noqa: ARG001 (it does nothing in evaluation mode)
    return x


@register_converter(nn.Softmax)
def softmax(layer: nn.Softmax, graph: GraphBuilder, x: str) -> str:
    return graph.op("Softmax", x, axis=layer.axis)


@register_converter(nn.LogSoftmax)
def log_softmax(layer: nn.LogSoftmax, graph: GraphBuilder, x: str) -> str:
    return graph.op("LogSoftmax", x, axis=layer.axis)


@register_converter(nn.Sequential)
def sequential(layer: nn.Sequential, graph: GraphBuilder, x: str) -> str:
    for child in layer:
        x = convert(child, graph, x)
    return x


@register_converter(nn.Residual)
def residual(layer: nn.Residual, graph: GraphBuilder, x: str) -> str:
    skip = x if layer.shortcut is None else convert(layer.shortcut, graph, x)
    return graph.op("Add", skip, convert(layer.module, graph, x))


@register_converter(nn.Linear)
def linear(layer: nn.Linear, graph: GraphBuilder, x: str, function: ActivationFunction | None = None) -> str:
    weight = layer.weight.value.T if layer.transposed else layer.weight.value
    y = graph.op("MatMul", x, graph.constant(weight, "weight"))
    if layer.bias is not None:
        y = graph.op("Add", y, graph.constant(layer.bias.value, "bias"))
    return activate(graph, y, layer.activation if function is None else function)


@register_converter(nn.FlatLinear)
def flat_linear(layer: nn.FlatLinear, graph: GraphBuilder, x: str) -> str:
    return linear(layer, graph, graph.reshape(x, 0, layer.in_features))


@register_converter(nn.Embedding)
def embedding(layer: nn.Embedding, graph: GraphBuilder, indices: str) -> str:
    return graph.op("Gather", graph.constant(layer.weight.value, "weight"), indices, axis=0)


@register_converter(nn.LearnedPositions)
def learned_positions(layer: nn.LearnedPositions, graph: GraphBuilder, x: str) -> str:
    return graph.op("Add", x, slice_rows(graph, layer.weight.value, graph.length(x, 1)))


@register_converter(nn.RotaryPositions)
def rotary_positions(layer: nn.RotaryPositions, graph: GraphBuilder, x: str) -> str:
    """x: (batch, length, heads, features)"""
    length, half = graph.length(x, 1), layer.head_features // 2
    cos, sin = (graph.op("Unsqueeze", slice_rows(graph, t, length), graph.integers(1)) for t in (layer.cos, layer.sin))
    axis = graph.integers(3)
    a = graph.op("Slice", x, graph.integers(0), graph.integers(half), axis)
    b = graph.op("Slice", x, graph.integers(half), graph.integers(2 * half), axis)
    first = graph.op("Sub", graph.op("Mul", a, cos), graph.op("Mul", b, sin))
    second = graph.op("Add", graph.op("Mul", b, cos), graph.op("Mul", a, sin))
    return graph.op("Concat", first, second, axis=3)


@register_converter(nn.LayerNorm)
def layer_norm(layer: nn.LayerNorm, graph: GraphBuilder, x: str) -> str:
    weight = np.ones(layer.features, np.float32) if layer.weight is None else layer.weight.value
    values = [x, graph.constant(weight, "weight")]
    values += [] if layer.bias is None else [graph.constant(layer.bias.value, "bias")]
    return graph.op("LayerNormalization", *values, axis=-1, epsilon=layer.eps)


@register_converter(nn.RMSNorm)
def rms_norm(layer: nn.RMSNorm, graph: GraphBuilder, x: str) -> str:
    mean = graph.op("ReduceMean", graph.op("Mul", x, x), axes=[-1], keepdims=1)
    y = graph.op("Div", x, graph.op("Sqrt", graph.op("Add", mean, graph.number(layer.eps))))
    return y if layer.weight is None else graph.op("Mul", y, graph.constant(layer.weight.value, "weight"))


@register_converter(nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
def batch_norm(layer: Any, graph: GraphBuilder, x: str, skip: str | None = None) -> str:
    if not layer.tracks:
        raise ExportError(
            f"{layer.path or type(layer).__name__}: without running statistics, a batch norm depends on its batch."
        )
    scale = np.reciprocal(np.sqrt(layer.running_var + layer.eps))
    scale = scale if layer.weight is None else scale * layer.weight.value
    y = graph.op("Mul", graph.op("Sub", x, graph.constant(layer.running_mean, "mean")), graph.constant(scale, "scale"))
    y = y if layer.bias is None else graph.op("Add", y, graph.constant(layer.bias.value, "bias"))
    return activate(graph, y if skip is None else graph.op("Add", y, skip), layer.activation)


@register_converter(nn.Conv2d)
def conv2d(layer: nn.Conv2d, graph: GraphBuilder, x: str) -> str:
    g = layer.geometry
    (top, bottom), (left, right) = g.padding
    values = [graph.transpose(x, 0, 3, 1, 2), graph.constant(layer.weight.value.transpose(3, 2, 0, 1), "weight")]
    values += [] if layer.bias is None else [graph.constant(layer.bias.value, "bias")]
    y = graph.op(
        "Conv", *values, kernel_shape=list(g.kernel), strides=list(g.stride), pads=[top, left, bottom, right],
        dilations=list(g.dilation), group=g.groups,
    )  # fmt: skip
    y = activate(graph, y, layer.epilogue.activation)
    if layer.epilogue.pool is not None:
        tile = list(layer.epilogue.pool)
        y = graph.op("MaxPool", y, kernel_shape=tile, strides=tile)
    return graph.transpose(y, 0, 2, 3, 1)


@register_converter(nn.Conv1d)
def conv1d(layer: nn.Conv1d, graph: GraphBuilder, x: str) -> str:
    g = layer.geometry
    values = [graph.transpose(x, 0, 2, 1), graph.constant(layer.weight.value[0].transpose(2, 1, 0), "weight")]
    values += [] if layer.bias is None else [graph.constant(layer.bias.value, "bias")]
    y = graph.op(
        "Conv", *values, kernel_shape=[g.kernel[1]], strides=[g.stride[1]], pads=list(g.padding[1]),
        dilations=[g.dilation[1]], group=g.groups,
    )  # fmt: skip
    return graph.transpose(activate(graph, y, layer.epilogue.activation), 0, 2, 1)


@register_converter(nn.MaxPool2d)
def max_pool2d(layer: nn.MaxPool2d, graph: GraphBuilder, x: str) -> str:
    return _pooled(layer, graph, x, "MaxPool", dilations=list(layer.dilation))


@register_converter(nn.AvgPool2d)
def avg_pool2d(layer: nn.AvgPool2d, graph: GraphBuilder, x: str) -> str:
    return _pooled(layer, graph, x, "AveragePool", count_include_pad=int(layer.count_include_pad))


@register_converter(nn.AdaptiveAvgPool2d)
def adaptive_avg_pool2d(layer: nn.AdaptiveAvgPool2d, graph: GraphBuilder, x: str) -> str:
    if layer.output_size != (1, 1):
        raise ExportError(
            f"{layer.path or 'AdaptiveAvgPool2d'}: only a size of 1 has an ONNX form. Got {layer.output_size}."
        )
    return graph.op("ReduceMean", x, axes=[1, 2], keepdims=1)


def _pooled(layer: Any, graph: GraphBuilder, x: str, kind: str, **more: Any) -> str:
    (rows, columns), image = layer.padding, graph.transpose(x, 0, 3, 1, 2)
    y = graph.op(
        kind, image, kernel_shape=list(layer.window), strides=list(layer.stride), pads=[rows, columns, rows, columns],
        ceil_mode=int(layer.ceil_mode), **more,
    )  # fmt: skip
    return graph.transpose(y, 0, 2, 3, 1)


@register_converter(nn.MultiheadAttention)
def multihead_attention(layer: nn.MultiheadAttention, graph: GraphBuilder, x: str) -> str:
    heads, features = layer.heads, layer.head_features
    group = heads.queries // heads.keys
    packed = graph.op("MatMul", x, graph.constant(layer.in_proj_weight.value, "in_proj_weight"))
    if layer.in_proj_bias is not None:
        packed = graph.op("Add", packed, graph.constant(layer.in_proj_bias.value, "in_proj_bias"))
    packed = graph.reshape(packed, 0, 0, heads.packed, features)

    def cut(start: int, stop: int) -> str:
        return graph.op("Slice", packed, graph.integers(start), graph.integers(stop), graph.integers(2))

    q, k, v = (
        cut(0, heads.queries),
        cut(heads.queries, heads.queries + heads.keys),
        cut(heads.queries + heads.keys, heads.packed),
    )
    if layer.positions is not None:
        q, k = convert(layer.positions, graph, q), convert(layer.positions, graph, k)
    # (batch, key heads, group, length, features); one key head serves a group of query heads.
    q = graph.reshape(graph.transpose(q, 0, 2, 1, 3), 0, heads.keys, group, -1, features)
    k = graph.op("Unsqueeze", graph.transpose(k, 0, 2, 3, 1), graph.integers(2))
    v = graph.op("Unsqueeze", graph.transpose(v, 0, 2, 1, 3), graph.integers(2))
    scores = graph.op("MatMul", graph.op("Mul", q, graph.number(features**-0.5)), k)
    if layer.causal:
        scores = graph.op("Where", _seen(graph, x), scores, graph.number(float(np.finfo(np.float32).min)))
    answer = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), v)
    answer = graph.transpose(graph.reshape(answer, 0, heads.queries, -1, features), 0, 2, 1, 3)
    return convert(layer.out_proj, graph, graph.reshape(answer, 0, 0, layer.features))


def _seen(graph: GraphBuilder, x: str) -> str:
    """(length, length) bool: whether position i sees position j, which is not after it."""
    places = graph.op("Range", graph.number(0, np.int64), graph.length(x, 1), graph.number(1, np.int64))
    rows, columns = (graph.op("Unsqueeze", places, graph.integers(axis)) for axis in (1, 0))
    return graph.op("GreaterOrEqual", rows, columns)


@register_converter(nn.TransformerBlock)
def transformer_block(layer: nn.TransformerBlock, graph: GraphBuilder, x: str) -> str:
    def network(value: str) -> str:
        return convert(layer.linear2, graph, convert(layer.linear1, graph, value))

    if layer.norm_first:
        x = graph.op("Add", x, convert(layer.self_attn, graph, convert(layer.norm1, graph, x)))
        return graph.op("Add", x, network(convert(layer.norm2, graph, x)))
    x = convert(layer.norm1, graph, graph.op("Add", x, convert(layer.self_attn, graph, x)))
    return convert(layer.norm2, graph, graph.op("Add", x, network(x)))
