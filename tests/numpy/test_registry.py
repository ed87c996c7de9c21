"""Every rule in the registry is tested, and every function in it says what it is."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff import RULES
from allgrad.numpy.coverage import ALIASES, FAMILIES
from allgrad.numpy.dispatch import CONSTANT, WRITERS

SUPPORT = Path(__file__).parent.parent / "support"


def covered() -> set[Any]:
    modules = [importlib.import_module(path.stem) for path in SUPPORT.glob("cases_*.py")]
    return {function for module in modules for case in module.CASES for function in case.covered}


def functions() -> dict[str, Any]:
    return {
        f"{row.family}.{row.name}": getattr(FAMILIES[row.family], row.name)
        for row in ag.numpy.coverage()
        if row.kind == "differentiated"
    }


@pytest.mark.parametrize("name", functions())
def test_every_differentiated_function_has_a_case(name: str) -> None:
    function = functions()[name]
    names = {function, *(alias for alias, of in ALIASES.items() if of is function)}
    found = bool(names & covered())
    assert found, f"{name} has a rule and no Case in tests/support/cases_*.py"


def test_every_numpy_function_in_the_registry_is_in_the_table() -> None:
    listed = {getattr(FAMILIES[row.family], row.name) for row in ag.numpy.coverage()}
    ufuncs = {f for f in RULES if isinstance(f, np.ufunc) and getattr(np, f.__name__, None) is f}
    own = ufuncs | {f for f in RULES if getattr(f, "__module__", "").startswith("numpy")}
    assert own - listed - set(ALIASES) == WRITERS


def test_constants_are_not_differentiated_as_well() -> None:
    kinds = {(row.family, row.name): row.kind for row in ag.numpy.coverage()}
    assert len(kinds) == len(ag.numpy.coverage())
    assert set(kinds.values()) == {"differentiated", "constant"}
    assert ("numpy", "amax") not in kinds  # a second name of max
    assert ("linalg", "matmul") not in kinds
    assert kinds["numpy", "argmax"] == kinds["numpy", "floor"] == "constant"
    assert set(RULES) >= CONSTANT


def test_the_promised_counts() -> None:
    counts = dict.fromkeys(FAMILIES, 0)
    for row in ag.numpy.coverage():
        counts[row.family] += row.kind == "differentiated"
    assert counts["numpy"] >= 160
    assert counts["linalg"] >= 20
    assert counts["fft"] >= 18
    assert f"numpy: {counts['numpy']} differentiated" in ag.numpy.summary()


EXAMPLES: dict[Any, tuple[Any, ...]] = {
    np.searchsorted: (np.array([0.0, 1.0]),),
    np.digitize: (np.array([0.0, 1.0]),),
    np.argpartition: (1,),
    np.isin: ([0.5],),
    np.isclose: (0.5,),
    np.allclose: (0.5,),
    np.array_equal: (0.5,),
    np.array_equiv: (0.5,),
}


@pytest.mark.parametrize("function", [np.floor, np.rint, np.round, np.sign, np.trunc, *EXAMPLES, np.argmax, np.argsort])
def test_a_constant_gives_numpys_value_and_carries_no_gradient(function: Any) -> None:
    x = ag.tensor([0.2, 1.7, -0.4], requires_grad=True)
    got = function(x, *EXAMPLES.get(function, ()))
    np.testing.assert_array_equal(getattr(got, "value", got), function(x.numpy(), *EXAMPLES.get(function, ())))
    assert not (isinstance(got, ag.Tensor) and got.requires_grad)


def test_a_function_without_a_rule_raises_by_name() -> None:
    x = ag.tensor([0.2, 1.7, -0.4], requires_grad=True)
    with pytest.raises(TypeError, match=r"np\.histogram"):
        np.histogram(x)
    with pytest.raises(TypeError, match=r"np\.floor_divide\.reduce"):
        np.floor_divide.reduce(x)
