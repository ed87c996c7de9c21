"""The LSTM language model against the same network in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layers import check_against_torch

from allgrad import nn


@pytest.mark.parametrize("tied", [False, True])
def test_equals_torch_over_ten_steps(tied: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")

    class Twin(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.tokens = torch.nn.Embedding(11, 8)
            self.lstm = torch.nn.LSTM(8, 8, 2, batch_first=True)
            self.head = torch.nn.Linear(8, 11)
            if tied:
                self.head.weight = self.tokens.weight

        def forward(self, tokens: Any) -> Any:
            return self.head(self.lstm(self.tokens(tokens))[0])

    tokens = np.random.default_rng(0).integers(0, 11, (3, 7))
    check_against_torch(nn.models.LSTMLanguageModel(11, width=8, tied=tied, rng=0), Twin(), tokens)


def test_advance_goes_on_where_it_stopped() -> None:
    model = nn.models.LSTMLanguageModel(11, width=8, rng=0)
    tokens = np.random.default_rng(0).integers(0, 11, (2, 6))
    whole = model(tokens).value
    state = None
    for t in range(6):
        logits, state = model.advance(tokens[:, t : t + 1], state)
        np.testing.assert_allclose(logits.value[:, 0], whole[:, t], rtol=1e-5, atol=1e-6)
