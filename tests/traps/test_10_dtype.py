"""Trap 10: gradients have their argument's dtype for every primitive; Python scalars never promote; integers are constants."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.containers import flatten

if TYPE_CHECKING:
    from cases import Case

SUPPORT = Path(__file__).parent.parent / "support"
ALL_CASES: dict[str, Case] = {
    f"{path.stem.removeprefix('cases_')}-{case}": case
    for path in sorted(SUPPORT.glob("cases_*.py"))
    for case in importlib.import_module(path.stem).CASES
}


# SciPy's own remarks on float32: an inaccurate logarithm, and a loop that takes only whole numbers of trials.
@pytest.mark.filterwarnings(
    "ignore:logm result may be inaccurate:RuntimeWarning", "ignore:non-integer arg n:DeprecationWarning"
)
@pytest.mark.parametrize("name", ALL_CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_backward_leaves_a_gradient_of_the_leafs_dtype(name: str, dtype: Any) -> None:
    """Through `.backward()`, with other arguments in float64: what is differentiated alone decides its gradient's dtype."""
    case = ALL_CASES[name]
    args, keywords = case.sample(np.random.default_rng(10))
    args = list(args)
    leaves = []
    for k in case.wrt:
        place: Any = keywords if isinstance(k, str) else args
        arrays, build = flatten(place[k])
        made = [ag.tensor(np.asarray(a, dtype), requires_grad=True) for a in arrays]
        leaves += made
        place[k] = build(made)
    results = [y for y in flatten(case.function(*args, **keywords))[0] if isinstance(y, ag.Tensor) and y.requires_grad]
    assert results or case.complex, "nothing is differentiated"  # np.imag of real numbers is a constant
    for y in results:
        y.backward(np.ones(y.shape, y.dtype), retain_graph=True)
    reached = [leaf for leaf in leaves if leaf.grad is not None]
    assert reached or not results
    for leaf in reached:
        assert leaf.grad.dtype == dtype
        assert leaf.grad.shape == leaf.shape


SCALARS = {
    "x + 1": lambda x: x + 1,
    "2.0 - x": lambda x: 2.0 - x,
    "x * 0.5": lambda x: x * 0.5,
    "1 / x": lambda x: 1 / x,
    "x ** 2": lambda x: x**2,
    "x ** 0.3": lambda x: x**0.3,
    "2.0 ** x": lambda x: 2.0**x,
    "x % 0.7": lambda x: x % 0.7,
    "maximum": lambda x: np.maximum(x, 1.0),
    "where": lambda x: np.where(x > 1, x, 0.0),
    "clip": lambda x: np.clip(x, 0.0, 1.5),
    "arctan2": lambda x: np.arctan2(x, 1.0),
    "mean": lambda x: np.mean(x) * 2.0,
    "std": lambda x: np.std(x, ddof=1),
    "prod with initial": lambda x: np.prod(x, initial=2.0),
    "quantile": lambda x: np.quantile(x, 0.3),
    "trapezoid": lambda x: np.trapezoid(x, dx=0.5),
    "nan_to_num": lambda x: np.nan_to_num(x, nan=1.0),
    "average": lambda x: np.average(x),
}


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_python_scalars_do_not_promote(name: str, dtype: Any) -> None:
    f = SCALARS[name]
    x = np.array([0.5, 1.25, 2.0], dtype)
    y, t = ag.jvp(f, (x,), (np.ones_like(x),))
    assert y.dtype == t.dtype == dtype == f(x).dtype
    assert ag.grad(lambda x: np.sum(f(x)))(x).dtype == dtype
    assert ag.grad(lambda x: np.sum(ag.grad(lambda x: np.sum(f(x)))(x)))(x).dtype == dtype


@pytest.mark.parametrize("value", [np.array([1, 2]), np.array([True, False]), 3])
def test_asking_for_the_gradient_of_integers_is_an_error(value: Any) -> None:
    with pytest.raises(TypeError, match="float"):
        ag.tensor(value, requires_grad=True)
    with pytest.raises(TypeError, match="float"):
        ag.grad(np.sum)(value)


def test_integers_and_booleans_among_the_arguments_are_constants() -> None:
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    np.sum(x * np.array([3, 4]) * np.array([True, False])).backward()
    np.testing.assert_array_equal(x.grad, [3.0, 0.0])
