"""Text and token files as windows of a context length, for next-token prediction.

A sample is a window of `context` tokens (`inputs`) and the same window shifted by one token (`targets`), both int64.

Training. The windows of an epoch do not overlap. The start of the first one is drawn from the seed for every epoch
(0..context - 1), so the model sees every alignment over the epochs, and every token at most once per epoch.

Validation. Every held-out token is a target exactly once; the inputs of the first window begin with the last token before
them. The last window is padded; the targets of the padding are `IGNORE` (-1), which the loss does not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad.data.datasets import IGNORE, DataInfo, DataSource, check_fitted
from allgrad.data.digest import content_digest
from allgrad.data.errors import DataError, quoted
from allgrad.data.npy import open_array
from allgrad.data.random import stream
from allgrad.data.sources import data_path, read_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from allgrad.data.datasets import Batch

__all__ = ["HeldOutWindows", "TrainWindows", "decode", "encode", "text_source", "tokens_source"]


class TrainWindows:
    """Windows that do not overlap, with another shift in every epoch.

    Example:
        >>> windows = TrainWindows(np.arange(11), context=3, seed=0)
        >>> len(windows)
        2
        >>> batch = windows.batch(np.array([0, 1]))
        >>> bool((batch["targets"] == batch["inputs"] + 1).all())
        True
    """

    def __init__(self, tokens: NDArray[Any], *, context: int, seed: int, name: str = "text") -> None:
        # The largest shift, context - 1, and the target after the last window must fit too.
        self._length = (len(tokens) - context) // context
        if context < 1 or self._length < 1:
            raise DataError(
                f"{name}: {len(tokens)} training tokens are too few for a context of {context}; "
                f"at least {2 * context} are needed. Use a shorter context or more text."
            )
        self._tokens = tokens
        self._context = context
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def batch(self, indices: NDArray[np.int64], *, epoch: int = 0) -> Batch:
        shift = int(stream(self._seed, epoch, path="text", use="shift").integers(self._context))
        starts = np.asarray(indices) * self._context + shift
        window = self._tokens[starts[:, None] + np.arange(self._context + 1)].astype(np.int64)
        return {"inputs": window[:, :-1].copy(), "targets": window[:, 1:].copy()}


class HeldOutWindows:
    """Every token after the first one as a target, once; see the top of this file.

    Example:
        >>> windows = HeldOutWindows(np.array([7, 8, 9, 5]), context=2)
        >>> windows.batch(np.arange(len(windows)))["targets"].tolist()
        [[8, 9], [5, -1]]
    """

    def __init__(self, tokens: NDArray[Any], *, context: int) -> None:
        if len(tokens) < 2:
            raise DataError(f"text: expected at least 2 tokens to evaluate on. Got {len(tokens)} instead.")
        self._tokens = tokens
        self._context = context

    def __len__(self) -> int:
        return (len(self._tokens) - 2) // self._context + 1  # all tokens but the first are targets; rounded up

    def batch(self, indices: NDArray[np.int64], *, epoch: int = 0) -> Batch:  # noqa: ARG002 (the same every epoch)
        last = len(self._tokens) - 1
        position = np.asarray(indices)[:, None] * self._context + np.arange(self._context)
        inputs = self._tokens[np.minimum(position, last)].astype(np.int64)
        targets = self._tokens[np.minimum(position + 1, last)].astype(np.int64)
        return {"inputs": inputs, "targets": np.where(position < last, targets, IGNORE)}


def text_source(
    path: str,
    *,
    unit: Literal["characters", "bytes"],
    context: int,
    valid: int,
    seed: int,
    fitted: Mapping[str, Any] | None = None,
) -> DataSource:
    """A text file (gzip or not), with its last `valid` characters or bytes held out.

    `info.extra["vocabulary"]` is a string of the characters in the file, sorted. With `unit="bytes"` it is None, and there are
    256 tokens.

    Args:
        fitted: stored preprocessing; the vocabulary is taken from it, and a character that it does not have is an error.

    Raises:
        DataError: when the file is missing, not UTF-8, or too short.
    """
    content = read_bytes(data_path(path))
    check_fitted(fitted or {"unit": unit}, {"unit": unit}, path)
    if unit == "bytes":
        fitted = _fitted(unit, 256)
        tokens: NDArray[Any] = np.frombuffer(content, dtype=np.uint8)
    else:
        text = _decoded(content, path)
        vocabulary = "".join(sorted(set(text))) if fitted is None else fitted["vocabulary"]
        fitted = _fitted(unit, len(vocabulary), vocabulary)
        tokens = _text_tokens(text, vocabulary, path)
    return _windows(tokens, fitted, content_digest(content), context=context, valid=valid, seed=seed, path=path)


def tokens_source(
    path: str,
    *,
    vocabulary_size: int,
    context: int,
    valid: int,
    seed: int,
    fitted: Mapping[str, Any] | None = None,
) -> DataSource:
    """A `.npy` file with one axis of integer token ids, memory-mapped, with its last `valid` tokens held out.

    Raises:
        DataError: when the file is missing, is not of that kind, or has a token outside 0..vocabulary_size - 1.
    """
    described = _fitted("tokens", vocabulary_size)
    check_fitted(fitted or described, described, path)
    tokens = _open_tokens(data_path(path))
    low, high = _extent(tokens)
    if low < 0 or high >= vocabulary_size:
        raise DataError(f"{path}: tokens must be in 0..{vocabulary_size - 1}. Got {low}..{high}.")
    return _windows(tokens, described, content_digest(tokens), context=context, valid=valid, seed=seed, path=path)


def encode(text: str, unit: str, vocabulary: str | None) -> NDArray[np.int64]:
    """The tokens of a prompt.

    Raises:
        DataError: for a character that is not in the vocabulary, or a model of token ids.

    Example:
        >>> encode("cab", "characters", "abc").tolist()
        [2, 0, 1]
    """
    if unit == "bytes":
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)
    if unit != "characters" or vocabulary is None:
        raise DataError(
            "encode: this model was trained on token ids, so a text cannot be encoded for it. Give token ids."
        )
    place = {letter: token for token, letter in enumerate(vocabulary)}
    unknown = sorted(set(text) - set(place))
    if unknown:
        raise DataError(
            f"encode: these characters are not in the model's vocabulary: {', '.join(map(repr, unknown))}. Leave them out."
        )
    return np.array([place[letter] for letter in text], dtype=np.int64)


def decode(tokens: NDArray[np.integer], unit: str, vocabulary: str | None) -> str:
    """The text of tokens; the inverse of `encode`. Bytes that are not UTF-8 become the replacement character.

    Example:
        >>> decode(np.array([2, 0, 1]), "characters", "abc")
        'cab'
    """
    if unit == "bytes":
        return np.asarray(tokens).astype(np.uint8).tobytes().decode(errors="replace")
    if unit != "characters" or vocabulary is None:
        raise DataError("decode: this model was trained on token ids, so its outputs cannot be decoded to text.")
    return "".join(vocabulary[int(token)] for token in tokens)


def _fitted(unit: str, size: int, vocabulary: str | None = None) -> dict[str, Any]:
    return {"kind": "text", "unit": unit, "vocabulary": vocabulary, "vocabulary_size": size}


def _decoded(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 (invalid byte at offset {error.start}). Convert the file to UTF-8, or use `unit: bytes`."
        ) from error


def _text_tokens(text: str, vocabulary: str, path: str) -> NDArray[Any]:
    """Each character's place in `vocabulary`, in the narrowest integer type; batches widen it."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    known = np.frombuffer(vocabulary.encode("utf-32-le"), dtype="<u4")  # sorted
    tokens = np.searchsorted(known, points)
    unknown = np.flatnonzero(known[np.minimum(tokens, len(known) - 1)] != points)
    if len(unknown):
        at = int(unknown[0])
        line = text.count("\n", 0, at) + 1
        column = at - text.rfind("\n", 0, at)
        raise DataError(
            f"{path}, line {line}, column {column}: the character {text[at]!r} is not in the model's vocabulary: "
            f"{quoted(vocabulary)}."
        )
    return tokens.astype(np.uint8 if len(vocabulary) <= 256 else np.int32)


def _windows(
    tokens: NDArray[Any],
    fitted: Mapping[str, Any],
    digest: str,
    *,
    context: int,
    valid: int,
    seed: int,
    path: str,
) -> DataSource:
    if not 0 < valid < len(tokens):
        raise DataError(
            f"{path}: {valid} tokens cannot be held out of {len(tokens)}. "
            "`valid` must be at least 1 and smaller than the number of tokens."
        )
    border = len(tokens) - valid
    extra = {"unit": fitted["unit"], "vocabulary": fitted["vocabulary"], "context": context}
    return DataSource(
        TrainWindows(tokens[:border], context=context, seed=seed, name=path),
        HeldOutWindows(tokens[border - 1 :], context=context),
        DataInfo("tokens", (context,), fitted["vocabulary_size"], extra),
        fitted,
        digest,
    )


def _open_tokens(path: Path) -> NDArray[Any]:
    tokens = open_array(path)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or not len(tokens):
        raise DataError(
            f"{path}: expected one axis of integer tokens, at least one. Got dtype {tokens.dtype}, shape {tokens.shape}."
        )
    return tokens


def _extent(tokens: NDArray[Any]) -> tuple[int, int]:
    """The smallest and largest token, read in blocks: a mapped file may be larger than memory."""
    blocks = [tokens[start : start + (1 << 22)] for start in range(0, len(tokens), 1 << 22)]
    return min(int(block.min()) for block in blocks), max(int(block.max()) for block in blocks)
