"""The models that a configuration can name, and their options."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from allgrad.data import DataError
from allgrad.nn import models
from allgrad.train.config.errors import ConfigError, Mistake
from allgrad.train.config.registry import register_model

if TYPE_CHECKING:
    import numpy as np

    from allgrad.data import DataInfo

__all__ = ["cnn", "gpt", "lstm", "mlp", "pinn", "resnet18"]

Count = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Curve = Literal["relu", "gelu", "gelu_tanh", "tanh", "silu"]


@register_model("mlp", kinds=("classes", "values", "points"))
def mlp(
    info: DataInfo,
    rng: np.random.Generator,
    *,
    hidden: tuple[Count, ...] = (512, 512),
    activation: Curve = "relu",
    dropout: Probability = 0.0,
) -> Any:
    """A multilayer perceptron on flattened inputs.

    Args:
        hidden: units of each hidden layer.
        activation: function after each hidden layer.
        dropout: probability of dropping a unit after each hidden layer, in training.
    """
    return models.MLP(
        [math.prod(info.input_shape), *hidden, info.outputs], activation=activation, dropout=dropout, rng=rng
    )


@register_model("gpt", kinds=("tokens",))
def gpt(
    info: DataInfo,
    rng: np.random.Generator,
    *,
    context: Count,
    layers: Count = 4,
    width: Count = 128,
    heads: Count = 4,
    activation: Curve = "gelu",
    positions: Literal["learned", "rotary"] = "learned",
    norm: Literal["layer", "rms"] = "layer",
    dropout: Probability = 0.0,
    tied_head: bool = True,
    recompute: bool = False,
) -> Any:
    """A decoder-only transformer over tokens.

    Args:
        context: longest sequence, in tokens; at least `data.context`.
        layers: number of transformer blocks.
        width: features of a token; a multiple of `heads`.
        heads: attention heads of each block.
        activation: function inside each feed-forward layer.
        positions: how positions are encoded: `learned` vectors, or `rotary` embeddings of queries and keys.
        norm: normalisation before each sublayer: `layer` norm, or `rms` norm.
        dropout: probability of dropping an entry on the embedding and inside each block, in training.
        tied_head: whether the output layer shares the weights of the token embedding.
        recompute: whether each block's activations are computed again in the backward pass, which saves memory for time.
    """
    if context < info.input_shape[0]:
        text = f"must be at least data.context ({info.input_shape[0]}), not {context}."
        raise ConfigError([Mistake("model.context", text)])
    return models.GPT(
        info.outputs, context=context, layers=layers, width=width, heads=heads, activation=activation, positions=positions,
        norm=norm, dropout=dropout, tied=tied_head, recompute=recompute, rng=rng,
    )  # fmt: skip


@register_model("cnn", kinds=("classes", "values"))
def cnn(info: DataInfo, rng: np.random.Generator, *, dropout: Probability = 0.0) -> Any:
    """A small convolutional network for small images.

    Args:
        dropout: probability of dropping a unit before each linear layer, in training.
    """
    return models.CNN(_image(info), info.outputs, dropout=dropout, rng=rng)


@register_model("resnet18", kinds=("classes", "values"))
def resnet18(
    info: DataInfo,
    rng: np.random.Generator,
    *,
    widths: tuple[Count, Count, Count, Count] = (64, 128, 256, 512),
    sync_batch_norm: bool = False,
) -> Any:
    """ResNet-18 in its form for images of about 32 x 32.

    Args:
        widths: channels of each of the four stages.
        sync_batch_norm: whether batch statistics are those of the global batch rather than of one virtual worker.
    """
    return models.ResNet18(info.outputs, channels=_image(info)[2], widths=widths, sync=sync_batch_norm, rng=rng)


@register_model("lstm", kinds=("tokens",))
def lstm(
    info: DataInfo,
    rng: np.random.Generator,
    *,
    width: Count = 256,
    layers: Count = 2,
    dropout: Probability = 0.0,
    tied_head: bool = False,
) -> Any:
    """An LSTM language model.

    Args:
        width: features of a token, and units of each layer.
        layers: number of LSTM layers.
        dropout: probability of dropping an entry on the embedding, between layers and before the output, in training.
        tied_head: whether the output layer shares the weights of the token embedding.
    """
    return models.LSTMLanguageModel(info.outputs, width=width, layers=layers, dropout=dropout, tied=tied_head, rng=rng)


@register_model("pinn", kinds=("values", "points"))
def pinn(
    info: DataInfo,
    rng: np.random.Generator,
    *,
    hidden: tuple[Count, ...] = (32, 32, 32),
    activation: Literal["tanh", "silu", "softplus"] = "tanh",
) -> Any:
    """A network for physics-informed losses, smooth enough to be differentiated in its input.

    Args:
        hidden: units of each hidden layer.
        activation: function after each hidden layer.
    """
    return models.PINN([math.prod(info.input_shape), *hidden, info.outputs], activation=activation, rng=rng)


def _image(info: DataInfo) -> tuple[int, int, int]:
    """(H, W, C) of the data's images.

    Raises:
        DataError: the samples are not images.
    """
    shape = info.input_shape
    if len(shape) not in (2, 3):
        raise DataError(
            f"model: a convolutional network needs images, (H, W) or (H, W, C). Samples have shape {shape}."
        )
    return (shape[0], shape[1], shape[2] if len(shape) == 3 else 1)
