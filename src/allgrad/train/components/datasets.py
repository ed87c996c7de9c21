"""The data sets that a configuration can name, and their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from allgrad.data import arrays, fashion_mnist, images, points, tables, text
from allgrad.train.config.registry import Location, register_dataset

if TYPE_CHECKING:
    from allgrad.data import DataSource

__all__ = ["array_files", "csv_table", "fashion_mnist_images", "heat_equation", "idx_images", "text_file", "token_file"]

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
File = Annotated[str, Location()]
OptionalFile = Annotated[str | None, Location()]


@register_dataset("text")
def text_file(
    seed: int,
    *,
    path: File,
    unit: Literal["characters", "bytes"] = "characters",
    context: Count = 128,
    valid: Count = 100_000,
) -> DataSource:
    """A text file, for predicting the next character or byte; the last `valid` of them are held out."""
    return text.text_source(path, unit=unit, context=context, valid=valid, seed=seed)


@register_dataset("tokens")
def token_file(
    seed: int, *, path: File, vocabulary_size: Count, context: Count = 128, valid: Count = 100_000
) -> DataSource:
    """A .npy file of token ids, for predicting the next token; the last `valid` of them are held out."""
    return text.tokens_source(path, vocabulary_size=vocabulary_size, context=context, valid=valid, seed=seed)


@register_dataset("csv")
def csv_table(
    seed: int,  # noqa: ARG001 (the split has its own, so that runs of several seeds share it)
    *,
    path: File,
    target: str,
    task: Literal["values", "classes"] = "values",
    numeric: tuple[str, ...] = (),
    categorical: tuple[str, ...] = (),
    ordinal: dict[str, tuple[str, ...]] = {},  # noqa: B006 (never written)
    transform: Literal["none", "log", "log1p"] = "none",
    valid_fraction: Fraction = 0.1,
    split_seed: int = 0,
) -> DataSource:
    """A CSV file with typed columns; a seeded part of its rows is held out."""
    columns = tables.Columns(target, task, numeric, categorical, ordinal, transform)
    return tables.table_source(path, columns, valid_fraction=valid_fraction, split_seed=split_seed)


@register_dataset("arrays")
def array_files(
    seed: int,  # noqa: ARG001 (as above)
    *,
    train: File,
    valid: OptionalFile = None,
    task: Literal["values", "classes"] = "classes",
    inputs: str = "inputs",
    targets: str = "targets",
    valid_fraction: Fraction = 0.1,
    split_seed: int = 0,
) -> DataSource:
    """Arrays in .npz files or folders of .npy files, memory-mapped."""
    return arrays.arrays_source(
        train,
        valid,
        task=task,
        inputs=inputs,
        targets=targets,
        valid_fraction=valid_fraction,
        split_seed=split_seed,
    )


@register_dataset("idx")
def idx_images(
    seed: int,
    *,
    train_images: File,
    train_labels: File,
    valid_images: File,
    valid_labels: File,
    flip: bool = False,
    shift: Annotated[int, Field(ge=0)] = 0,
) -> DataSource:
    """Images with class labels in IDX files; training images are flipped and shifted where asked for."""
    return images.idx_source(
        (images.read_idx(train_images), images.read_idx(train_labels)),
        (images.read_idx(valid_images), images.read_idx(valid_labels)),
        augmentation=images.Augmentation(flip, shift),
        seed=seed,
        what=train_images,
    )


@register_dataset("fashion_mnist")
def fashion_mnist_images(
    seed: int, *, folder: OptionalFile = None, flip: bool = False, shift: Annotated[int, Field(ge=0)] = 0
) -> DataSource:
    """Fashion-MNIST, 60,000 + 10,000 images; found where it was downloaded or installed, or in `folder`."""
    return fashion_mnist.fashion_mnist_source(folder, augmentation=images.Augmentation(flip, shift), seed=seed)


@register_dataset("heat_equation")
def heat_equation(
    seed: int,
    *,
    alpha: Annotated[float, Field(gt=0)] = 0.1,
    interior: Count = 2048,
    boundary: Count = 256,
    initial: Count = 256,
    grid: Annotated[int, Field(ge=2)] = 50,
) -> DataSource:
    """Collocation points of u_t = alpha u_xx, and a grid of the exact solution."""
    return points.heat_equation_source(
        alpha=alpha, interior=interior, boundary=boundary, initial=initial, grid=grid, seed=seed
    )
