"""Text and token files as windows."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allgrad.data import IGNORE, DataError
from allgrad.data.text import HeldOutWindows, TrainWindows, decode, encode, text_source, tokens_source

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "Call me Ishmael. ☃ Some years ago, never mind how long precisely. " * 4


def everything(subset: Any, epoch: int = 0) -> Any:
    return subset.batch(np.arange(len(subset)), epoch=epoch)


@given(st.integers(2, 200), st.integers(1, 20), st.integers(0, 5))
def test_training_windows(count: int, context: int, epoch: int) -> None:
    if count < 2 * context:
        with pytest.raises(DataError, match=f"at least {2 * context} are needed"):
            TrainWindows(np.arange(count), context=context, seed=0)
        return
    batch = everything(TrainWindows(np.arange(count), context=context, seed=0), epoch)
    np.testing.assert_array_equal(batch["targets"], batch["inputs"] + 1)
    flat = batch["inputs"].ravel()
    np.testing.assert_array_equal(flat, np.arange(flat[0], flat[0] + flat.size))  # each token at most once
    assert flat[0] < context
    assert batch["targets"].max() < count
    assert count - flat.size < 2 * context  # and few are left out


def test_every_epoch_has_a_shift_of_its_own() -> None:
    windows = TrainWindows(np.arange(1000), context=50, seed=3)
    first = [int(windows.batch(np.array([0]), epoch=epoch)["inputs"][0, 0]) for epoch in range(40)]
    assert len(set(first)) > 15
    assert first == [int(windows.batch(np.array([0]), epoch=epoch)["inputs"][0, 0]) for epoch in range(40)]


@given(st.integers(2, 100), st.integers(1, 20))
def test_every_held_out_token_is_a_target_once(count: int, context: int) -> None:
    tokens = np.arange(count)
    batch = everything(HeldOutWindows(tokens, context=context))
    counted = batch["targets"] != IGNORE
    np.testing.assert_array_equal(batch["targets"][counted], tokens[1:])
    np.testing.assert_array_equal(batch["inputs"][counted], tokens[:-1])
    assert batch["inputs"].min() >= 0
    assert batch["inputs"].shape[1] == context


@pytest.mark.parametrize("unit", ["characters", "bytes"])
def test_a_text_file(tmp_path: Path, unit: Any) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(TEXT.encode()))
    data = text_source(str(path), unit=unit, context=8, valid=20, seed=0)
    vocabulary = data.info.extra["vocabulary"]
    train, valid = everything(data.train), everything(data.valid)
    assert (data.info.kind, data.info.input_shape) == ("tokens", (8,))
    assert data.info.outputs == (256 if unit == "bytes" else len(set(TEXT)))
    assert {array.dtype for array in (*train.values(), *valid.values())} == {np.dtype(np.int64)}
    held_out = valid["targets"][valid["targets"] != IGNORE]
    assert decode(held_out, unit, vocabulary) == TEXT[-20:]
    assert decode(valid["inputs"][0], unit, vocabulary) == TEXT[-21:-13]
    assert decode(train["inputs"].ravel(), unit, vocabulary) in TEXT[:-20] or unit == "bytes"
    np.testing.assert_array_equal(encode(TEXT[-20:], unit, vocabulary), held_out)


def test_a_prompt_with_unknown_characters() -> None:
    with pytest.raises(DataError, match="not in the model's vocabulary: 'x', 'é'"):
        encode("axé", "characters", "abc")
    for call in (lambda: encode("a", "tokens", None), lambda: decode(np.array([1]), "tokens", None)):
        with pytest.raises(DataError, match="token ids"):
            call()


@pytest.mark.parametrize("dtype", ["u2", "<i4", ">i8"])
def test_a_token_file(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "t.npy", np.arange(100).astype(dtype))
    data = tokens_source(str(tmp_path / "t.npy"), vocabulary_size=100, context=5, valid=30, seed=0)
    assert everything(data.valid)["targets"].ravel().tolist() == list(range(70, 100))
    assert everything(data.train)["inputs"].dtype == np.int64
    with pytest.raises(DataError, match=r"tokens must be in 0\.\.49. Got 0\.\.99"):
        tokens_source(str(tmp_path / "t.npy"), vocabulary_size=50, context=5, valid=30, seed=0)


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2), int), np.zeros(0, int), np.array([None])])
def test_other_files_are_no_token_files(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(DataError, match=r"t\.npy: (expected|not readable)"):
        tokens_source(str(tmp_path / "t.npy"), vocabulary_size=50, context=5, valid=30, seed=0)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"abc", "cannot be held out of 3"),
        (b"x" * 26, "too few"),
        (b"\x1f\x8bxx", "damaged gzip"),
    ],
)
def test_unusable_text_files_are_refused(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(DataError, match=match):
        text_source(str(tmp_path / "t"), unit="characters", context=8, valid=20, seed=0)


def test_moby_dick() -> None:
    data = text_source("package:moby_dick.txt.gz", unit="characters", context=128, valid=100_000, seed=0)
    counted = everything(data.valid)["targets"] != IGNORE
    assert (int(counted.sum()), len(data.train)) == (100_000, (1_190_317 - 100_000 - 128) // 128)
