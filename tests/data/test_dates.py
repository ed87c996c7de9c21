"""Columns of dates, against pandas where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from allgrad.data import DataError
from allgrad.data.csv_files import Table
from allgrad.data.dates import PERIODS, date_seconds, find_format
from allgrad.data.fit import Columns, fit_columns
from allgrad.data.preprocess import encode_inputs, feature_names


def seconds(*texts: str) -> list[float]:
    table = Table({"d": list(texts)}, "t.csv")
    return date_seconds(table, "d", find_format(table, "d")).tolist()


@pytest.mark.parametrize(
    ("texts", "written"),
    [
        (["2024-02-29", "2024-03-01"], "iso"),
        (["2024-02-29T12:30:00+02:00", "2024-03-01 00:00"], "iso"),
        (["29.02.2024", "01.03.2024"], "%d.%m.%Y"),
        (["29.02.2024 12:30", "01.03.2024 00:00"], "%d.%m.%Y %H:%M"),
        (["02/29/2024", "03/01/2024"], "%m/%d/%Y"),
        (["29/02/2024", "01/03/2024"], "%d/%m/%Y"),
    ],
)
def test_the_format_is_found(texts, written) -> None:
    assert find_format(Table({"d": texts}), "d") == written


def test_dates_are_those_of_pandas() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is what is compared with")
    days = pandas.date_range("1969-12-30", periods=900, freq="31h")
    expected = ((days - pandas.Timestamp("1970-01-01")) / pandas.Timedelta("1s")).tolist()
    assert seconds(*days.strftime("%Y-%m-%d %H:%M:%S")) == expected
    assert seconds(*days.strftime("%d.%m.%Y %H:%M")) == expected


def test_what_is_no_date_or_can_be_read_in_two_ways_is_an_error() -> None:
    with pytest.raises(DataError, match=r"t\.csv, row 2, column 'd': expected a date such as .* Got 'soon'"):
        seconds("2024-01-01", "soon")
    with pytest.raises(
        DataError, match=r"row 2, column 'd': the dates are written in several ways\. Got '31\.12\.2024'"
    ):
        seconds("2024-01-01", "31.12.2024")
    with pytest.raises(DataError, match=r"'01/02/2024' can be read in several ways: '%m/%d/%Y', '%d/%m/%Y'\. Give"):
        seconds("01/02/2024", "03/04/2024")


@pytest.mark.parametrize("missing", ["mean", "category"])
def test_the_inputs_of_a_date_are_its_time_and_its_places_in_the_cycles(missing) -> None:
    table = Table({"d": ["2024-01-01 06:00", "2024-07-01", "", "2025-01-01"], "y": ["1", "2", "3", "4"]})
    fitted = fit_columns(table, Columns("y", dates=["d"], missing=missing), np.arange(4))
    names = ["d", *(f"d={period} {wave}" for period in PERIODS for wave in ("sin", "cos"))]
    assert feature_names(fitted) == (names if missing == "mean" else [*names, "d=missing"])
    inputs = encode_inputs(table, fitted)
    times = np.array([19723.25, 19905, np.nan, 20089]) * 86400
    assert np.allclose(inputs[[0, 1, 3], 0], (times - np.nanmean(times))[[0, 1, 3]] / np.nanstd(times), atol=1e-6)
    assert np.allclose(inputs[0, 5:7], [1, 0], atol=1e-6)  # a quarter of the day
    assert np.allclose(inputs[0, 1:3], inputs[3, 1:3], atol=0.02)  # a year later
    assert inputs[2].tolist() == [0.0] * 7 + ([1.0] if missing == "category" else [])
