"""Images with class labels: IDX files, and augmentation that is keyed by the sample's index.

IDX (the format of MNIST, Y. LeCun): two zero bytes, a type code, the number of axes, each axis as a big-endian 32-bit
number, then the data, big-endian, row by row.

Images are kept as they are stored (8 bits) and become float32 (samples, height, width, channels), standardised with the
mean and deviation of the training images' pixels, when a batch is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.data.datasets import DataInfo, DataSource
from allgrad.data.random import sample_uniform
from allgrad.data.sources import DataError, data_path, read_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from allgrad.data.datasets import Batch

__all__ = ["Augmentation", "ImageDataset", "idx_source", "parse_idx", "read_idx"]

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training image, anew every epoch.

    Attributes:
        flip: mirror left and right with probability 1/2.
        shift: move by up to this many pixels in both directions, zeros (the background) coming in.
    """

    flip: bool = False
    shift: int = 0


def read_idx(path: str) -> NDArray[Any]:
    """The array in an IDX file (gzip or not), in the machine's byte order, read-only.

    Raises:
        DataError: when the file is missing, is none, or has another length than its header says.
    """
    return parse_idx(read_bytes(data_path(path)), path)


def parse_idx(content: bytes, what: str) -> NDArray[Any]:
    """As `read_idx`, from bytes; `what` names them in errors.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "two bytes").tolist()
        [7, 9]
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES:
        raise DataError(f"{what}: not an IDX file: it begins with {content[:4].hex(' ')}.")
    axes, dtype = content[3], np.dtype(_TYPES[content[2]])
    start = 4 + 4 * axes
    if len(content) < start:
        raise DataError(f"{what}: cut short inside its header, after {len(content)} bytes.")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", count=axes, offset=4))
    expected = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(content) != expected:
        raise DataError(f"{what}: its header says {shape}, {expected} bytes in all. Got {len(content)} bytes.")
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


class ImageDataset:
    """Images of 8 bits with labels.

    Args:
        images: uint8 (samples, height, width) or (samples, height, width, channels).
        labels: integers (samples,).
        mean, scale: of pixel values in 0 .. 1; `inputs` are (pixel - mean) / scale.
        augmentation, seed: see `Augmentation`; row i of a batch depends on (seed, epoch, indices[i]) alone.

    Raises:
        DataError: when shapes or dtypes are others.

    Example:
        >>> data = ImageDataset(np.full((2, 1, 1), 255, np.uint8), np.array([3, 4]), mean=0.5, scale=0.5)
        >>> batch = data.batch(np.array([1]))
        >>> batch["inputs"].tolist(), batch["targets"].tolist()
        ([[[[1.0]]]], [4])
    """

    def __init__(
        self,
        images: NDArray[Any],
        labels: NDArray[Any],
        *,
        mean: float,
        scale: float,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        if images.ndim not in (3, 4) or images.dtype != np.uint8 or labels.dtype.kind not in "iu":
            raise DataError(
                "images: expected uint8 (samples, height, width[, channels]) and integer labels. "
                f"Got {images.dtype} {images.shape} and {labels.dtype}."
            )
        if labels.shape != images.shape[:1]:
            raise DataError(f"images: {len(images)} images, but labels of shape {labels.shape}.")
        self._images = images if images.ndim == 4 else images[..., None]
        self._labels = labels.astype(np.int64)
        self._mean = np.float32(255 * mean)
        self._factor = np.float32(1 / (255 * scale))
        self._augmentation = augmentation or Augmentation()
        self._seed = seed

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, indices: NDArray[np.int64], *, epoch: int = 0) -> Batch:
        pixels = self._images[indices]
        if self._augmentation.flip:
            mirrored = sample_uniform(self._seed, epoch, indices, 1, "flip")[:, 0] < 0.5
            pixels[mirrored] = pixels[mirrored, :, ::-1]
        if self._augmentation.shift:
            pixels = self._shifted(pixels, indices, epoch)
        inputs = pixels.astype(np.float32)
        inputs -= self._mean
        inputs *= self._factor
        return {"inputs": inputs, "targets": self._labels[indices]}

    def _shifted(self, pixels: NDArray[np.uint8], indices: NDArray[np.int64], epoch: int) -> NDArray[np.uint8]:
        reach = self._augmentation.shift
        count, height, width, _ = pixels.shape
        draws = sample_uniform(self._seed, epoch, indices, 2, "shift")
        start = (draws * (2 * reach + 1)).astype(np.int64)
        padded = np.pad(pixels, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        rows = (start[:, :1] + np.arange(height))[:, :, None]
        columns = (start[:, 1:] + np.arange(width))[:, None, :]
        moved: NDArray[np.uint8] = padded[np.arange(count)[:, None, None], rows, columns]
        return moved


def idx_source(
    train: tuple[NDArray[Any], NDArray[Any]],
    valid: tuple[NDArray[Any], NDArray[Any]],
    *,
    augmentation: Augmentation,
    seed: int,
    what: str,
) -> DataSource:
    """Training and validation data from (images, labels), as `read_idx` gives them.

    `info.extra` has "mean" and "scale" of the training images' pixels in 0 .. 1. Validation images are not augmented.

    Raises:
        DataError: when images are not 8 bits, the sizes differ, there are none, or a label is negative.
    """
    if train[0].shape[1:] != valid[0].shape[1:] or not len(train[0]) or not len(valid[0]):
        raise DataError(f"{what}: training images are {train[0].shape}, validation images {valid[0].shape}.")
    mean, scale = _statistics(train[0])
    training = ImageDataset(*train, mean=mean, scale=scale, augmentation=augmentation, seed=seed)
    validation = ImageDataset(*valid, mean=mean, scale=scale)
    labels = np.concatenate([train[1], valid[1]])
    if labels.min() < 0:
        raise DataError(f"{what}: labels must not be negative. Got {labels.min()}.")
    shape = training.batch(np.zeros(0, np.int64))["inputs"].shape[1:]
    return DataSource(
        training, validation, DataInfo("classes", shape, int(labels.max()) + 1, {"mean": mean, "scale": scale})
    )


def _statistics(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of pixels in 0 .. 1, exact: from the histogram of the 256 values, in integers."""
    counts = np.bincount(images.ravel(), minlength=256)
    if len(counts) > 256:
        raise DataError(f"images: expected 8-bit pixels. Got values up to {len(counts) - 1}.")
    values = np.arange(256) / 255
    mean = float((counts * values).sum() / images.size)
    scale = float(np.sqrt((counts * (values - mean) ** 2).sum() / images.size))
    return mean, scale or 1.0
