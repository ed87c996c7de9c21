"""What was written is read, and what was not written is refused, whatever happened to the bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from checkpoints import STATE, arrays, save
from hypothesis import given, settings
from hypothesis import strategies as st

from allgrad.train.checkpoint import format as checkpoint
from allgrad.train.checkpoint.format import (
    CheckpointError,
    DamagedCheckpointError,
    list_checkpoints,
    load_best,
    load_latest,
    read_checkpoint,
    weights_sha256,
)
from allgrad.train.checkpoint.writer import CheckpointWriter


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two whole checkpoints, of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    save(folder, 1, 2)
    return folder


@pytest.fixture
def damaged(pair: Path, tmp_path: Path) -> Path:
    """A copy of `pair` to damage."""
    return Path(shutil.copytree(pair, tmp_path / "checkpoints"))


@pytest.mark.parametrize("asynchronous", [True, False])
def test_what_was_saved_is_read(tmp_path: Path, asynchronous: bool) -> None:
    save(tmp_path, 3, asynchronous=asynchronous)
    found, refused = load_latest(tmp_path)
    assert found is not None
    assert (found.step, found.state, refused) == (3, STATE, [])
    assert found.model.keys() == arrays(3).keys()
    for name, array in arrays(3).items():
        assert found.model[name].dtype == array.dtype
        assert found.model[name].shape == array.shape
        np.testing.assert_array_equal(found.model[name], array)
    assert sorted(path.name for path in found.path.iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "state.json",
        "training.safetensors",
    ]


def test_strided_and_big_endian_arrays_are_laid_out(tmp_path: Path) -> None:
    grid = np.arange(6.0).reshape(2, 3)
    with CheckpointWriter(tmp_path) as writer:
        writer.save(1, model={"t": grid.T, "s": grid[:, ::-1], "b": grid.astype(">f8")}, training={}, state={})
    found = read_checkpoint(tmp_path / "step-000001").model
    np.testing.assert_array_equal(found["t"], grid.T)
    np.testing.assert_array_equal(found["s"], grid[:, ::-1])
    np.testing.assert_array_equal(found["b"], grid)


def test_no_array_of_objects(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path) as writer, pytest.raises(TypeError, match="must hold numbers"):
        writer.save(1, model={"w": np.array([None])}, training={}, state={})
    assert list_checkpoints(tmp_path) == []


# Damage


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "state.json", "manifest.json"])
def test_cut_at_any_byte_is_refused(damaged: Path, name: str) -> None:
    file = damaged / "step-000002" / name
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        with pytest.raises(DamagedCheckpointError, match=r"step-000002 is damaged: .*" + name):
            read_checkpoint(file.parent)
    found, refused = load_latest(damaged)
    assert found is not None
    assert found.step == 1
    assert len(refused) == 1
    assert "step-000002" in refused[0]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_one_flipped_bit_is_refused(pair: Path, data: st.DataObject) -> None:
    folder = pair / "step-000002"
    file = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = file.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    try:
        file.write_bytes(flipped)
        with pytest.raises(DamagedCheckpointError, match="step-000002 is damaged"):
            read_checkpoint(folder)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "state.json", "manifest.json"])
def test_a_missing_file_is_refused(damaged: Path, name: str) -> None:
    (damaged / "step-000002" / name).unlink()
    found, refused = load_latest(damaged)
    assert found is not None
    assert found.step == 1
    assert "missing" in refused[0]


def test_another_steps_folder_is_refused(damaged: Path) -> None:
    shutil.rmtree(damaged / "step-000002")
    (damaged / "step-000001").rename(damaged / "step-000002")
    with pytest.raises(DamagedCheckpointError, match="its manifest belongs to step 1"):
        read_checkpoint(damaged / "step-000002")


def test_a_later_format_is_not_called_damaged(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 3)
    with pytest.raises(CheckpointError, match="has format 2; this version of allgrad reads format 3"):
        read_checkpoint(damaged / "step-000002")


def test_all_damaged_is_an_error_that_names_each(damaged: Path) -> None:
    for path in list_checkpoints(damaged):
        (path / "state.json").write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="no whole checkpoint") as caught:
        load_latest(damaged)
    assert "step-000001" in str(caught.value)
    assert "step-000002" in str(caught.value)


def test_none_is_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "checkpoints") == (None, [])
    assert load_best(tmp_path, "min") is None
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        read_checkpoint(tmp_path / "step-000001")


# The digest


def test_digest_is_of_names_dtypes_shapes_and_bits() -> None:
    base = {"a": np.arange(6, dtype=np.float32), "b": np.zeros((2, 0)), "c": np.array(1.0)}
    digest = weights_sha256(base)
    assert digest == weights_sha256({name: base[name] for name in "cba"})
    assert digest == weights_sha256({**base, "a": np.repeat(base["a"], 2)[::2]})
    assert digest == weights_sha256({**base, "a": base["a"].astype(">f4")})
    others = [
        {**base, "a": base["a"].reshape(2, 3)},
        {**base, "a": base["a"].astype(np.float64)},
        {**base, "a": base["a"].view(np.int32)},
        {**base, "a": np.nextafter(base["a"], np.float32(9))},
        {**base, "c": np.array(-1.0)},
        {"a": base["a"], "b": base["b"], "d": base["c"]},
        {"a": base["a"], "b": base["b"]},
    ]
    digests = [weights_sha256(other) for other in others]
    assert len({digest, *digests}) == len(others) + 1


def test_digest_stays_what_it_was() -> None:
    """Written down once: a digest in an old summary.json must still mean the same."""
    weights = {"w": np.array([[1.0, -2.0]], np.float32), "b": np.array([0.5])}
    assert weights_sha256(weights) == EXPECTED


EXPECTED = "ffd1110833cad1d03dfe28a43f24baeb261e42a82d0b5f756c00cd3865d3bf4f"


def test_negative_zero_has_another_digest() -> None:
    assert weights_sha256({"w": np.array([0.0])}) != weights_sha256({"w": np.array([-0.0])})


def test_state_is_json(pair: Path) -> None:
    raw = json.loads((pair / "step-000001" / "state.json").read_text())
    assert raw == {**STATE, "step": 1}
