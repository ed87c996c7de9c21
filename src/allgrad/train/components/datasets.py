"""The data sets that a configuration can name, and their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from allgrad.data import arrays, fashion_mnist, idx, images, points, tables, text
from allgrad.data.csv_layout import Layout
from allgrad.train.config.registry import Location, register_dataset

if TYPE_CHECKING:
    from allgrad.data import DataSource

__all__ = ["array_files", "csv_table", "fashion_mnist_images", "heat_equation", "idx_images", "text_file", "token_file"]

Fitted = Mapping[str, Any] | None
"""Stored preprocessing of an earlier run, which is then used instead of fitting anew."""

Count = Annotated[int, Field(ge=1)]
Folds = Annotated[int, Field(ge=2)] | None
Fraction = Annotated[float, Field(gt=0, lt=1)]
File = Annotated[str, Location()]
OptionalFile = Annotated[str | None, Location()]


@register_dataset("text")
def text_file(
    seed: int,
    fitted: Fitted = None,
    *,
    path: File,
    unit: Literal["characters", "bytes"] = "characters",
    context: Count = 128,
    valid: Count = 100_000,
) -> DataSource:
    """A text file, for predicting the next character or byte; the last `valid` are held out.

    Args:
        path: the text file, gzip or not; `package:moby_dick.txt.gz` comes with allgrad.
        unit: whether a token is a character (UTF-8) or a byte.
        context: tokens in a sample.
        valid: tokens at the end of the file that are held out.
    """
    return text.text_source(path, unit=unit, context=context, valid=valid, seed=seed, fitted=fitted)


@register_dataset("tokens")
def token_file(
    seed: int,
    fitted: Fitted = None,
    *,
    path: File,
    vocabulary_size: Count,
    context: Count = 128,
    valid: Count = 100_000,
) -> DataSource:
    """A .npy file of token ids, for predicting the next token; the last `valid` of them are held out.

    Args:
        path: the file, an array with one axis of integers.
        vocabulary_size: how many tokens there are; all ids must be smaller.
        context: tokens in a sample.
        valid: tokens at the end of the file that are held out.
    """
    return text.tokens_source(
        path, vocabulary_size=vocabulary_size, context=context, valid=valid, seed=seed, fitted=fitted
    )


@register_dataset("csv")
def csv_table(
    seed: int,  # noqa: ARG001 (the split has its own, so that runs with different seeds share it)
    fitted: Fitted = None,
    *,
    path: File,
    target: str,
    task: Literal["values", "classes"] = "values",
    numeric: tuple[str, ...] | Literal["auto"] = (),
    categorical: tuple[str, ...] = (),
    ordinal: dict[str, tuple[str, ...]] = {},  # noqa: B006 (never written)
    dates: tuple[str, ...] = (),
    date_format: str = "auto",
    unseen: Literal["error", "ignore"] = "error",
    transform: Literal["none", "log", "log1p"] = "none",
    missing: Literal["error", "drop", "mean", "category"] = "error",
    separator: str = "auto",
    decimal: Literal["auto", ".", ","] = "auto",
    encoding: str = "auto",
    valid_fraction: Fraction = 0.1,
    split_seed: int = 0,
    stratify: bool = False,
    folds: Folds = None,
    fold: Annotated[int, Field(ge=0)] = 0,
) -> DataSource:
    """A table with typed columns (CSV, Parquet, Arrow); a random fraction of its rows is held out.

    Args:
        path: the file, with a header, gzip or not; `package:diamonds.csv.gz` comes with allgrad.
        target: the column to predict.
        task: predict a number (values) or a class (classes).
        numeric: columns of numbers; `auto` for all columns that have only numbers and are not named elsewhere.
        categorical: columns of names without an order; one 0/1 input per name.
        ordinal: columns of names with an order: column to names, lowest first.
        dates: columns of dates; each becomes its time, and its place in the year, the week and the day.
        date_format: how dates are written; `auto` finds it, `iso` is ISO 8601, or a format of Python's `strptime`.
        unseen: what happens to a category in new rows that the data did not have: refuse (error), or set that column's inputs to
            0 (ignore).
        transform: function that is applied to the target before it is standardised.
        missing: what happens where an input is missing: refuse (error), leave the row out (drop), use the mean of the training
            rows (mean), or treat it as a category of its own (category).
        separator: the character between fields; `auto` finds a comma, semicolon, tab or vertical bar.
        decimal: the decimal mark of numbers; `auto` finds it.
        encoding: the file's encoding, by Python's name; `auto` tries UTF-8, UTF-16 and Windows-1252.
        valid_fraction: fraction of the rows that is held out.
        split_seed: seed of the choice of held-out rows.
        stratify: hold out the same fraction of every class.
        folds: number of folds of a cross-validation, instead of `valid_fraction`.
        fold: which of the folds is held out, from 0.
    """
    columns = tables.Columns(
        target, task, numeric, categorical, ordinal, dates, date_format, unseen, transform, missing
    )
    return tables.table_source(
        path,
        columns,
        valid_fraction=valid_fraction,
        split_seed=split_seed,
        stratify=stratify,
        fold=None if folds is None else (fold, folds),
        layout=Layout(separator, decimal, encoding),
        fitted=fitted,
    )


@register_dataset("arrays")
def array_files(
    seed: int,  # noqa: ARG001 (as above)
    fitted: Fitted = None,
    *,
    train: File,
    valid: OptionalFile = None,
    task: Literal["values", "classes"] = "classes",
    inputs: str = "inputs",
    targets: str = "targets",
    valid_fraction: Fraction = 0.1,
    split_seed: int = 0,
    stratify: bool = False,
    folds: Folds = None,
    fold: Annotated[int, Field(ge=0)] = 0,
) -> DataSource:
    """Arrays in .npz files or directories of .npy files, memory-mapped.

    Args:
        train: the file or directory with the training data.
        valid: the file or directory with the validation data; without it, a fraction of the training data is held out.
        task: whether targets are numbers (values) or class numbers from 0 (classes).
        inputs: name of the array of inputs; its values are converted to float32 and not scaled.
        targets: name of the array of targets.
        valid_fraction: fraction of the samples that is held out if `valid` is not given.
        split_seed: seed of the choice of held-out samples.
        stratify: hold out the same fraction of every class.
        folds: number of folds of a cross-validation, instead of `valid_fraction`.
        fold: which of the folds is held out, from 0.
    """
    return arrays.arrays_source(
        train,
        valid,
        task=task,
        inputs=inputs,
        targets=targets,
        valid_fraction=valid_fraction,
        split_seed=split_seed,
        stratify=stratify,
        fold=None if folds is None else (fold, folds),
        fitted=fitted,
    )


@register_dataset("idx")
def idx_images(
    seed: int,
    fitted: Fitted = None,
    *,
    train_images: File,
    train_labels: File,
    valid_images: File,
    valid_labels: File,
    flip: bool = False,
    shift: Annotated[int, Field(ge=0)] = 0,
) -> DataSource:
    """Images with class labels in IDX files; `flip` and `shift` augment the training images.

    Args:
        train_images: IDX file of 8-bit training images, gzip or not.
        train_labels: IDX file of their labels.
        valid_images: IDX file of 8-bit validation images.
        valid_labels: IDX file of their labels.
        flip: mirror training images with probability 1/2.
        shift: move training images by up to this many pixels.
    """
    return images.image_source(
        (idx.read_idx(train_images), idx.read_idx(train_labels)),
        (idx.read_idx(valid_images), idx.read_idx(valid_labels)),
        augmentation=images.Augmentation(flip, shift),
        seed=seed,
        what=train_images,
        fitted=fitted,
    )


@register_dataset("fashion_mnist")
def fashion_mnist_images(
    seed: int,
    fitted: Fitted = None,
    *,
    directory: OptionalFile = None,
    flip: bool = False,
    shift: Annotated[int, Field(ge=0)] = 0,
) -> DataSource:
    """Fashion-MNIST, 60,000 + 10,000 images; found where it was downloaded or installed, or in `directory`.

    Args:
        directory: the directory with its four files; by default the cache of `allgrad data` and Debian's package are searched.
        flip: mirror training images with probability 1/2.
        shift: move training images by up to this many pixels.
    """
    return fashion_mnist.fashion_mnist_source(
        directory, augmentation=images.Augmentation(flip, shift), seed=seed, fitted=fitted
    )


@register_dataset("heat_equation")
def heat_equation(
    seed: int,
    fitted: Fitted = None,
    *,
    alpha: Annotated[float, Field(gt=0)] = 0.1,
    interior: Count = 2048,
    boundary: Count = 256,
    initial: Count = 256,
    grid: Annotated[int, Field(ge=2)] = 50,
) -> DataSource:
    """Collocation points of u_t = alpha u_xx, and a grid of the exact solution.

    Args:
        alpha: the diffusion coefficient.
        interior: training points where the equation must hold.
        boundary: training points at the two ends.
        initial: training points at t = 0.
        grid: points along each axis of the evaluation grid.
    """
    return points.heat_equation_source(
        alpha=alpha, interior=interior, boundary=boundary, initial=initial, grid=grid, seed=seed, fitted=fitted
    )
