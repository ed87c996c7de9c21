"""Every differentiated function of scipy.linalg: value, both modes, second order, float32; see tests/support/cases.py."""

from __future__ import annotations

import functools

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")

from cases import check, drawn
from cases_scipy_linalg import CASES

import allgrad as ag
from allgrad.scipy import linalg


@pytest.mark.parametrize("case", CASES, ids=str)
@functools.partial(drawn, examples=1)
def test_rule(case, seed):
    check(case, seed)


@pytest.mark.parametrize("name", ["null_space", "orth", "schur", "hessenberg"])
def test_what_is_not_differentiated_says_so(name):
    with pytest.raises(TypeError, match=f"{name} is not differentiated"):
        getattr(linalg, name)(ag.tensor(np.eye(2), requires_grad=True))


def test_a_function_without_a_rule_refuses_tensors():
    with pytest.raises(TypeError, match="gradient would be lost"):
        linalg.ldl(ag.tensor(np.eye(2), requires_grad=True))
