"""BLAS and allocator set-up. Each case runs in a process of its own, since it changes the process."""

import json
import os
import subprocess
import sys

import pytest

from allgrad.kernels import blas


def run(code, **environment):
    clean = {k: v for k, v in os.environ.items() if k not in blas.THREAD_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, check=True, timeout=300
    )
    return json.loads(done.stdout)


SHOW = "import json; from allgrad.kernels import blas; print(json.dumps({}))"


def test_describe():
    found = run(SHOW.format("blas.describe()"))
    assert set(found) == {"library", "version", "architecture", "threads"}
    assert found["library"] != "unknown"
    json.dumps(found)


def test_describe_agrees_with_threadpoolctl():
    pool = pytest.importorskip("threadpoolctl", reason="the comparison is with threadpoolctl")
    import numpy  # noqa: F401  # loads the library that is described

    theirs = [i for i in pool.threadpool_info() if i["internal_api"] == "openblas" and "numpy" in i["filepath"]]
    if not theirs:
        pytest.skip("this NumPy has no OpenBLAS of its own")
    ours = blas.describe()
    assert ours["architecture"] == theirs[0]["architecture"]
    assert ours["threads"] == theirs[0]["num_threads"]


@pytest.mark.parametrize("first", ["", "import numpy; "])
def test_set_up_before_and_after_numpy(first):
    if blas.describe()["architecture"] is None:
        pytest.skip("this NumPy's BLAS does not tell its number of threads")
    for threads in (1, 2):
        code = first + SHOW.format(f"[blas.set_up({threads}), blas.describe()]")
        assert [d["threads"] for d in run(code)] == [threads, threads]


def test_set_up_reaches_child_processes():
    assert set(
        run("import os; " + SHOW.format("(blas.set_up(1), [os.environ[v] for v in blas.THREAD_VARIABLES])[1]"))
    ) == {"1"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_large_temporaries_no_longer_fault():
    count = (
        "import json, resource; import numpy as np; from allgrad.kernels import blas\n"
        "{}\n"
        "for _ in range(3): np.zeros(4_000_000, np.float32) + 1\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): np.ones(4_000_000, np.float32) + 1\n"
        "print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))"
    )
    if not run(SHOW.format("blas.keep_freed_memory()")):
        pytest.skip("this C library has no mallopt")
    assert run(count.format("blas.set_up(1)")) < run(count.format("pass")) / 4


def test_threads_must_be_positive():
    with pytest.raises(ValueError, match="threads must be 1 or more"):
        blas.set_up(0)
