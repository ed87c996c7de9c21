"""Text and token files as windows of a context length, for next-token prediction.

A sample is a window of `context` tokens (`inputs`) and the same window one token later (`targets`), both int64.

Training. The windows of an epoch do not overlap; where the first one starts is drawn anew every epoch (0 .. context -
1, from the seed), so that over the epochs the model sees every alignment, and in one epoch every token at most once.

Validation. Every token of the held-out end is a target exactly once; the first window's inputs begin with the last
token before it. The last window is padded, its padding's targets are `IGNORE` (-1), which the loss does not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad.data.datasets import IGNORE, DataInfo, DataSource
from allgrad.data.random import stream
from allgrad.data.sources import DataError, data_path, read_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from allgrad.data.datasets import Batch

__all__ = ["HeldOutWindows", "TrainWindows", "decode", "encode", "text_source", "tokens_source"]


class TrainWindows:
    """Windows that do not overlap, shifted anew every epoch.

    Example:
        >>> windows = TrainWindows(np.arange(11), context=3, seed=0)
        >>> len(windows)
        2
        >>> batch = windows.batch(np.array([0, 1]))
        >>> bool((batch["targets"] == batch["inputs"] + 1).all())
        True
    """

    def __init__(self, tokens: NDArray[Any], *, context: int, seed: int) -> None:
        # The largest shift, context - 1, and the target after the last window must fit too.
        self._length = (len(tokens) - context) // context
        if context < 1 or self._length < 1:
            raise DataError(
                f"text: {len(tokens)} tokens to train on are too few for a context of {context}: "
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
    """Every token behind the first one as a target, once; see the top of this file.

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


def text_source(path: str, *, unit: Literal["characters", "bytes"], context: int, valid: int, seed: int) -> DataSource:
    """A text file (gzip or not), its last `valid` characters or bytes held out.

    The vocabulary is the sorted set of the file's characters, or the 256 bytes; it is `info.extra["vocabulary"]`
    (a string) or, for bytes, None.

    Raises:
        DataError: when the file is missing, not UTF-8, or too short.
    """
    file = data_path(path)
    content = read_bytes(file)
    if unit == "bytes":
        tokens: NDArray[Any] = np.frombuffer(content, dtype=np.uint8)
        return _windows(tokens, 256, {"unit": unit, "vocabulary": None}, context, valid, seed, path)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}). Convert it, or use `unit: bytes`.") from error
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    vocabulary, tokens = np.unique(points, return_inverse=True)
    letters = "".join(map(chr, vocabulary))
    # Kept in the narrowest type: a window is widened when it is read.
    narrow = tokens.astype(np.uint8 if len(letters) <= 256 else np.int32)
    return _windows(narrow, len(letters), {"unit": unit, "vocabulary": letters}, context, valid, seed, path)


def tokens_source(path: str, *, vocabulary_size: int, context: int, valid: int, seed: int) -> DataSource:
    """A file of token ids, `.npy`, one axis, integers; memory-mapped. Its last `valid` tokens are held out.

    Raises:
        DataError: when the file is missing, not of that kind, or holds a token outside 0 .. vocabulary_size - 1.
    """
    tokens = _open_tokens(data_path(path))
    low, high = _extent(tokens)
    if low < 0 or high >= vocabulary_size:
        raise DataError(f"{path}: tokens must lie in 0..{vocabulary_size - 1}. Got {low}..{high} instead.")
    return _windows(tokens, vocabulary_size, {"unit": "tokens", "vocabulary": None}, context, valid, seed, path)


def encode(text: str, unit: str, vocabulary: str | None) -> NDArray[np.int64]:
    """The tokens of a prompt.

    Raises:
        DataError: for a character that the vocabulary has not, or a unit that is not text.

    Example:
        >>> encode("cab", "characters", "abc").tolist()
        [2, 0, 1]
    """
    if unit == "bytes":
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)
    if unit != "characters" or vocabulary is None:
        raise DataError("encode: a model that was trained on token ids has no text. Give token ids.")
    place = {letter: token for token, letter in enumerate(vocabulary)}
    unknown = sorted(set(text) - set(place))
    if unknown:
        raise DataError(f"encode: the text that was trained on has no {', '.join(map(repr, unknown))}. Leave it out.")
    return np.array([place[letter] for letter in text], dtype=np.int64)


def decode(tokens: NDArray[np.integer], unit: str, vocabulary: str | None) -> str:
    """The text of tokens; the reverse of `encode`. Bytes that are not UTF-8 become the replacement character.

    Example:
        >>> decode(np.array([2, 0, 1]), "characters", "abc")
        'cab'
    """
    if unit == "bytes":
        return np.asarray(tokens).astype(np.uint8).tobytes().decode(errors="replace")
    if unit != "characters" or vocabulary is None:
        raise DataError("decode: a model that was trained on token ids has no text.")
    return "".join(vocabulary[int(token)] for token in tokens)


def _windows(
    tokens: NDArray[Any], size: int, extra: dict[str, Any], context: int, valid: int, seed: int, path: str
) -> DataSource:
    if not 0 < valid < len(tokens):
        raise DataError(f"{path}: {valid} tokens cannot be held out of {len(tokens)}.")
    border = len(tokens) - valid
    return DataSource(
        TrainWindows(tokens[:border], context=context, seed=seed),
        HeldOutWindows(tokens[border - 1 :], context=context),
        DataInfo("tokens", (context,), size, extra | {"context": context}),
    )


def _open_tokens(path: Path) -> NDArray[Any]:
    try:
        tokens: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not readable as a .npy file: {error}.") from error
    if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or tokens.dtype.kind not in "iu" or not len(tokens):
        raise DataError(f"{path}: expected a .npy file with one axis of integer tokens.")
    return tokens


def _extent(tokens: NDArray[Any]) -> tuple[int, int]:
    """The smallest and largest token, read in blocks: a mapped file may be larger than memory."""
    blocks = [tokens[start : start + (1 << 22)] for start in range(0, len(tokens), 1 << 22)]
    return min(int(block.min()) for block in blocks), max(int(block.max()) for block in blocks)
