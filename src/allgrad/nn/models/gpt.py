"""A GPT-style transformer: a decoder without an encoder (Radford et al. 2019)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from allgrad.autodiff import checkpoint
from allgrad.nn import init
from allgrad.nn.dropout import Dropout
from allgrad.nn.embedding import Embedding, LearnedPositions
from allgrad.nn.errors import InputError, LayerOptionError
from allgrad.nn.linear import Linear
from allgrad.nn.module import Module
from allgrad.nn.multihead import TransformerBlock, make_norm
from allgrad.nn.sequential import ModuleList


class GPT(Module):
    """An embedding, positions, transformer blocks, and a head.

    tokens: (batch, length) int; result (logits of the next token): (batch, length, vocabulary) float. As in GPT-2, weights start
    normal with standard deviation 0.02 (0.02 / sqrt(2 layers) in the layers that add to the residual stream), and biases at 0.

    Args:
        vocabulary: number of tokens.
        context: the longest sequence.
        layers: number of blocks.
        width: length of the vectors between blocks.
        heads, key_heads, hidden, bias: see `TransformerBlock`.
        activation: "gelu", "gelu_tanh" (as in GPT-2), ...
        positions: "learned" or "rotary".
        norm: "layer" or "rms".
        tied: whether the head is the transposed table of the tokens (Press & Wolf 2017).
        dropout: probability in training.
        recompute: keep only the inputs of the blocks for backward and compute the rest again: less memory, a third more work.
        rng: source of the initial numbers.
        dtype: of the parameters, float32 or float64.

    Raises:
        LayerOptionError: if options do not fit together.
        InputError: if a sequence is too long.
        IndexRangeError: if a token is not in the vocabulary.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> model = nn.models.GPT(65, context=16, layers=2, width=32, heads=4, rng=0)
    >>> model(np.zeros((3, 16), np.int64)).shape
    (3, 16, 65)
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        context: int,
        layers: int = 4,
        width: int = 128,
        heads: int = 4,
        key_heads: int | None = None,
        hidden: int | None = None,
        activation: str = "gelu",
        positions: str = "learned",
        norm: str = "layer",
        bias: bool = True,
        tied: bool = True,
        dropout: float = 0.0,
        recompute: bool = False,
        rng: init.Rng = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        if positions not in ("learned", "rotary"):
            raise LayerOptionError(f"GPT: positions must be 'learned' or 'rotary'. Got {positions!r} instead.")
        rng = init.generator(rng)
        learned = positions == "learned"
        self.context, self.recompute = context, recompute
        self.tokens = Embedding(vocabulary, width, std=0.02, rng=rng, dtype=dtype)
        self.positions = LearnedPositions(context, width, std=0.02, rng=rng, dtype=dtype) if learned else None
        self.dropout = Dropout(dropout)
        self.blocks = ModuleList(
            TransformerBlock(
                width, heads, key_heads=key_heads, hidden=hidden, activation=activation, causal=True, bias=bias,
                rotary=None if learned else context, dropout=dropout, norm=norm, rng=rng, dtype=dtype,
            )
            for _ in range(layers)
        )  # fmt: skip
        self.norm = make_norm(norm, width, bias=bias, eps=1e-5, dtype=dtype)
        table = self.tokens.weight if tied else None
        self.head = Linear(width, vocabulary, bias=False, tied=table, rng=rng, dtype=dtype)
        self._start(rng, layers, tied)

    @property
    def rows_independent(self) -> bool:  # type: ignore[override]
        """A recomputed block gives each parameter's gradient as a whole."""
        return not self.recompute

    def _start(self, rng: np.random.Generator, layers: int, tied: bool) -> None:
        def initialize(weight: Any, std: float) -> None:
            weight.assign(init.normal(weight.shape, rng, std=std, dtype=weight.dtype))

        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            initialize(block.self_attn.in_proj_weight, 0.02)
            initialize(block.linear1.weight, 0.02)
            for layer in (block.self_attn.out_proj, block.linear2):
                initialize(layer.weight, 0.02 / math.sqrt(2 * layers))
            for layer in (block.linear1, block.linear2):
                if layer.bias is not None:
                    layer.bias.assign(np.zeros(layer.bias.shape))
        if not tied:
            initialize(self.head.weight, 0.02)

    def forward(self, tokens: Any) -> Any:
        if tokens.ndim != 2 or tokens.shape[1] > self.context:
            raise InputError(
                f"{self.where()}: expects tokens (batch, length up to {self.context}). Got shape {tokens.shape} instead."
            )
        x = self.tokens(tokens)
        x = self.dropout(x if self.positions is None else self.positions(x))
        for block in self.blocks:
            x = checkpoint(block)(x) if self.recompute else block(x)
        return self.head(self.norm(x))
