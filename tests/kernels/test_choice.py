"""Which kernels are used, and by what right."""

import inspect
import re
import subprocess
import sys

import numpy as np
import pytest

from allgrad import kernels
from allgrad.kernels.interface import Kernels


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(kernels, "_active", None)
    monkeypatch.delenv(kernels.VARIABLE, raising=False)


def test_environment_decides(monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, "numpy")
    assert kernels.active().name == "numpy"
    monkeypatch.setenv(kernels.VARIABLE, "numba")
    assert kernels.active().name == "numpy"  # chosen once


def test_a_call_decides():
    assert kernels.use("numpy").name == "numpy"
    assert kernels.active().name == "numpy"


def test_numba_is_the_default_where_installed():
    pytest.importorskip("numba", reason="without numba the default is numpy, see the next test")
    assert kernels.active().name == "numba"


def test_without_numba(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert kernels.active().name == "numpy"
    with pytest.raises(ModuleNotFoundError, match="pip install numba"):
        kernels.use("numba")


def test_a_cpu_without_fused_multiply_add(monkeypatch):
    pytest.importorskip("numba", reason="without numba the default is numpy anyway")
    from allgrad.kernels.matmul import product

    monkeypatch.setattr(product, "host_tile", lambda: None)
    with pytest.warns(RuntimeWarning, match="This CPU has no fused multiply-add"):
        assert kernels.active().name == "numpy"


def test_unknown_names(monkeypatch):
    with pytest.raises(ValueError, match=r"kernels.use: kernels must be one of numpy, numba. Got 'cuda'"):
        kernels.use("cuda")
    monkeypatch.setenv(kernels.VARIABLE, "fast")
    with pytest.raises(ValueError, match=r"ALLGRAD_KERNELS: .* Got 'fast'"):
        kernels.active()


def test_import_loads_neither_numba_nor_changes_the_environment():
    code = (
        "import os, sys; before = dict(os.environ); import allgrad.kernels;"
        "assert dict(os.environ) == before; assert 'numba' not in sys.modules;"
        "allgrad.kernels.use('numpy'); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_both_sets_have_all_loops_with_the_same_arguments():
    pytest.importorskip("numba", reason="the numba kernels need numba")
    first, second = (kernels.use(name) for name in kernels.NAMES)
    for family in Kernels.__bases__:
        called = re.findall(r"self\.(\w+)\.(\w+)(\[)?", inspect.getsource(family))
        assert called, family
        for module, name, by_dtype in called:
            loops = [getattr(getattr(chosen, module), name) for chosen in (first, second)]
            assert all(isinstance(loop, dict) == bool(by_dtype) for loop in loops)
            functions = [loop.function if by_dtype else loop for loop in loops]
            if not isinstance(functions[0], np.ufunc):
                counts = [
                    sum(p.default is p.empty for p in inspect.signature(f).parameters.values()) for f in functions
                ]
                assert counts[0] == counts[1], name


def test_only_the_numba_kernels_are_portable():
    kernels.use("numpy")
    assert kernels.portable() == (False, kernels.portable()[1])
    pytest.importorskip("numba", reason="only the numba kernels are portable")
    kernels.use("numba")
    assert kernels.portable()[0]
