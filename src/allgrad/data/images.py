"""Images with class labels, and augmentation whose random numbers depend on the sample's index.

Images stay in memory as they are stored (8 bits). A batch has them as float32 (samples, height, width, channels), standardised
with the mean and standard deviation of the training images' pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.data.datasets import DataInfo, DataSource, check_fitted
from allgrad.data.digest import content_digest
from allgrad.data.errors import DataError
from allgrad.data.labels import class_count
from allgrad.data.random import sample_uniform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from allgrad.data.datasets import Batch

__all__ = ["Augmentation", "ImageDataset", "image_source", "standardised"]


@dataclass(frozen=True)
class Augmentation:
    """Random changes of the training images, drawn separately for every epoch.

    Attributes:
        flip: mirror left and right with probability 1/2.
        shift: move by up to this many pixels vertically and horizontally; zeros (the background) fill the border.
    """

    flip: bool = False
    shift: int = 0


class ImageDataset:
    """Images of 8 bits with labels.

    Args:
        images: uint8 (samples, height, width) or (samples, height, width, channels).
        labels: integers (samples,).
        mean, scale: of pixel values in 0..1; `inputs` are (pixel - mean) / scale.
        augmentation, seed: see `Augmentation`; row i of a batch depends only on (seed, epoch, indices[i]).

    Raises:
        DataError: when a shape or dtype is different.

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
        _check_images(images, labels, "images")
        self._images = images if images.ndim == 4 else images[..., None]
        self._labels = labels.astype(np.int64)
        self._mean, self._scale = mean, scale
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
        return {"inputs": standardised(pixels, mean=self._mean, scale=self._scale), "targets": self._labels[indices]}

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


def standardised(pixels: NDArray[np.uint8], *, mean: float, scale: float) -> NDArray[np.float32]:
    """Pixels of 8 bits as (pixel / 255 - mean) / scale."""
    inputs = pixels.astype(np.float32)
    inputs -= np.float32(255 * mean)
    inputs *= np.float32(1 / (255 * scale))
    return inputs


def image_source(
    train: tuple[NDArray[Any], NDArray[Any]],
    valid: tuple[NDArray[Any], NDArray[Any]],
    *,
    augmentation: Augmentation,
    seed: int,
    what: str,
    fitted: Mapping[str, Any] | None = None,
    digest: str = "",
) -> DataSource:
    """Training and validation data from (images, labels). Validation images are not augmented.

    `info.extra` has "mean" and "scale" of the training images' pixels in 0..1, and the "class_counts" of the training images.

    Args:
        what: what messages call the data.
        fitted: stored preprocessing: the mean, the scale and the number of classes are taken from it.
        digest: of the data's content; without one, it is computed from the arrays.

    Raises:
        DataError: when images are not 8 bits, sizes differ, there are no images, or a label is out of range.
    """
    for pair in (train, valid):
        _check_images(*pair, what)
    if train[0].shape[1:] != valid[0].shape[1:] or not len(train[0]) or not len(valid[0]):
        raise DataError(
            f"{what}: expected at least one training and one validation image, all of one size. "
            f"Got arrays of shape {train[0].shape} and {valid[0].shape}."
        )
    labels = {f"{what}, training labels": train[1], f"{what}, validation labels": valid[1]}
    if fitted is None:
        mean, scale = _statistics(train[0])
        fitted = {"kind": "images", "mean": mean, "scale": scale}
    check_fitted(fitted, {"kind": "images"}, what)
    known = fitted.get("classes")
    classes = max(class_count(given, name, known=known) for name, given in labels.items())
    counts = fitted.get("class_counts") or np.bincount(train[1], minlength=classes).tolist()
    fitted = {**fitted, "classes": classes, "class_counts": counts}
    scaling = {"mean": fitted["mean"], "scale": fitted["scale"]}
    training = ImageDataset(*train, **scaling, augmentation=augmentation, seed=seed)
    validation = ImageDataset(*valid, **scaling)
    shape = training.batch(np.zeros(0, np.int64))["inputs"].shape[1:]
    info = DataInfo("classes", shape, fitted["classes"], {**scaling, "class_counts": counts})
    return DataSource(training, validation, info, fitted, digest or content_digest(*train, *valid))


def _check_images(images: NDArray[Any], labels: NDArray[Any], what: str) -> None:
    if images.ndim not in (3, 4) or images.dtype != np.uint8 or 0 in images.shape[1:]:
        raise DataError(
            f"{what}: expected images as uint8 (samples, height, width[, channels]). Got {images.dtype} {images.shape}."
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(
            f"{what}: expected one integer label for each of {len(images)} images. "
            f"Got labels of dtype {labels.dtype}, shape {labels.shape}."
        )


def _statistics(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of pixels in 0..1, exact: from the histogram of the 256 values, in integers."""
    counts = np.bincount(images.ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = float((counts * values).sum() / images.size)
    scale = float(np.sqrt((counts * (values - mean) ** 2).sum() / images.size))
    return mean, scale or 1.0
