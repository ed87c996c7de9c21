"""`allgrad.scipy.coverage()`: what it lists is what is tested."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")

from allgrad.scipy import FAMILIES, coverage, summary

ROWS = coverage()
HERE = Path(__file__).parent
TESTS = "".join(path.read_text() for path in [*HERE.glob("test_*.py"), *(HERE.parent / "support").glob("cases_s*.py")])
WORDS = set(re.findall(r"\w+", TESTS))


def test_more_than_240_functions_are_differentiated_besides_the_methods_of_distributions():
    functions = [row for row in ROWS if row.kind == "differentiated" and "." not in row.name]
    assert len(functions) >= 380


@pytest.mark.parametrize("family", sorted({row.family for row in ROWS}))
def test_every_function_has_a_test(family):
    names = {row.name.split(".")[0] for row in ROWS if row.family == family and row.kind == "differentiated"}
    untested = {name for name in names if name not in WORDS and f"_{name}" not in WORDS and name not in TESTS}
    assert not untested


@pytest.mark.parametrize("family", FAMILIES)
def test_a_submodule_has_scipys_names(family):
    ours, theirs = (importlib.import_module(f"{package}.{family}") for package in ("allgrad.scipy", "scipy"))
    for name in getattr(theirs, "__all__", ()):
        assert getattr(ours, name) is not None


def test_the_summary_counts_them():
    assert re.search(r"^special: 2\d\d differentiated, \d constant$", summary(), re.M)
