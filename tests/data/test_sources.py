"""Finding and reading files, and splitting rows."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest

from allgrad.data import DataError
from allgrad.data.sources import data_path, read_bytes, split_rows

if TYPE_CHECKING:
    from pathlib import Path


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_path("a").read_text() == data_path("~/a").read_text() == "x"
    with pytest.raises(DataError, match=f"b: no such file .*{tmp_path}/b"):
        data_path("b")
    with pytest.raises(DataError, match=r"allgrad has no such file. It has: .*moby_dick.txt.gz"):
        data_path("package:nothing")


def test_gzip_is_known_by_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(b"text"))
    (tmp_path / "b.gz").write_bytes(b"text")
    assert read_bytes(tmp_path / "a") == read_bytes(tmp_path / "b.gz") == b"text"
    (tmp_path / "a").write_bytes(gzip.compress(b"text" * 100)[:-9])
    with pytest.raises(DataError, match="damaged gzip"):
        read_bytes(tmp_path / "a")
    with pytest.raises(DataError, match=r"expected a regular file. It is a directory"):
        read_bytes(tmp_path)


@pytest.mark.parametrize("fraction", [0.0, 0.04, 0.96, 1.0])
def test_neither_part_may_be_empty(fraction: float) -> None:
    with pytest.raises(DataError, match="split"):
        split_rows(10, fraction, seed=0)


def test_a_split_is_complete_and_shuffled() -> None:
    train, valid = split_rows(1000, 0.1, seed=0)
    assert np.array_equal(np.sort(np.concatenate([train, valid])), np.arange(1000))
    assert 300 < valid.mean() < 700
    assert (np.diff(train) > 0).all()
