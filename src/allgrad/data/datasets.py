"""What a data set is, and the three general ones: arrays, map-style objects, a choice of another one's samples.

Contract. A data set has a length and `batch(indices, epoch=...)`, which returns the samples with those numbers,
collated, as a dict of plain NumPy arrays with the samples along axis 0. It is a pure function of (indices, epoch): the
same sample comes out alike whichever samples lie beside it, whatever was asked before, in whichever process. The epoch
is there for what changes from pass to pass (augmentation, where windows start). No indices give arrays of length zero
with the right keys, shapes and dtypes. `batch` is called from one prefetching thread, or for evaluation from another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["IGNORE", "ArrayDataset", "Batch", "DataInfo", "DataSource", "Dataset", "MapDataset", "Subset"]

Batch: TypeAlias = "dict[str, NDArray[Any]]"

IGNORE = -1
"""The target of a position that is not counted: padding behind the end of a text."""


@runtime_checkable
class Dataset(Protocol):
    """What samplers and loaders work on; see the contract at the top of this file."""

    def __len__(self) -> int: ...

    def batch(self, indices: NDArray[np.int64], *, epoch: int = 0) -> Batch: ...


@dataclass(frozen=True)
class DataInfo:
    """What a model must know of the data to be built, and a user to read its outputs.

    Attributes:
        kind: "classes" (targets are class numbers), "values" (targets are numbers), "tokens" (next-token prediction),
            "points" (collocation points of a differential equation).
        input_shape: shape of one sample's `inputs`.
        outputs: how many classes, target values or tokens.
        extra: JSON; the vocabulary, names of classes and columns, the mean and scale that targets were divided by.
    """

    kind: Literal["classes", "values", "tokens", "points"]
    input_shape: tuple[int, ...]
    outputs: int
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSource:
    """What a run trains on, what it is evaluated on, and what both are.

    Either may be given as any object with `__len__` and `__getitem__`; it is then wrapped (`MapDataset`).
    """

    train: Dataset
    valid: Dataset
    info: DataInfo

    def __post_init__(self) -> None:
        for name in ("train", "valid"):
            given: Any = getattr(self, name)
            if not isinstance(given, Dataset):
                object.__setattr__(self, name, MapDataset(given))


class ArrayDataset:
    """Samples along axis 0 of one or more arrays, which may be memory-mapped.

    Raises:
        ValueError: when there are no arrays, or their lengths differ.

    Example:
        >>> data = ArrayDataset({"inputs": np.arange(6.0).reshape(3, 2), "targets": np.array([0, 1, 0])})
        >>> len(data), data.batch(np.array([2, 0]))["inputs"].tolist()
        (3, [[4.0, 5.0], [0.0, 1.0]])
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        lengths = {name: len(array) if array.ndim else -1 for name, array in arrays.items()}
        if len(set(lengths.values())) != 1 or -1 in lengths.values():
            raise ValueError(f"data set: arrays must have one common length along axis 0. Got {lengths} instead.")
        self.arrays = dict(arrays)
        self._length = next(iter(lengths.values()))

    def __len__(self) -> int:
        return self._length

    def batch(self, indices: NDArray[np.int64], *, epoch: int = 0) -> Batch:  # noqa: ARG002 (the same every epoch)
        return {name: np.asarray(array[indices]) for name, array in self.arrays.items()}


class MapDataset:
    """Any object with `__len__` and `__getitem__`: a list, a user's class, a data set of another library.

    An item is a dict of arrays or numbers, or a tuple of them, whose parts are then named by `names`.

    Args:
        items: the object. It must be deterministic, and not empty.
        names: keys for the parts of a tuple, or for an item that is one array.

    Raises:
        ValueError: when `items` is empty, or an item has other parts or shapes than the first one.

    Example:
        >>> squares = MapDataset([(x, x * x) for x in (0.0, 1.0, 2.0)])
        >>> squares.batch(np.array([2, 1]))["targets"].tolist()
        [4.0, 1.0]
    """

    def __init__(self, items: Any, *, names: Sequence[str] = ("inputs", "targets")) -> None:
        if len(items) == 0:
            raise ValueError("data set: expected at least one item. Got an empty object instead.")
        self._items = items
        self._names = tuple(names)
        self._like = {name: np.asarray(part) for name, part in self._parts(0).items()}

    def __len__(self) -> int:
        return len(self._items)

    def batch(self, indices: NDArray[np.int64], *, epoch: int = 0) -> Batch:  # noqa: ARG002 (the same every epoch)
        out = {name: np.empty((len(indices), *like.shape), like.dtype) for name, like in self._like.items()}
        for row, index in enumerate(indices):
            parts = self._parts(int(index))
            if set(parts) != set(out):
                raise ValueError(f"data set: item {index} has the parts {sorted(parts)}, item 0 has {sorted(out)}.")
            for name, part in parts.items():
                self._write(out[name], row, part, f"item {index}, {name!r}")
        return out

    def _parts(self, index: int) -> Mapping[str, Any]:
        item = self._items[index]
        if isinstance(item, dict):
            return item
        parts = item if isinstance(item, tuple) else (item,)
        if len(parts) > len(self._names):
            raise ValueError(
                f"data set: item {index} has {len(parts)} parts, but only the names {self._names} are given."
            )
        return dict(zip(self._names, parts, strict=False))

    @staticmethod
    def _write(out: NDArray[Any], row: int, part: Any, what: str) -> None:
        value = np.asarray(part)
        if value.shape != out.shape[1:]:
            raise ValueError(f"data set: {what} has shape {value.shape}, item 0 has {out.shape[1:]}.")
        if not np.can_cast(value.dtype, out.dtype, casting="same_kind"):
            raise ValueError(f"data set: {what} is {value.dtype}, item 0 is {out.dtype}.")
        out[row] = value


class Subset:
    """Some samples of another data set, renumbered from 0.

    Example:
        >>> Subset(ArrayDataset({"x": np.arange(5)}), np.array([4, 2])).batch(np.array([1]))["x"].tolist()
        [2]
    """

    def __init__(self, dataset: Dataset, indices: NDArray[np.int64]) -> None:
        chosen = np.asarray(indices, dtype=np.int64)
        if chosen.size and not (chosen.min() >= 0 and chosen.max() < len(dataset)):
            raise ValueError(f"subset: indices must lie in 0..{len(dataset) - 1}. Got {chosen.min()}..{chosen.max()}.")
        self._dataset = dataset
        self._indices = chosen

    def __len__(self) -> int:
        return len(self._indices)

    def batch(self, indices: NDArray[np.int64], *, epoch: int = 0) -> Batch:
        return self._dataset.batch(self._indices[indices], epoch=epoch)
