"""SciPy's rules are loaded when a SciPy ufunc first gets a Tensor, and not before."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=os.environ | environment
    )
    return done.stdout


def test_importing_allgrad_does_not_import_scipy():
    assert run("import sys, allgrad; print('scipy' in sys.modules)") == "False\n"


def test_a_plain_scipy_ufunc_loads_its_rules():
    program = "import allgrad as ag, scipy.special as sc; print(round(float(ag.grad(sc.gammaln)(1.0)), 6))"
    assert run(program) == "-0.577216\n"


def test_a_ufunc_without_a_rule_is_named():
    import scipy.special as sc

    import allgrad as ag

    with pytest.raises(TypeError, match="smirnov"):
        sc.smirnov(3, ag.tensor(0.5, requires_grad=True))


def test_an_integer_order_is_refused_by_name():
    import scipy.special as sc

    import allgrad as ag

    with pytest.raises(TypeError, match=r"eval_legendre has no vjp rule for its argument 'n'"):
        sc.eval_legendre(ag.tensor(2.0, requires_grad=True), 0.5)


def test_with_scipys_array_api_the_functions_here_stay_the_same():
    program = """
import numpy as np, allgrad as ag
from allgrad.scipy import special, stats
print(round(float(ag.grad(special.gammaln)(1.0)), 6), round(float(ag.grad(lambda x: stats.norm.logpdf(x))(2.0)), 6))
"""
    assert run(program, SCIPY_ARRAY_API="1") == "-0.577216 -2.0\n"
