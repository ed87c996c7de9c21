"""Finding and reading files."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from allgrad.data import DataError
from allgrad.data.sources import data_path, read_bytes

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
