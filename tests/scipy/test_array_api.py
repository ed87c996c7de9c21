"""With SCIPY_ARRAY_API=1 SciPy's own array API code runs on Tensors, and its special functions find those of allgrad."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")

PROGRAM = """
import numpy as np
import scipy.fft, scipy.integrate, scipy.signal, scipy.special as sc, scipy.stats as st

import allgrad as ag

FUNCTIONS = [
    sc.gammaln, sc.erf, sc.expit, lambda x: sc.gammainc(x, 1.0), lambda x: sc.betainc(x, 1.0, 0.5), lambda x: sc.xlogy(x, x),
    sc.logsumexp, sc.softmax, sc.log_softmax, lambda x: sc.polygamma(1, x), lambda x: sc.multigammaln(x + 3, 2),
    st.skew, st.kurtosis, st.zscore, st.gmean, st.entropy, st.sem, st.circmean, lambda x: st.moment(x, 3),
    scipy.integrate.trapezoid, scipy.integrate.cumulative_trapezoid,
    lambda x: scipy.signal.fftconvolve(x, x), lambda x: np.abs(scipy.signal.hilbert(x)), lambda x: np.abs(scipy.fft.rfft(x)),
]
for function in FUNCTIONS:
    ag.check_grads(function, np.array([0.6, 1.2, 2.5, 3.3, 0.7]), order=1, rtol=1e-4)
print(len(FUNCTIONS))
"""


def test_scipys_own_functions_are_differentiated():
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "24\n"
