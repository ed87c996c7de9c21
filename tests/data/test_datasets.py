"""Arrays, map-style objects and subsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from allgrad.data import ArrayDataset, DataInfo, Dataset, DataSource, MapDataset, Subset

NONE = np.zeros(0, np.int64)


def test_a_batch_is_a_copy() -> None:
    source = np.arange(4.0)
    batch = ArrayDataset({"x": source}).batch(np.array([1]))
    batch["x"][:] = 9
    assert source.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("arrays", [{}, {"a": np.zeros(2), "b": np.zeros(3)}, {"a": np.array(1.0)}])
def test_lengths_must_agree(arrays: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one common length"):
        ArrayDataset(arrays)


class Squares:
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": np.full(2, index, np.float32), "y": index * index}


def test_a_map_style_object() -> None:
    data = MapDataset(Squares())
    batch = data.batch(np.array([3, 1]))
    assert batch["x"].tolist() == [[3, 3], [1, 1]]
    assert (batch["x"].dtype, batch["y"].tolist()) == (np.float32, [9, 1])
    empty = data.batch(NONE)
    assert (empty["x"].shape, empty["x"].dtype, empty["y"].dtype) == ((0, 2), np.float32, batch["y"].dtype)
    assert isinstance(data, Dataset)


def test_a_source_takes_map_style_objects() -> None:
    table = ArrayDataset({"x": np.arange(3)})
    source = DataSource(Squares(), table, DataInfo(kind="values", input_shape=(2,), outputs=1))
    assert source.train.batch(np.array([2]))["y"].tolist() == [4]
    assert source.valid is table


@pytest.mark.parametrize(
    ("items", "match"),
    [
        ([], "at least one item"),
        ([(1.0, 2.0), (1.0,)], r"item 1 has the keys \['inputs'\]"),
        ([np.zeros(2), np.zeros(3)], r"item 1, 'inputs' has shape \(3,\), but item 0 has \(2,\)"),
        ([1, 2.5], "item 1, 'inputs' is float64, but item 0 is int64"),
        ([(1, 2, 3)], "3 elements"),
    ],
)
def test_items_must_be_alike(items: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        MapDataset(items).batch(np.arange(len(items)))


def test_a_subset_of_a_subset() -> None:
    data = Subset(Subset(ArrayDataset({"x": np.arange(10)}), np.array([9, 8, 7])), np.array([2, 0]))
    assert len(data) == 2
    assert data.batch(np.array([0, 1]))["x"].tolist() == [7, 9]
    with pytest.raises(ValueError, match=r"0\.\.2"):
        Subset(ArrayDataset({"x": np.arange(3)}), np.array([3]))
