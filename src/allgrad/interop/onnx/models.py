"""The ONNX of the models that allgrad brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allgrad.interop.onnx.converters import convert, register_converter
from allgrad.interop.onnx.layers import batch_norm, linear
from allgrad.nn import models
from allgrad.nn.models.resnet import BasicBlock

if TYPE_CHECKING:
    from allgrad.interop.onnx.graph import GraphBuilder

__all__ = ["basic_block", "cnn", "gpt", "lstm_language_model", "mlp", "pinn", "resnet18"]


@register_converter(models.MLP)
def mlp(layer: models.MLP, graph: GraphBuilder, x: str) -> str:
    return convert(layer.layers, graph, graph.op("Flatten", x, axis=1))


@register_converter(models.CNN)
def cnn(layer: models.CNN, graph: GraphBuilder, x: str) -> str:
    x = graph.reshape(x, 0, *layer.image)
    for conv in layer.convs:
        x = convert(conv, graph, x)
    return convert(layer.head, graph, convert(layer.hidden, graph, x))


@register_converter(BasicBlock)
def basic_block(layer: BasicBlock, graph: GraphBuilder, x: str) -> str:
    skip = x if layer.downsample is None else convert(layer.downsample, graph, x)
    inner = convert(layer.bn1, graph, convert(layer.conv1, graph, x))
    return batch_norm(layer.bn2, graph, convert(layer.conv2, graph, inner), skip)


@register_converter(models.ResNet18)
def resnet18(layer: models.ResNet18, graph: GraphBuilder, x: str) -> str:
    x = convert(layer.bn1, graph, convert(layer.conv1, graph, x))
    for number in range(1, 5):
        x = convert(getattr(layer, f"layer{number}"), graph, x)
    x = convert(layer.avgpool, graph, x)
    return convert(layer.fc, graph, graph.op("Flatten", x, axis=1))


@register_converter(models.GPT)
def gpt(layer: models.GPT, graph: GraphBuilder, tokens: str) -> str:
    x = convert(layer.tokens, graph, tokens)
    x = x if layer.positions is None else convert(layer.positions, graph, x)
    for block in layer.blocks:
        x = convert(block, graph, x)
    return convert(layer.head, graph, convert(layer.norm, graph, x))


@register_converter(models.LSTMLanguageModel)
def lstm_language_model(layer: models.LSTMLanguageModel, graph: GraphBuilder, tokens: str) -> str:
    return convert(layer.head, graph, convert(layer.lstm, graph, convert(layer.tokens, graph, tokens)))


@register_converter(models.PINN)
def pinn(layer: models.PINN, graph: GraphBuilder, x: str) -> str:
    x = graph.op("Mul", graph.op("Sub", x, graph.constant(layer.centre)), graph.constant(layer.scale))
    *hidden, last = layer.layers
    for each in hidden:
        x = linear(each, graph, x, layer.activation)  # type: ignore[arg-type]
    return convert(last, graph, x)
