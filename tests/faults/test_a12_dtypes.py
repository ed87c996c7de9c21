"""float32 became float64 (or the other way round) in calls where NumPy keeps it: Python numbers are weak, arrays are not."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff import RULES

X = np.array([0.3, 0.7, 0.5], np.float32)
MASK = np.array([True, False, True])
UFUNCS = [u for u in RULES if isinstance(u, np.ufunc) and u.signature is None and getattr(np, u.__name__, None) is u]
SCALARS = [2.0, 2, True, 2 + 1j, np.float32(2), np.float64(2), np.int64(2), np.int8(2), np.array(2.0), np.array(2)]
REFUSED = {np.frexp, np.modf}


def same_form(call: Any, *args: Any) -> None:
    """The call on Tensors gives NumPy's dtypes and shapes, if NumPy takes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            want = call(*args)
        except TypeError:
            return
        got = call(*(ag.tensor(a, requires_grad=True) for a in args))
    want, got = (r if isinstance(r, (tuple, list)) else [r] for r in (want, got))
    forms = [[(np.asarray(getattr(a, "value", a)).dtype, np.shape(a)) for a in r] for r in (want, got)]
    assert forms[0] == forms[1]


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda u: u.__name__)
def test_ufuncs_with_scalars_and_masks(ufunc: Any) -> None:
    masks: list[dict[str, Any]] = [{}] if ufunc in REFUSED else [{}, {"where": MASK}]
    for keywords in masks:
        if ufunc.nin == 1:
            same_form(lambda v, k=keywords: ufunc(v, **k), X)
            continue
        for s in SCALARS:
            same_form(lambda v, s=s, k=keywords: ufunc(v, s, **k), X)
            same_form(lambda v, s=s, k=keywords: ufunc(s, v, **k), X)


CALLS = {
    "clip": lambda x: np.clip(x, 0.1, 0.6),
    "where": lambda x: np.where(MASK, x, 0.0),
    "select": lambda x: np.select([MASK, ~MASK], [x, 2.0], 1.0),
    "choose": lambda x: np.choose([0, 1, 0], [x, 2.0]),
    "piecewise": lambda x: np.piecewise(x, [x < 0.5, x >= 0.5], [lambda v: 2.0 * v, 3.0]),
    "nan_to_num": lambda x: np.nan_to_num(x, nan=1.0),
    "interp": lambda x: np.interp(x, [0.0, 1.0], [0.0, 2.0]),
    "sum": lambda x: np.sum(x, initial=2.0),
    "mean where": lambda x: np.mean(x, where=MASK),
    "max": lambda x: np.max(x, initial=0.0, where=MASK),
    "var": lambda x: np.var(x, ddof=1),
    "std where": lambda x: np.std(x, where=MASK),
    "average": lambda x: np.average(x, weights=[1.0, 2.0, 3.0]),
    "quantile": lambda x: np.quantile(x, 0.3),
    "quantile of an array": lambda x: np.quantile(x, [0.3, 0.5]),
    "percentile": lambda x: np.percentile(x, 30),
    "median": np.median,
    "cov": np.cov,
    "trapezoid": lambda x: np.trapezoid(x, dx=0.1),
    "gradient": lambda x: np.gradient(x, 0.1),
    "gradient of a list": lambda x: np.gradient(x, [0, 1, 3]),
    "polyval": lambda x: np.polyval(x, 2.0),
    "polymul": lambda x: np.polymul(x, [1, 2]),
    "linspace": lambda x: np.linspace(x, 1.0, 3),
    "logspace": lambda x: np.logspace(0, x, 3),
    "geomspace": lambda x: np.geomspace(x, 1.0, 3),
    "pad": lambda x: np.pad(x, 1, constant_values=2.0),
    "insert": lambda x: np.insert(x, 1, 2.0),
    "append": lambda x: np.append(x, 2.0),
    "diff": lambda x: np.diff(x, prepend=0),
    "convolve": lambda x: np.convolve(x, [1, 2]),
    "dot": lambda x: np.dot(x, 2.0),
    "inner": lambda x: np.inner(x, 2),
    "outer": lambda x: np.outer(x, 2.0),
    "kron": lambda x: np.kron(x, 2.0),
    "einsum": lambda x: np.einsum("i,i->", x, [1, 2, 3]),
    "norm": lambda x: np.linalg.norm(x, 0.5),
    "full_like": lambda x: np.full_like(x, 2.0),
    "fftfreq": lambda x: np.fft.fftfreq(3, x[0]),
    "2**x": lambda x: 2**x,
    "x**0": lambda x: x**0,
}


@pytest.mark.parametrize("name", CALLS)
def test_functions_with_python_numbers(name: str) -> None:
    same_form(CALLS[name], X)
