"""Masked arrays lost their masks, and `np.nanmax` ignored `where=`: both are refused, as nothing could be right there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import allgrad as ag

MASKED = np.ma.array([1.0, 2.0, 3.0], mask=[True, False, False])


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t * MASKED,
        lambda t: np.add(t, MASKED),
        lambda t: MASKED * t,
        lambda t: MASKED + t,
        lambda t: np.where([True, False, True], t, MASKED),
        lambda t: np.concatenate([t, MASKED]),
        lambda t: np.dot(t, MASKED),
        lambda t: t @ MASKED,
        lambda t: np.maximum(t, MASKED),
        lambda t: np.average(t, weights=MASKED),
        lambda t: np.ma.sum(t),
        lambda t: np.ma.array(t, mask=MASKED.mask),
    ],
)
def test_masked_arrays_are_refused(call: Any) -> None:
    with pytest.raises(TypeError):
        ag.grad(lambda t: np.sum(call(t)))(np.ones(3))
    with pytest.raises(TypeError):
        ag.jvp(lambda t: np.sum(call(t)), (np.ones(3),), (np.ones(3),))


@pytest.mark.parametrize("function", [np.nanmax, np.nanmin])
def test_where_of_nanmax_needs_initial_as_in_numpy(function: Any) -> None:
    x, where = np.array([1.0, 5.0, np.nan]), np.array([True, False, True])
    with pytest.raises(ValueError, match="initial"):
        function(x, where=where)
    with pytest.raises(ValueError, match="initial"):
        function(ag.tensor(x), where=where)
    got = function(ag.tensor(x), where=where, initial=3.0)
    assert got.item() == function(x, where=where, initial=3.0)
