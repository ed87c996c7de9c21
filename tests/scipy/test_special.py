"""Every ufunc of scipy.special that has a rule: value, both modes, second order, float32; see tests/support/cases.py."""

from __future__ import annotations

import functools

import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")

from cases import check, drawn
from cases_special import CASES


@pytest.mark.parametrize("case", CASES, ids=str)
@functools.partial(drawn, examples=1)
def test_rule(case, seed):
    check(case, seed)
