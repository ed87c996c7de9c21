from __future__ import annotations

import pytest
from cases import Case, check, drawn
from cases_polynomials import CASES


@pytest.mark.parametrize("case", CASES, ids=str)
@drawn
def test_rule(case: Case, seed: int) -> None:
    check(case, seed)
