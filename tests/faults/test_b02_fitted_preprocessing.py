"""A run depended on its training file: means, categories, classes and vocabulary were computed again whenever it was read.

Scaled data gave the same metrics, an unseen category shifted all columns, and renamed classes scored 100 %. Now a source that
is given the stored preprocessing fits nothing, and an error names the place of a value that it does not know.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allgrad.data import DataError, DataSource
from allgrad.data.arrays import arrays_source
from allgrad.data.csv_files import Table
from allgrad.data.images import Augmentation, image_source
from allgrad.data.points import heat_equation_source
from allgrad.data.preprocess import class_names, decode_values, encode_inputs, encode_targets
from allgrad.data.tables import Columns, table_source
from allgrad.data.text import text_source, tokens_source

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "size,colour,grade,price\n"
ROWS = [f"{i / 4},{'red' if i % 3 else 'blue'},{['low', 'mid', 'high'][i % 3]},{2.0**i}\n" for i in range(20)]
VALUES = Columns(
    "price", numeric=("size",), categorical=("colour",), ordinal={"grade": ("low", "mid", "high")}, transform="log"
)
CLASSES = Columns("colour", task="classes", numeric=("size", "price"))


def stored(source: DataSource) -> Any:
    """The preprocessing as it comes back from a checkpoint, which may sort the keys."""
    return json.loads(json.dumps(source.fitted, sort_keys=True))


def everything(subset: Any) -> Any:
    return subset.batch(np.arange(len(subset)))


def same(one: DataSource, other: DataSource) -> None:
    assert one.info == other.info
    for a, b in ((one.train, other.train), (one.valid, other.valid)):
        for key, array in everything(a).items():
            np.testing.assert_array_equal(array, everything(b)[key])
            assert array.dtype == everything(b)[key].dtype


def table(tmp_path: Path, rows: list[str], columns: Columns, fitted: Any = None) -> DataSource:
    path = tmp_path / "table.csv"
    path.write_text(HEADER + "".join(rows))
    return table_source(str(path), columns, valid_fraction=0.2, split_seed=0, fitted=fitted)


@pytest.mark.parametrize("columns", [VALUES, CLASSES])
def test_the_same_file_gives_the_same_bits(tmp_path: Path, columns: Columns) -> None:
    first = table(tmp_path, ROWS, columns)
    second = table(tmp_path, ROWS, columns, stored(first))
    same(first, second)
    assert second.fitted == first.fitted
    assert second.digest == first.digest


def test_scaled_inputs_are_other_inputs(tmp_path: Path) -> None:
    first = table(tmp_path, ROWS, VALUES)
    scaled = [f"{float(size) * 1000 + 5},{rest}" for size, rest in (row.split(",", 1) for row in ROWS)]
    second = table(tmp_path, scaled, VALUES, stored(first))
    before, after = everything(first.train)["inputs"][:, 0], everything(second.train)["inputs"][:, 0]
    numeric = first.fitted["columns"][0]
    np.testing.assert_allclose(after, before * 1000 + (999 * numeric["mean"] + 5) / numeric["scale"], atol=1e-3)
    assert second.digest != first.digest


@pytest.mark.parametrize(
    ("columns", "row", "match"),
    [
        (VALUES, "0.5,green,low,2.0\n", "line 22, column 'colour': expected one of 'blue', 'red'. Got 'green'"),
        (VALUES, "0.5,red,top,2.0\n", "line 22, column 'grade': expected one of 'low', 'mid', 'high'. Got 'top'"),
        (CLASSES, "0.5,green,low,2.0\n", "line 22, column 'colour': expected one of 'blue', 'red'. Got 'green'"),
    ],
)
def test_what_is_unknown_is_named(tmp_path: Path, columns: Columns, row: str, match: str) -> None:
    fitted = stored(table(tmp_path, ROWS, columns))
    with pytest.raises(DataError, match=match):
        table(tmp_path, [*ROWS, row], columns, fitted)


def test_a_category_that_is_gone_shifts_nothing(tmp_path: Path) -> None:
    first = table(tmp_path, ROWS, VALUES)
    only_red = [row.replace("blue", "red") for row in ROWS]
    second = table(tmp_path, only_red, VALUES, stored(first))
    assert second.info == first.info
    np.testing.assert_array_equal(everything(second.train)["inputs"][:, 1:3], [[0, 1]] * 16)
    np.testing.assert_array_equal(everything(second.train)["inputs"][:, 3], everything(first.train)["inputs"][:, 3])


def test_other_columns_are_refused(tmp_path: Path) -> None:
    fitted = stored(table(tmp_path, ROWS, VALUES))
    with pytest.raises(DataError, match=r"trained with target = 'price', but the configuration says 'colour'"):
        table(tmp_path, ROWS, CLASSES, fitted)
    with pytest.raises(DataError, match="kind"):
        table(tmp_path, ROWS, VALUES, {})


def test_rows_are_encoded_and_decoded_without_the_file(tmp_path: Path) -> None:
    source = table(tmp_path, ROWS, VALUES)
    fitted = stored(source)
    (tmp_path / "table.csv").unlink()
    fields = [row.strip().split(",") for row in ROWS]
    rows = Table(dict(zip(HEADER.strip().split(","), map(list, zip(*fields, strict=True)), strict=True)), "rows")
    inputs, targets = encode_inputs(rows, fitted), encode_targets(rows, fitted)
    read = np.concatenate([everything(source.train)["inputs"], everything(source.valid)["inputs"]])
    assert sorted(inputs.tolist()) == sorted(read.tolist())
    np.testing.assert_allclose(decode_values(targets, fitted)[:, 0], [2.0**i for i in range(20)], rtol=1e-5)
    assert class_names(stored(table(tmp_path, ROWS, CLASSES))) == ["blue", "red"]
    with pytest.raises(DataError, match="rows, row 2, column 'colour'"):
        encode_inputs(Table({"size": ["1", "2"], "colour": ["red", "pink"], "grade": ["low"] * 2}, "rows"), fitted)
    with pytest.raises(DataError, match="rows: there is no column 'grade'"):
        encode_inputs(Table({"size": ["1"], "colour": ["red"]}, "rows"), fitted)


@pytest.mark.parametrize("transform", ["none", "log", "log1p"])
def test_every_transform_is_undone(tmp_path: Path, transform: Any) -> None:
    fitted = stored(table(tmp_path, ROWS, Columns("price", numeric=("size",), transform=transform)))
    rows = Table({"price": ["0.5", "3", "1000"]})
    np.testing.assert_allclose(
        decode_values(encode_targets(rows, fitted), fitted)[:, 0], [0.5, 3, 1000], rtol=2e-3, atol=5e-3
    )


def text(tmp_path: Path, content: str, unit: Any = "characters", fitted: Any = None) -> DataSource:
    (tmp_path / "t.gz").write_bytes(gzip.compress(content.encode()))
    return text_source(str(tmp_path / "t.gz"), unit=unit, context=4, valid=10, seed=0, fitted=fitted)


def test_a_text_keeps_its_vocabulary(tmp_path: Path) -> None:
    first = text(tmp_path, "the quick brown fox jumps\nover the lazy dog. " * 3)
    same(first, text(tmp_path, "the quick brown fox jumps\nover the lazy dog. " * 3, fitted=stored(first)))
    fewer = text(tmp_path, "the lazy dog\n" * 5, fitted=stored(first))
    assert (fewer.info.outputs, fewer.info.extra) == (first.info.outputs, first.info.extra)
    with pytest.raises(DataError, match=r"t\.gz, line 2, column 3: the character 'ü' is not in the model's vocabulary"):
        text(tmp_path, "the lazy dog\nthü lazy dog\n" * 5, fitted=stored(first))
    for unknown in "!A~":  # before, between and after the known ones
        with pytest.raises(DataError, match=f"line 1, column 4: the character '{unknown}'"):
            text(tmp_path, f"the{unknown}" * 9, fitted=stored(first))
    with pytest.raises(DataError, match="trained with unit = 'characters', but the configuration says 'bytes'"):
        text(tmp_path, "the lazy dog\n" * 5, unit="bytes", fitted=stored(first))
    bytes_ = text(tmp_path, "the lazy dog\n" * 5, unit="bytes")
    same(bytes_, text(tmp_path, "the lazy dog\n" * 5, unit="bytes", fitted=stored(bytes_)))


def test_token_ids_keep_the_size_of_their_vocabulary(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.arange(50))
    options: dict[str, Any] = {"context": 4, "valid": 10, "seed": 0}
    first = tokens_source(str(tmp_path / "t.npy"), vocabulary_size=60, **options)
    same(first, tokens_source(str(tmp_path / "t.npy"), vocabulary_size=60, **options, fitted=stored(first)))
    with pytest.raises(DataError, match="trained with vocabulary_size = 60, but the configuration says 61"):
        tokens_source(str(tmp_path / "t.npy"), vocabulary_size=61, **options, fitted=stored(first))


def arrays(tmp_path: Path, x: Any, y: Any, task: Any, fitted: Any = None) -> DataSource:
    np.savez(tmp_path / "a.npz", inputs=x, targets=y)
    return arrays_source(
        str(tmp_path / "a.npz"),
        None,
        task=task,
        inputs="inputs",
        targets="targets",
        valid_fraction=0.25,
        split_seed=0,
        fitted=fitted,
    )


def test_arrays_keep_their_shapes_and_classes(tmp_path: Path) -> None:
    x, y = np.arange(24.0).reshape(12, 2), np.arange(12) % 4
    first = arrays(tmp_path, x, y, "classes")
    same(first, arrays(tmp_path, x, y, "classes", stored(first)))
    assert arrays(tmp_path, x, y % 2, "classes", stored(first)).info.outputs == 4
    with pytest.raises(DataError, match=r"sample 7: class label 4 is unknown; the model was trained with classes 0..3"):
        arrays(tmp_path, x, np.where(np.arange(12) == 7, 4, y), "classes", stored(first))
    with pytest.raises(DataError, match=r"inputs have shape \(1,\), but the training data have \(2,\)"):
        arrays(tmp_path, x[:, :1], y, "classes", stored(first))
    with pytest.raises(DataError, match="trained with task = 'classes'"):
        arrays(tmp_path, x, y.astype(float), "values", stored(first))


def test_images_keep_their_mean_and_classes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 3), dtype=np.uint8)
    labels = np.arange(12) % 3

    def images(pixels: Any, labels: Any, fitted: Any = None) -> DataSource:
        pair = (pixels, labels)
        return image_source(pair, pair, augmentation=Augmentation(), seed=0, what="images", fitted=fitted)

    first = images(pixels, labels)
    same(first, images(pixels, labels, stored(first)))
    darker = images(pixels // 2, np.minimum(labels, 1), stored(first))
    assert darker.info == first.info
    assert everything(darker.train)["inputs"].mean() < -0.5
    with pytest.raises(DataError, match="class label 3 is unknown"):
        images(pixels, labels + 1, stored(first))


def test_points_keep_their_equation() -> None:
    options: dict[str, Any] = {"interior": 8, "boundary": 4, "initial": 4, "grid": 3, "seed": 0}
    first = heat_equation_source(alpha=0.1, **options)
    same(first, heat_equation_source(alpha=0.1, **options, fitted=stored(first)))
    with pytest.raises(DataError, match=r"trained with alpha = 0.1, but the configuration says 0.2"):
        heat_equation_source(alpha=0.2, **options, fitted=stored(first))
