"""An LSTM language model (Zaremba, Sutskever & Vinyals 2014)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from allgrad.nn import init
from allgrad.nn.dropout import Dropout
from allgrad.nn.embedding import Embedding
from allgrad.nn.linear import Linear
from allgrad.nn.module import Module
from allgrad.nn.recurrent import LSTM


class LSTMLanguageModel(Module):
    """An embedding, stacked LSTM layers, and a head.

    tokens: (batch, length) int; result (logits of the next token): (batch, length, vocabulary) float.

    Args:
        vocabulary: number of tokens.
        width: length of the embedding's vectors and of the LSTM's states.
        layers: number of stacked LSTM layers.
        dropout: probability in training, on the embedding, between the layers, and before the head.
        tied: whether the head is the transposed table of the tokens (Press & Wolf 2017).
        rng: source of the initial numbers.
        dtype: of the parameters, float32 or float64.

    Raises:
        IndexRangeError: if a token is not in the vocabulary.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> model = nn.models.LSTMLanguageModel(65, width=32, rng=0)
    >>> model(np.zeros((3, 16), np.int64)).shape
    (3, 16, 65)
    """

    rows_independent = True

    def __init__(
        self,
        vocabulary: int,
        *,
        width: int = 128,
        layers: int = 2,
        dropout: float = 0.0,
        tied: bool = False,
        rng: init.Rng = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        rng = init.generator(rng)
        self.tokens = Embedding(vocabulary, width, std=0.1 if tied else 1.0, rng=rng, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.lstm = LSTM(width, width, num_layers=layers, dropout=dropout, rng=rng, dtype=dtype)
        table = self.tokens.weight if tied else None
        self.head = Linear(width, vocabulary, tied=table, rng=rng, dtype=dtype)

    def forward(self, tokens: Any) -> Any:
        return self.advance(tokens, None)[0]

    def advance(self, tokens: Any, state: tuple[Any, Any] | None) -> tuple[Any, tuple[Any, Any]]:
        """The logits, and the state (h, c) after the last token, from which the next call can continue."""
        y, state = self.lstm(self.dropout(self.tokens(tokens)), state)
        return self.head(self.dropout(y)), state
