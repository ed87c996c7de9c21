"""The short form of `cpus.py`: one configuration under settings that together stand for another CPU."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="only the numba kernels are portable")
spec = importlib.util.spec_from_file_location("portability_cpus", Path(__file__).with_name("cpus.py"))
assert spec is not None
assert spec.loader is not None
cpus = importlib.util.module_from_spec(spec)
sys.modules["portability_cpus"] = cpus
spec.loader.exec_module(cpus)


def test_a_table_gives_one_digest_on_every_cpu():
    old = {"NPY_DISABLE_CPU_FEATURES": cpus.dispatched(), "OPENBLAS_CORETYPE": "Prescott"}
    here = cpus.run("diamonds", cpus.Setting())
    there = cpus.run("diamonds", cpus.Setting(environment=old, tile="avx512", threads=2))
    assert here["weights_sha256"] == there["weights_sha256"]
    assert (here["train_loss"], here["eval"]) == (there["train_loss"], there["eval"])
    assert here["portable"] is there["portable"] is True
    assert cpus.run("diamonds", cpus.Setting(kernels="numpy", environment=old))["portable"] is False
