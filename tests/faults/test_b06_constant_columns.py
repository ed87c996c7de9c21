"""A constant numeric column was divided by rounding noise: one held-out row that was off by 0.07 % became 2.8e12.

A column whose standard deviation is at most float32's machine epsilon times its largest absolute value counts as constant. It is
centred and not scaled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from allgrad.data.column_values import mean_and_scale
from allgrad.data.images import Augmentation, image_source
from allgrad.data.tables import Columns, table_source

if TYPE_CHECKING:
    from pathlib import Path

    from allgrad.data import DataSource


def source(tmp_path: Path, values: list[str], target: bool = False) -> DataSource:
    rows = "".join(f"{value},{i}\n" for i, value in enumerate(values))
    (tmp_path / "t.csv").write_text("a,b\n" + rows)
    columns = Columns("a", numeric=("b",)) if target else Columns("b", numeric=("a",))
    return table_source(str(tmp_path / "t.csv"), columns, valid_fraction=0.2, split_seed=0)


def held_out_rows(tmp_path: Path) -> list[int]:
    valid = source(tmp_path, ["1"] * 50, target=False).valid
    scaling = source(tmp_path, ["1"] * 50).fitted["target"]
    targets = valid.batch(np.arange(len(valid)))["targets"][:, 0]
    return np.rint(targets * scaling["scale"] + scaling["mean"]).astype(int).tolist()


@pytest.mark.parametrize("constant", [0.1, 0.1 + 1e-12, 1234.567, -3e8, 1e-300, 0.0])
@pytest.mark.parametrize("target", [False, True])
def test_a_held_out_row_that_differs_is_centred_and_not_scaled(tmp_path: Path, constant: float, target: bool) -> None:
    rows = held_out_rows(tmp_path)
    values = [repr(constant)] * 50
    values[rows[0]] = repr(constant * 1.0007)
    data = source(tmp_path, values, target)
    valid = data.valid.batch(np.arange(len(data.valid)))["targets" if target else "inputs"]
    np.testing.assert_allclose(valid[0, 0], 0.0007 * constant, rtol=1e-4, atol=1e-9)
    assert (np.abs(valid[1:]) <= abs(constant) * 1e-12 + 1e-12).all()


@pytest.mark.parametrize(
    ("values", "constant"),
    [
        (np.full(1000, 0.1), True),
        (np.float32(0.3) + np.array([0, 1, -1]) * 1e-8, True),  # float32 noise
        (1000 * (1 + np.linspace(-1, 1, 99) * 1e-8), True),
        (1.7e9 + np.arange(3600.0), False),  # an hour of time stamps
        (np.array([1.0, 1.0, 1.001]), False),
        (np.array([1e-30, 2e-30]), False),
        (np.array([0.0, 0.0, 1e-12]), False),
        (np.zeros(3), True),
    ],
)
def test_one_rule_says_what_is_constant(values: np.ndarray, constant: bool) -> None:
    mean, scale = mean_and_scale(values)
    assert mean == values.mean()
    assert scale == (1.0 if constant else values.std())


def test_images_of_one_colour_are_not_scaled() -> None:
    pair = (np.full((3, 2, 2), 77, np.uint8), np.arange(3))
    data = image_source(pair, pair, augmentation=Augmentation(), seed=0, what="images")
    np.testing.assert_allclose(data.train.batch(np.arange(3))["inputs"], 0, atol=1e-6)
