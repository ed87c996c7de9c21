"""Text from a language model, one token after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import no_grad
from allgrad.data.text import decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allgrad import nn

__all__ = ["sample_text"]


def sample_text(
    model: nn.Module,
    extra: Mapping[str, Any],
    *,
    context: int,
    length: int,
    prompt: str | None = None,
    temperature: float = 0.8,
    seed: int = 0,
) -> str:
    """Continue a prompt.

    Args:
        extra: the data's `info.extra`, with the vocabulary.
        context: how many of the last tokens the model sees.
        length: tokens to add.
        prompt: None for a new line, or the vocabulary's first character where it has no new line.
        temperature: 0 always takes the likeliest token; 1 samples from the model's distribution.

    Raises:
        DataError: a character of the prompt is not in the vocabulary, or the tokens are not text.
    """
    vocabulary = extra["vocabulary"]
    if prompt is None:
        prompt = "\n" if vocabulary is None or "\n" in vocabulary else vocabulary[0]
    tokens = list(encode(prompt, extra["unit"], vocabulary))
    rng = np.random.Generator(np.random.Philox(seed))
    training = model.training
    model.eval()
    try:
        with no_grad():
            for _ in range(length):
                logits = model(np.array([tokens[-context:]]))[0, -1].numpy().astype(np.float64)
                tokens.append(_choose(logits, temperature, rng))
    finally:
        model.train(training)
    return decode(np.array(tokens), extra["unit"], extra["vocabulary"])


def _choose(logits: np.ndarray[Any, Any], temperature: float, rng: np.random.Generator) -> int:
    if temperature == 0:
        return int(np.argmax(logits))
    scaled = np.exp((logits - logits.max()) / temperature)
    return int(np.searchsorted(np.cumsum(scaled), rng.random() * scaled.sum(), side="right"))
