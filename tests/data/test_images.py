"""IDX files, images, and augmentation keyed by the sample's index."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest

from allgrad.data import DataError
from allgrad.data.idx import parse_idx, read_idx
from allgrad.data.images import Augmentation, ImageDataset, image_source

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = np.random.default_rng(0).integers(1, 256, (12, 6, 5), dtype=np.uint8)
LABELS = np.arange(12) % 3


def idx(array: np.ndarray, code: int) -> bytes:
    big = array.astype(array.dtype.newbyteorder(">"))
    return bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes() + big.tobytes()


@pytest.mark.parametrize(("dtype", "code"), [("u1", 8), ("i1", 9), ("i2", 11), ("i4", 12), ("f4", 13), ("f8", 14)])
def test_every_type_of_the_format(tmp_path: Path, dtype: str, code: int) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for name, content in (("a", idx(array, code)), ("b.gz", gzip.compress(idx(array, code)))):
        (tmp_path / name).write_bytes(content)
        found = read_idx(str(tmp_path / name))
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


def test_cut_at_any_byte_is_refused() -> None:
    content = idx(IMAGES, 8)
    for length in range(len(content)):
        with pytest.raises(DataError, match=r"x: (not an IDX file|the file is cut short|its header claims)"):
            parse_idx(content[:length], "x")
    with pytest.raises(DataError, match="its header claims"):
        parse_idx(content + b"\0", "x")


def dataset(flip: bool = False, shift: int = 0, seed: int = 0) -> ImageDataset:
    return ImageDataset(IMAGES, LABELS, mean=0.0, scale=1 / 255, augmentation=Augmentation(flip, shift), seed=seed)


def test_pixels_are_standardised_with_the_training_images() -> None:
    data = image_source(
        (IMAGES[:8], LABELS[:8]), (IMAGES[8:], LABELS[8:]), augmentation=Augmentation(), seed=0, what="x"
    )
    pixels = data.train.batch(np.arange(8))["inputs"]
    assert (pixels.dtype, pixels.shape) == (np.float32, (8, 6, 5, 1))
    np.testing.assert_allclose([pixels.mean(), pixels.std()], [0, 1], atol=1e-5)
    np.testing.assert_allclose(data.info.extra["mean"], (IMAGES[:8] / 255).mean())
    np.testing.assert_allclose(data.info.extra["scale"], (IMAGES[:8] / 255).std())
    expected = (IMAGES[8:] / 255 - data.info.extra["mean"]) / data.info.extra["scale"]
    np.testing.assert_allclose(data.valid.batch(np.arange(4))["inputs"][..., 0], expected, atol=1e-5)
    assert (data.info.kind, data.info.input_shape, data.info.outputs) == ("classes", (6, 5, 1), 3)


@pytest.mark.parametrize("augmentation", [{"flip": True}, {"shift": 2}, {"flip": True, "shift": 1}])
def test_augmentation_depends_only_on_sample_epoch_and_seed(augmentation: dict[str, int]) -> None:
    data = dataset(**augmentation)
    whole = data.batch(np.arange(12), epoch=3)["inputs"]
    for order in (np.arange(12)[::-1], np.array([5]), np.array([7, 7, 0])):
        np.testing.assert_array_equal(data.batch(order, epoch=3)["inputs"], whole[order])
    assert (data.batch(np.arange(12), epoch=4)["inputs"] != whole).any()
    assert (dataset(**augmentation, seed=1).batch(np.arange(12), epoch=3)["inputs"] != whole).any()
    assert data.batch(np.zeros(0, np.int64))["inputs"].shape == (0, 6, 5, 1)


def test_a_flip_is_a_flip_half_of_the_time() -> None:
    data = dataset(flip=True)
    flipped = 0
    for epoch in range(40):
        pixels = data.batch(np.arange(12), epoch=epoch)["inputs"][..., 0]
        for image, original in zip(pixels, IMAGES.astype(np.float32), strict=True):
            mirrored = np.allclose(image, original[:, ::-1])
            assert mirrored or np.allclose(image, original)
            flipped += mirrored
    assert 190 < flipped < 290  # of 480, 240 expected, 11 a standard deviation


def test_a_shift_moves_by_up_to_its_size_and_brings_in_zeros() -> None:
    data = dataset(shift=1)
    seen = set()
    padded = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1)))
    for epoch in range(20):
        pixels = data.batch(np.arange(12), epoch=epoch)["inputs"][..., 0]
        for number, image in enumerate(pixels):
            found = [
                (down, right)
                for down in range(3)
                for right in range(3)
                if np.allclose(image, padded[number, down : down + 6, right : right + 5])
            ]
            assert len(found) == 1
            seen.update(found)
    assert len(seen) == 9


def test_the_stored_images_stay_as_they_are() -> None:
    before = IMAGES.copy()
    dataset(flip=True, shift=2).batch(np.arange(12))
    np.testing.assert_array_equal(IMAGES, before)


@pytest.mark.parametrize(
    ("images", "labels", "match"),
    [
        (IMAGES.astype(float), LABELS, "expected images as uint8"),
        (IMAGES[0], LABELS, "expected images as uint8"),
        (IMAGES, LABELS.astype(float), "one integer label for each of 12 images. Got labels of dtype float64"),
        (IMAGES, LABELS[:5], r"Got labels of dtype int64, shape \(5,\)"),
    ],
)
def test_shapes_and_types(images: np.ndarray, labels: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match):
        ImageDataset(images, labels, mean=0, scale=1)


@pytest.mark.parametrize(
    ("valid", "labels", "match"),
    [
        (IMAGES[:, :5], LABELS, "at least one training and one validation image"),
        (IMAGES[:0], LABELS[:0], "at least one training and one validation image"),
        (IMAGES, LABELS - 1, "integers from 0. Got -1"),
    ],
)
def test_training_and_validation_images_must_match(valid: np.ndarray, labels: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match):
        image_source((IMAGES, LABELS), (valid, labels), augmentation=Augmentation(), seed=0, what="x")
