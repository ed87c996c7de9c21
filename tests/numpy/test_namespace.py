"""`allgrad.numpy` in place of `numpy`: lists of Tensors, index tricks, functions of functions."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

import allgrad as ag
import allgrad.numpy as np

X = numpy.array([3.0, 1.0, 2.0, 5.0])

CALLS = {
    "mean": lambda v: np.mean([v[0], v[1] * 2]),
    "std": lambda v: np.std([v[0], v[1] * 2]),
    "sum of rows": lambda v: np.sum([[v[0], v[1]], [v[2], v[3]]], axis=0),
    "max": lambda v: np.max((v[0], v[1])),
    "median": lambda v: np.median([v[0], v[1], v[3]]),
    "append": lambda v: np.append([v[0], 1.0], [v[1]]),
    "sin": lambda v: np.sin([v[0], v[1]]),
    "add": lambda v: np.add([v[0], v[1]], 1.0),
    "maximum": lambda v: np.maximum([v[0], 1.0], v[2:]),
    "add.reduce": lambda v: np.add.reduce([v[0], v[1]]),
    "dot": lambda v: np.dot([v[0], v[1]], [[v[2], 1.0], [2.0, v[3]]]),
    "where": lambda v: np.where([True, False], [v[0], v[1]], 0.0),
    "clip": lambda v: np.clip([v[0], v[1]], 0, 2.5),
    "trapezoid": lambda v: np.trapezoid([v[0], v[1]], [v[2], v[3]]),
    "interp": lambda v: np.interp(0.3, [0, 1], [v[0], v[1]]),
    "einsum": lambda v: np.einsum("i,i", [v[0], v[1]], [v[2], v[3]]),
    "cov": lambda v: np.cov([v, v * v]),
    "diag": lambda v: np.diag([v[0], v[1]]),
    "cross": lambda v: np.cross([v[0], v[1], 0.0], [v[2], v[3], 1.0]),
    "tile": lambda v: np.tile([v[0], v[1]], 2),
    "polyval": lambda v: np.polyval([v[0], v[1], 1.0], v),
    "meshgrid": lambda v: np.meshgrid([v[0], v[1]], v),
    "linspace": lambda v: np.linspace(v[0], v[1], 4),
    "select": lambda v: np.select([[True, False]], [[v[0], v[1]]], 0.0),
    "stack": lambda v: np.stack([v, v]),
    "concatenate": lambda v: np.concatenate([v, [v[0]]]),
    "vstack of rows": lambda v: np.vstack([[v[0], v[1]], [v[2], v[3]]]),
    "block": lambda v: np.block([[v, v], [v, 2 * v]]),
    "linalg.norm": lambda v: np.linalg.norm([v[0], v[1] * 2]),
    "linalg.inv": lambda v: np.linalg.inv([[v[0], v[1]], [v[2], v[3]]]),
    "fft.fft": lambda v: np.fft.fft([v[0], v[1]]),
    "by keyword": lambda v: np.average(v[:2], weights=[v[2], v[3]]),
    "array": lambda v: np.array([v[0], [v[1]][0]]),
    "full": lambda v: np.full((2, 2), v[0]),
    "r_": lambda v: np.r_[v, 1.0, v[0], 0:3],
    "c_": lambda v: np.c_[v, v * 2, numpy.ones((4, 2))],
    "vectorize": lambda v: np.vectorize(lambda a, b: a * b if a > b else b**2)(v, 1.5),
    "vectorize with two results": lambda v: np.vectorize(lambda a: (a * a, a + 1))(v.reshape(2, 2)),
    "frompyfunc": lambda v: np.frompyfunc(lambda a: a * a, 1, 1)(v).astype(float),
    "apply_along_axis of plain rows": lambda v: np.apply_along_axis(lambda r: r * v[0], 0, numpy.eye(2)),
    "fromfunction": lambda v: np.fromfunction(lambda i, j: i * v[0] + j, (2, 3)),
}


@pytest.mark.parametrize("name", CALLS)
def test_values_and_derivatives(name: str) -> None:
    call = CALLS[name]
    wants, gots = (r if isinstance(r, tuple) else (r,) for r in (call(X), call(ag.tensor(X, requires_grad=True))))
    for want, got in zip(wants, gots, strict=True):
        numpy.testing.assert_allclose(got.numpy(), want)
        assert got.dtype == numpy.asarray(want).dtype
    ag.check_grads(call, X)


def test_without_tensors_it_is_numpy() -> None:
    assert type(np.sin([0.0, 1.0])) is numpy.ndarray
    assert type(np.r_[0:3, 1.0]) is numpy.ndarray
    assert type(np.vectorize(lambda a: a + 1)([1, 2])) is numpy.ndarray
    assert type(np.apply_along_axis(lambda r: r.sum(), 0, numpy.eye(2))) is numpy.ndarray
    assert np.pi == numpy.pi
    assert np.float32 is numpy.float32
    assert np.linalg.LinAlgError is numpy.linalg.LinAlgError
    assert np.add.nin == 2
    assert np.add.identity == 0
    assert np.sin.__name__ == "sin"


def test_the_submodules_can_be_imported() -> None:
    from allgrad.numpy.fft import rfft
    from allgrad.numpy.linalg import norm

    assert norm([ag.tensor(3.0), ag.tensor(4.0)]).item() == 5.0
    assert type(rfft([1.0, 2.0])) is numpy.ndarray


def test_unknown_names_and_calls_say_what_is_wrong() -> None:
    with pytest.raises(AttributeError, match=r"allgrad\.numpy .*numpy has 'nonsense'"):
        _ = np.nonsense
    with pytest.raises(AttributeError, match=r"allgrad\.numpy\.linalg"):
        _ = np.linalg.nonsense
    with pytest.raises(TypeError, match="signature"):
        np.vectorize(lambda a: a, signature="(n)->()")(ag.tensor(X))
    with pytest.raises(TypeError, match="directive"):
        _ = np.r_["0,2", ag.tensor(X)]


@pytest.mark.parametrize(
    "call", [lambda t: np.histogram(t), lambda t: np.histogram([1.0], bins=t, weights=[1.0]), np.floor_divide.reduce]
)
def test_what_is_constant_by_pieces_is_refused(call: Any) -> None:
    with pytest.raises(TypeError, match=r"np\."):
        call(ag.tensor(X, requires_grad=True))
