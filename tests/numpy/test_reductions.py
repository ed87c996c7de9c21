from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import Case, check, drawn
from cases_reductions import CASES

import allgrad as ag


@pytest.mark.parametrize("case", CASES, ids=str)
@drawn
def test_rule(case: Case, seed: int) -> None:
    check(case, seed)


INTEGERS = ag.tensor([[3, 1, 4], [1, 5, 9]])


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.max(x, axis=0),
        lambda x: np.min(x, where=np.array([True, False, True]), initial=7),
        lambda x: np.max(x, where=np.array([True, False, True]), initial=7),
        lambda x: np.max(x > 2, where=np.array([True, False, True]), initial=False),
        lambda x: np.nanmax(x),
        lambda x: np.nansum(x, axis=1),
        lambda x: np.nanmean(x),
        lambda x: np.mean(x, axis=1),
        lambda x: np.var(x),
        lambda x: np.prod(x),
        lambda x: np.cumsum(x, axis=1),
        lambda x: np.median(x),
        lambda x: np.quantile(x, 0.3, axis=1),
        lambda x: np.sort(x, axis=0),
        lambda x: np.average(x),
        lambda x: np.sum(x, dtype=np.uint8),
        lambda x: np.prod(x, dtype=np.int16, axis=0),
        lambda x: np.cumsum(x, dtype=np.int8),
        lambda x: np.add.reduce(x, dtype=np.uint8),
        lambda x: np.trace(x, dtype=np.uint8),
    ],
)
def test_integers_give_what_numpy_gives(call: Any) -> None:
    got, want = call(INTEGERS), call(INTEGERS.numpy())
    np.testing.assert_allclose(getattr(got, "value", got), want, rtol=1e-14)
    assert got.dtype == want.dtype
