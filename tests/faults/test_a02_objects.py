"""An operand of dtype object made an untracked result of a tracked input: gradients of zero, without an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import allgrad as ag

OBJECTS = np.array([1.0, 2.0, 3.0], dtype=object)

CALLS = [
    lambda v: v * OBJECTS,
    lambda v: OBJECTS * v,
    lambda v: np.add(v, OBJECTS),
    lambda v: np.where(OBJECTS > 1.5, v, OBJECTS),
    lambda v: np.concatenate([v, OBJECTS]),
    lambda v: np.maximum(v, OBJECTS),
    lambda v: v**OBJECTS,
    lambda v: v.astype(object),
]


def test_a_result_that_is_one_number_keeps_its_gradient() -> None:
    x = np.ones(3)
    np.testing.assert_array_equal(ag.grad(lambda v: v @ OBJECTS)(x), [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(ag.jvp(lambda v: v @ OBJECTS, (x,), (x,))[1], 6.0)


@pytest.mark.parametrize("call", CALLS)
def test_objects_raise_in_both_modes(call: Any) -> None:
    x = np.ones(3)
    with pytest.raises(TypeError, match="object"):
        ag.grad(lambda v: np.sum(call(v)))(x)
    with pytest.raises(TypeError, match="object"):
        ag.jvp(lambda v: np.sum(call(v)), (x,), (x,))
