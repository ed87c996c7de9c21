"""Multi-head self-attention and the transformer block."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from allgrad.nn import init
from allgrad.nn.attention import Heads, packed_attention
from allgrad.nn.checks import private_copy, refuse_input
from allgrad.nn.dropout import Dropout, dropout_mask
from allgrad.nn.embedding import RotaryPositions
from allgrad.nn.errors import InputError, LayerOptionError
from allgrad.nn.linear import Linear, linear
from allgrad.nn.module import Module
from allgrad.nn.norm import LayerNorm, RMSNorm
from allgrad.nn.parameter import TRANSPOSED, Parameter

Array = np.ndarray[Any, Any]


class MultiheadAttention(Module):
    """Self-attention with several heads.

    x: (batch, length, features) float; key_padding_mask: (batch, length) bool, True where a position is padding, or None;
    result: (batch, length, features) float. The parameters have the names of PyTorch's `nn.MultiheadAttention` (in_proj_weight,
    in_proj_bias, out_proj) and in files also its shapes. With fewer key heads, in_proj_weight is
    (features + 2 key_heads * head_features, features) in files.

    Reference: Vaswani et al., "Attention Is All You Need" (NeurIPS 2017); fewer key heads: Ainslie et al. (EMNLP 2023).

    Args:
        features: length of the last axis, a multiple of `heads`.
        heads: number of query heads.
        key_heads: number of key and value heads, a divisor of `heads`; by default as many as query heads.
        causal: whether position i sees only positions 0 to i.
        bias: whether the projections have biases.
        rotary: longest sequence for rotary positions of queries and keys; None for no rotary positions.
        dropout: probability of dropping an attention weight in training.
        rng: source of the initial numbers: Xavier uniform for the input projection, as in PyTorch; biases start at 0.
        dtype: of the parameters and the input, float32 or float64.

    Raises:
        LayerOptionError: if sizes do not fit together.
        InputError, InputTypeError: if an input has the wrong shape or dtype; the message names the layer's path.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.MultiheadAttention(8, 2, causal=True, rng=0)(np.ones((1, 5, 8), np.float32)).shape
    (1, 5, 8)
    """

    rows_independent = True

    def __init__(
        self,
        features: int,
        heads: int,
        *,
        key_heads: int | None = None,
        causal: bool = False,
        bias: bool = True,
        rotary: int | None = None,
        dropout: float = 0.0,
        rng: init.Rng,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        key_heads = heads if key_heads is None else key_heads
        if heads < 1 or key_heads < 1 or features % heads or heads % key_heads:
            raise LayerOptionError(
                "MultiheadAttention: heads must divide the features, and key_heads the heads. "
                f"Got {features} features, {heads} heads, {key_heads} key heads."
            )
        if not 0 <= dropout < 1:
            raise LayerOptionError(f"MultiheadAttention: dropout must be in [0, 1). Got {dropout!r} instead.")
        rng = init.generator(rng)
        self.features, self.heads, self.causal, self.dropout = features, Heads(heads, key_heads), causal, dropout
        self.head_features = features // heads
        packed = self.heads.packed * self.head_features
        self.in_proj_weight = Parameter(init.xavier_uniform((features, packed), rng, dtype=dtype), layout=TRANSPOSED)
        self.in_proj_bias = Parameter(np.zeros(packed, dtype)) if bias else None
        self.out_proj = Linear(features, features, bias=bias, rng=rng, dtype=dtype)
        if self.out_proj.bias is not None:
            self.out_proj.bias.assign(np.zeros(features))
        self.positions = None if rotary is None else RotaryPositions(self.head_features, rotary, dtype=dtype)

    def forward(self, x: Any, key_padding_mask: Any = None) -> Any:
        """Attend. See the class for shapes."""
        if x.dtype != self.in_proj_weight.value.dtype or x.shape[-1] != self.features:
            refuse_input(self, x, self.features, self.in_proj_weight.dtype)
        if x.ndim != 3:
            raise InputError(f"{self.where()}: expects (batch, length, {self.features}). Got shape {x.shape} instead.")
        batch, length, _ = x.shape
        padding_mask = self._checked_mask(key_padding_mask, (batch, length))
        packed = linear(x, self.in_proj_weight, self.in_proj_bias)
        packed = np.reshape(packed, (batch, length, self.heads.packed, self.head_features))
        if self.positions is not None:
            packed = self.positions(packed, self.heads.queries + self.heads.keys)
        answer = self._attend(packed, padding_mask)
        return self.out_proj(np.reshape(answer, (batch, length, self.features)))

    def _attend(self, packed: Any, padding_mask: Array | None) -> Any:
        mask = None
        if self.training and self.dropout:
            batch, length = packed.shape[:2]
            shape = batch, self.heads.queries, length, length
            mask = dropout_mask(self.path or "", shape, self.dropout, packed.dtype)
        return packed_attention(
            packed,
            heads=self.heads,
            causal=self.causal,
            padding_mask=padding_mask,
            scale=1 / math.sqrt(self.head_features),
            dropout=mask,
        )

    def _checked_mask(self, mask: Any, shape: tuple[int, int]) -> Array | None:
        if mask is None:
            return None
        copy: Array = private_copy(mask)
        if copy.shape != shape or copy.dtype != bool:
            raise InputError(
                f"{self.where()}: key_padding_mask must be bool of shape {shape}, True where a position is padding. "
                f"Got {copy.dtype} of shape {copy.shape} instead."
            )
        return copy

    def extra_repr(self) -> str:
        keys = "" if self.heads.keys == self.heads.queries else f", key_heads={self.heads.keys}"
        return f"{self.features}, {self.heads.queries} heads{keys}{', causal' if self.causal else ''}"


class TransformerBlock(Module):
    """Attention and a two-layer network, each with a skip connection.

    x: (batch, length, features) float; key_padding_mask: (batch, length) bool or None; result: (batch, length, features) float.
    With layer norm, the parameters have the names of PyTorch's `nn.TransformerEncoderLayer` and in files also its shapes.

    Args:
        features, heads, key_heads, causal, bias, rotary, rng, dtype: see `MultiheadAttention`.
        hidden: length of the vectors between the two linear layers; by default 4 * features.
        activation: see `Linear`.
        dropout: probability in training, after attention, after the network, and on the attention weights.
        norm: "layer" or "rms".
        norm_first: x + f(norm(x)) (Xiong et al. 2020) if True, norm(x + f(x)) (Vaswani et al. 2017) if False.
        eps: of the norms.

    Raises:
        LayerOptionError: if options do not fit together.
        InputError, InputTypeError: if an input has the wrong shape or dtype.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.TransformerBlock(8, 2, rng=0)(np.ones((1, 5, 8), np.float32)).shape
    (1, 5, 8)
    """

    rows_independent = True

    def __init__(
        self,
        features: int,
        heads: int,
        *,
        key_heads: int | None = None,
        hidden: int | None = None,
        activation: str = "gelu",
        causal: bool = False,
        bias: bool = True,
        rotary: int | None = None,
        dropout: float = 0.0,
        norm: str = "layer",
        norm_first: bool = True,
        eps: float = 1e-5,
        rng: init.Rng,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        rng = init.generator(rng)
        hidden = 4 * features if hidden is None else hidden
        self.self_attn = MultiheadAttention(
            features, heads, key_heads=key_heads, causal=causal, bias=bias, rotary=rotary, dropout=dropout, rng=rng,
            dtype=dtype,
        )  # fmt: skip
        self.linear1 = Linear(features, hidden, bias=bias, activation=activation, rng=rng, dtype=dtype)
        self.linear2 = Linear(hidden, features, bias=bias, rng=rng, dtype=dtype)
        self.norm1 = make_norm(norm, features, bias=bias, eps=eps, dtype=dtype)
        self.norm2 = make_norm(norm, features, bias=bias, eps=eps, dtype=dtype)
        self.dropout, self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout), Dropout(dropout)
        self.norm_first = norm_first

    def forward(self, x: Any, key_padding_mask: Any = None) -> Any:
        """Attend. See the class for shapes."""
        if self.norm_first:
            x = x + self.dropout1(self.self_attn(self.norm1(x), key_padding_mask))
            return x + self._network(self.norm2(x))
        x = self.norm1(x + self.dropout1(self.self_attn(x, key_padding_mask)))
        return self.norm2(x + self._network(x))

    def _network(self, x: Any) -> Any:
        return self.dropout2(self.linear2(self.dropout(self.linear1(x))))


def make_norm(name: str, features: int, *, bias: bool, eps: float, dtype: npt.DTypeLike) -> LayerNorm | RMSNorm:
    """The norm of this name: "layer" or "rms"."""
    if name == "layer":
        return LayerNorm(features, eps=eps, bias=bias, dtype=dtype)
    if name == "rms":
        return RMSNorm(features, eps=eps, dtype=dtype)
    raise LayerOptionError(f"norm must be 'layer' or 'rms'. Got {name!r} instead.")
