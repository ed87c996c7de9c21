"""`np.gradient` with integer coordinates multiplied them as integers, which overflowed."""

from __future__ import annotations

import numpy as np
import pytest

import allgrad as ag


@pytest.mark.parametrize("spacing", [np.arange(4) * 10**9, 10**10, np.int64(10**10), [0, 1, 3, 10**10]])
@pytest.mark.parametrize("edge_order", [1, 2])
def test_integer_spacings_are_floats(spacing: object, edge_order: int) -> None:
    x = np.array([1.0, 3.0, 2.0, 7.0])
    got = np.gradient(ag.tensor(x, requires_grad=True), spacing, edge_order=edge_order)
    np.testing.assert_allclose(got.numpy(), np.gradient(x, spacing, edge_order=edge_order))
    ag.check_grads(lambda v: np.gradient(v, spacing, edge_order=edge_order), x)


def test_integer_values() -> None:
    x = np.array([250, 3, 7], np.uint8)
    np.testing.assert_allclose(np.gradient(ag.tensor(x)).numpy(), np.gradient(x))
