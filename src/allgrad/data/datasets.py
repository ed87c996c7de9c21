"""What a data set is, and three general ones: arrays, map-style objects, and a selection of another one's samples.

Contract. A data set has a length and a method `batch(indices, epoch=...)`. It returns the samples with those numbers as a
dict of NumPy arrays, with the samples along axis 0. It is a pure function of (indices, epoch): a sample is the
same in any batch, after any earlier calls, and in any process. The epoch is there for what
changes from pass to pass (augmentation, where windows start). An empty `indices` gives arrays of length zero with the
usual keys, shapes and dtypes. One thread prefetches training batches; another one may read evaluation batches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from allgrad.data.digest import content_digest
from allgrad.data.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "IGNORE",
    "ArrayDataset",
    "Batch",
    "DataInfo",
    "DataSource",
    "Dataset",
    "MapDataset",
    "Subset",
    "check_first_sample",
    "check_fitted",
    "read_batch",
]

Batch: TypeAlias = "dict[str, NDArray[Any]]"

IGNORE = -1
"""The target of a position that the loss does not count, such as the padding after the end of a text."""


@runtime_checkable
class Dataset(Protocol):
    """What samplers and loaders work on; the contract is at the top of this file."""

    def __len__(self) -> int: ...

    def batch(self, indices: NDArray[np.int64], *, epoch: int = 0) -> Batch: ...


@dataclass(frozen=True)
class DataInfo:
    """What is needed to build a model for the data, and to interpret its outputs.

    Attributes:
        kind: "classes" (targets are class numbers), "values" (targets are numbers), "tokens" (next-token prediction),
            "points" (collocation points of a differential equation).
        input_shape: shape of one sample's `inputs`.
        outputs: the number of classes, target values, or tokens in the vocabulary.
        extra: JSON for models and users: vocabulary, names of classes and features, mean and scale of the targets.
    """

    kind: Literal["classes", "values", "tokens", "points"]
    input_shape: tuple[int, ...]
    outputs: int
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSource:
    """The data that a run trains on and is evaluated on.

    `train` and `valid` may be any objects with `__len__` and `__getitem__`; they are wrapped in a `MapDataset`.

    Attributes:
        info: what a model needs to know of the data.
        fitted: JSON; everything that was learned from the training data or decides the meaning of inputs and outputs: means and
            scales, categories, classes, vocabulary. A checkpoint stores it. A source that is given it again fits nothing.
        digest: of the data's content (see `allgrad.data.digest`). Without one, it is computed from the number of samples
            and a few of them.

    Raises:
        DataError: when a data set's `batch` returns something else than the contract says.
    """

    train: Dataset
    valid: Dataset
    info: DataInfo
    fitted: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    def __post_init__(self) -> None:
        for name in ("train", "valid"):
            given: Any = getattr(self, name)
            if not isinstance(given, Dataset):
                object.__setattr__(self, name, MapDataset(given))
        if not self.digest:
            object.__setattr__(self, "digest", _sampled_digest(self.train, self.valid))


def check_fitted(fitted: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    """Check that stored preprocessing belongs to the same kind of data with the same settings.

    Raises:
        DataError: when an entry of `expected` is missing from `fitted` or differs.
    """
    for key, value in expected.items():
        if fitted.get(key) != value:
            raise DataError(
                f"{what}: the model was trained with {key} = {fitted.get(key)!r}, but the configuration says {value!r}. "
                "Use the configuration that it was trained with."
            )


def read_batch(dataset: Dataset, indices: NDArray[np.int64], epoch: int) -> Batch:
    """`dataset.batch(indices, epoch=epoch)`, checked against the contract at the top of this file.

    Raises:
        DataError: when something else than a dict of NumPy arrays with one entry per sample is returned.
    """
    batch: Any = dataset.batch(indices, epoch=epoch)
    if not isinstance(batch, dict) or not batch:
        raise DataError(f"{_call(dataset, indices, epoch)} must return a dict of NumPy arrays. Got {_describe(batch)}.")
    for name, array in batch.items():
        if not isinstance(name, str):
            raise DataError(f"{_call(dataset, indices, epoch)}: the keys must be strings. Got {name!r}.")
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufc":
            raise DataError(
                f"{_call(dataset, indices, epoch)}: {name!r} must be a NumPy array of numbers. Got {_describe(array)}."
            )
        if array.ndim == 0 or len(array) != len(indices):
            raise DataError(
                f"{_call(dataset, indices, epoch)}: {name!r} must have the {len(indices)} samples along axis 0. "
                f"Got shape {array.shape}."
            )
    return batch


def _sampled_digest(*datasets: Dataset) -> str:
    """The digest of data sets of unknown origin: their lengths, and their first, middle and last samples."""
    contents: list[bytes | NDArray[Any]] = []
    for dataset in datasets:
        count = len(dataset)
        contents.append(str(count).encode())
        if count:
            batch = read_batch(dataset, np.unique([0, count // 2, count - 1]), epoch=0)
            for name in sorted(batch):
                contents += [name.encode(), batch[name]]
    return content_digest(*contents)


def check_first_sample(dataset: Dataset, indices: NDArray[np.int64], epoch: int, batch: Batch) -> None:
    """Check that the first sample of a batch is the same on its own.

    Batches are cut by rank and by worker. If a sample depended on its neighbours (padding up to the longest of them) or on
    earlier calls (random numbers of a common generator), the results would depend on the number of ranks, or on restarts.

    Args:
        batch: the samples with these numbers.

    Raises:
        DataError: when it is not.
    """
    if not len(indices):
        return
    alone = read_batch(dataset, indices[:1], epoch)
    for name, array in batch.items():
        first, single = array[:1], alone.get(name)
        if single is None or (single.dtype, single.shape) != (first.dtype, first.shape):
            found = "nothing" if single is None else f"{single.dtype} {single.shape}"
            difference = f"{name!r} is {found} on its own, and {first.dtype} {first.shape} in a batch of {len(indices)}"
        elif single.tobytes() != first.tobytes():
            difference = f"{name!r} has other values on its own than in a batch of {len(indices)}"
        else:
            continue
        raise DataError(
            f"{_call(dataset, indices[:1], epoch)}: {difference}. A sample must be the same in any batch and in any call: pad "
            "all samples to one length, and draw random numbers from a generator made of the sample's number and the epoch."
        )


def _call(dataset: Dataset, indices: NDArray[np.int64], epoch: int) -> str:
    shown = ", ".join(map(str, indices[:3].tolist())) + (", ..." if len(indices) > 3 else "")
    return f"data set {type(dataset).__qualname__}: batch([{shown}], epoch={epoch})"


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of dtype {value.dtype}"
    return (
        "an empty dict"
        if value == {}
        else f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    )


class ArrayDataset:
    """Samples along axis 0 of one or more arrays, which may be memory-mapped.

    Args:
        arrays: the arrays by name, all of one length.
        dtypes: the dtypes of the batches, by name, where they differ from those of the arrays.
        name: what messages call the data set.

    Raises:
        DataError: when there are no arrays, or their lengths differ; from `batch`, when a value is too large for its dtype.

    Example:
        >>> data = ArrayDataset({"inputs": np.arange(6.0).reshape(3, 2), "targets": np.array([0, 1, 0])})
        >>> len(data), data.batch(np.array([2, 0]))["inputs"].tolist()
        (3, [[4.0, 5.0], [0.0, 1.0]])
    """

    def __init__(
        self, arrays: Mapping[str, NDArray[Any]], dtypes: Mapping[str, Any] | None = None, *, name: str = "data set"
    ) -> None:
        lengths = {name: len(array) if array.ndim else -1 for name, array in arrays.items()}
        if len(set(lengths.values())) != 1 or -1 in lengths.values():
            raise DataError(f"{name}: the arrays must have one common length along axis 0. Got {lengths}.")
        self.arrays = dict(arrays)
        self._name = name
        self._dtypes = {name: np.dtype((dtypes or {}).get(name, array.dtype)) for name, array in arrays.items()}
        self._length = next(iter(lengths.values()))

    def __len__(self) -> int:
        return self._length

    def batch(self, indices: NDArray[np.int64], *, epoch: int = 0) -> Batch:  # noqa: ARG002 (the same every epoch)
        return {name: self._converted(name, np.asarray(array[indices]), indices) for name, array in self.arrays.items()}

    def _converted(self, name: str, array: NDArray[Any], indices: NDArray[np.int64]) -> NDArray[Any]:
        dtype = self._dtypes[name]
        with np.errstate(over="ignore"):
            out = array.astype(dtype, copy=False)
        if out is not array and dtype.kind == "f":
            overflowed = (np.isinf(out) & ~np.isinf(array)).reshape(len(out), -1).any(axis=1)
            if overflowed.any():
                raise DataError(
                    f"{self._name}: sample {indices[overflowed][0]} has {name} that are too large for {dtype}."
                )
        return out


class MapDataset:
    """Any object with `__len__` and `__getitem__`: a list, a user's class, a data set of another library.

    An item is a dict of arrays or numbers, or a tuple of them, whose elements are then named by `names`.

    Args:
        items: the object. It must be deterministic, and not empty.
        names: keys for the elements of a tuple, or for an item that is one array.

    Raises:
        DataError: when `items` is empty, or an item has other keys, shapes or dtypes than the first one.

    Example:
        >>> squares = MapDataset([(x, x * x) for x in (0.0, 1.0, 2.0)])
        >>> squares.batch(np.array([2, 1]))["targets"].tolist()
        [4.0, 1.0]
    """

    def __init__(self, items: Any, *, names: Sequence[str] = ("inputs", "targets")) -> None:
        if len(items) == 0:
            raise DataError("data set: expected at least one item. Got an empty object.")
        self._items = items
        self._names = tuple(names)
        self._like = {name: np.asarray(value) for name, value in self._item(0).items()}

    def __len__(self) -> int:
        return len(self._items)

    def batch(self, indices: NDArray[np.int64], *, epoch: int = 0) -> Batch:  # noqa: ARG002 (the same every epoch)
        out = {name: np.empty((len(indices), *like.shape), like.dtype) for name, like in self._like.items()}
        for row, index in enumerate(indices):
            item = self._item(int(index))
            if set(item) != set(out):
                raise DataError(f"data set: item {index} has the keys {sorted(item)}, but item 0 has {sorted(out)}.")
            for name, value in item.items():
                self._write(out[name], row, value, f"item {index}, {name!r}")
        return out

    def _item(self, index: int) -> Mapping[str, Any]:
        item = self._items[index]
        if isinstance(item, dict):
            return item
        elements = item if isinstance(item, tuple) else (item,)
        if len(elements) > len(self._names):
            raise DataError(
                f"data set: item {index} has {len(elements)} elements, but there are names only for {self._names}."
            )
        return dict(zip(self._names, elements, strict=False))

    @staticmethod
    def _write(out: NDArray[Any], row: int, element: Any, what: str) -> None:
        value = np.asarray(element)
        if value.shape != out.shape[1:]:
            raise DataError(f"data set: {what} has shape {value.shape}, but item 0 has {out.shape[1:]}.")
        if not np.can_cast(value.dtype, out.dtype, casting="same_kind"):
            raise DataError(f"data set: {what} is {value.dtype}, but item 0 is {out.dtype}.")
        out[row] = value


class Subset:
    """Selected samples of another data set, renumbered from 0.

    Example:
        >>> Subset(ArrayDataset({"x": np.arange(5)}), np.array([4, 2])).batch(np.array([1]))["x"].tolist()
        [2]
    """

    def __init__(self, dataset: Dataset, indices: NDArray[np.int64]) -> None:
        chosen = np.asarray(indices, dtype=np.int64)
        if chosen.size and not (chosen.min() >= 0 and chosen.max() < len(dataset)):
            raise DataError(f"subset: indices must be in 0..{len(dataset) - 1}. Got {chosen.min()}..{chosen.max()}.")
        self._dataset = dataset
        self._indices = chosen

    def __len__(self) -> int:
        return len(self._indices)

    def batch(self, indices: NDArray[np.int64], *, epoch: int = 0) -> Batch:
        return self._dataset.batch(self._indices[indices], epoch=epoch)
