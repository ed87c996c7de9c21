"""Ranks that saw different data of one shape trained on in silence: now every source has a digest of its content to compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allgrad.data import ArrayDataset, DataInfo, DataSource, digest
from allgrad.data.arrays import arrays_source
from allgrad.data.digest import content_digest
from allgrad.data.points import heat_equation_source
from allgrad.data.tables import Columns, table_source
from allgrad.data.text import text_source, tokens_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def table(path: Path, version: int) -> DataSource:
    (path / "t.csv").write_text("a,b\n" + "".join(f"{i},{i + version * (i == 7)}\n" for i in range(20)))
    return table_source(str(path / "t.csv"), Columns("b", numeric=("a",)), valid_fraction=0.2, split_seed=0)


def text(path: Path, version: int) -> DataSource:
    (path / "t.txt").write_text("abcdefgh" * 20 + "ab"[version])
    return text_source(str(path / "t.txt"), unit="characters", context=4, valid=10, seed=0)


def tokens(path: Path, version: int) -> DataSource:
    np.save(path / "t.npy", np.arange(50) + version)
    return tokens_source(str(path / "t.npy"), vocabulary_size=60, context=4, valid=10, seed=0)


def arrays(path: Path, version: int) -> DataSource:
    x = np.arange(24.0, dtype=np.float32).reshape(12, 2)
    x[3, 1] += version
    np.savez(path / "a.npz", inputs=x, targets=np.arange(12) % 3)
    options: dict[str, Any] = {"inputs": "inputs", "targets": "targets", "valid_fraction": 0.25, "split_seed": 0}
    return arrays_source(str(path / "a.npz"), None, task="classes", **options)


def points(path: Path, version: int) -> DataSource:
    return heat_equation_source(alpha=0.1, interior=8, boundary=4, initial=4, grid=3, seed=version)


def own(path: Path, version: int) -> DataSource:
    items = [(float(i), 2.0 * i + version) for i in range(9)]
    return DataSource(items, items, DataInfo("values", (), 1))  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [table, text, tokens, arrays, points, own])
def test_other_content_has_another_digest(tmp_path: Path, make: Callable[[Path, int], DataSource]) -> None:
    first, other, again = make(tmp_path, 0).digest, make(tmp_path, 1).digest, make(tmp_path, 0).digest
    assert first == again != other
    assert len(bytes.fromhex(first)) == 32


def test_every_byte_counts_and_so_do_shape_dtype_and_order() -> None:
    x = np.arange(12, dtype=np.int32)
    different = [
        x,
        x.astype(">i4"),
        x.view(np.uint32),
        x.reshape(3, 4),
        np.asfortranarray(x.reshape(3, 4)),
        x[::-1],
        x[:0],
        *(np.where(np.arange(12) == i, 99, x) for i in range(12)),
    ]
    assert len({content_digest(array) for array in different}) == len(different)
    assert content_digest(x, x) != content_digest(np.concatenate([x, x]))


def test_huge_arrays_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "_WHOLE", 1 << 12)
    monkeypatch.setattr(digest, "_BLOCK", 16)
    x = np.zeros(1 << 14, np.uint8)
    first = content_digest(x)
    for place, seen in ((0, True), (len(x) - 1, True), (1 << 13, None)):
        y = x.copy()
        y[place] = 1
        assert seen is None or (content_digest(y) != first) is seen
    assert content_digest(x[1:]) != first


def test_the_length_counts_for_data_sets_of_unknown_origin() -> None:
    def source(count: int) -> DataSource:
        data = ArrayDataset({"inputs": np.zeros(count)})
        return DataSource(data, data, DataInfo("values", (), 1))

    assert source(5).digest != source(6).digest
