"""The compile cache: many processes at once, folders that cannot be written, nobody else's numba disturbed."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("numba", reason="compiling needs numba")

WORK = """
import json, sys
import numpy as np
from allgrad import kernels
from allgrad.kernels import jit
{before}
compiled, made = jit.compiled, []
jit.compiled = lambda function, **options: made.append(compiled(function, **options)) or made[-1]
k = kernels.use("numba")
results = []
for name in sys.argv[1:]:
    x = np.arange(40, dtype=name).reshape(4, 10) / 8
    results.append(sum(map(float, k.softmax_forward(x).ravel())))
    k.relu_forward(x)
hits = sum(sum(dispatcher.stats.cache_hits.values()) for dispatcher in made)
print(json.dumps({{"hits": hits, "results": sorted(results), "folder": str(jit.cache_folder())}}))
"""


def start(cache, *dtypes, before=""):
    environment = {**os.environ, "ALLGRAD_CACHE": str(cache)}
    command = [sys.executable, "-c", WORK.format(before=before), *dtypes]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out)


def test_processes_that_start_at_once_share_one_cache(tmp_path):
    orders = [("float32", "float64"), ("float64", "float32"), ("float64",)]
    first = [finish(p) for p in [start(tmp_path, *order) for order in orders]]
    assert first[0]["results"] == first[1]["results"]
    [folder] = tmp_path.iterdir()
    indices = list(folder.rglob("*.nbi"))
    assert len(indices) == 4  # two loops, two dtypes: a file each
    assert len(list(folder.rglob("*.nbc"))) == 4  # one entry each: nothing to mix up
    again = finish(start(tmp_path, "float32", "float64"))
    assert again["hits"] == 4
    assert again["results"] == first[0]["results"]


def test_a_cache_that_cannot_be_written_is_read(tmp_path):
    filled = finish(start(tmp_path, "float32"))
    before = sorted(p.name for p in tmp_path.rglob("*"))
    read_only = "jit._writable = lambda folder: False"
    used = finish(start(tmp_path, "float32", "float64", before=read_only))
    assert used["hits"] == 2  # float32 came from the cache, float64 was compiled
    assert used["folder"] != filled["folder"]
    assert not os.path.exists(used["folder"])  # the private copy went with its process
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_an_impossible_cache_folder_does_no_harm(tmp_path):
    (tmp_path / "file").write_text("")
    assert finish(start(tmp_path / "file" / "below", "float32"))["hits"] == 0


def test_numba_configuration_is_left_alone(tmp_path, monkeypatch):
    import numba

    from allgrad.kernels import jit

    def double(x, out):
        for i in range(x.size):
            out[i] = 2 * x[i]

    monkeypatch.setattr(jit, "_folder", tmp_path)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "somebody's")
    x = np.arange(3, dtype=np.float32)
    loop = jit.PerDtype(double, "r1 w1")
    loop[x.dtype](x, x)
    assert x.tolist() == [0, 2, 4]
    assert numba.config.CACHE_DIR == "somebody's"
    assert list(tmp_path.rglob("*.nbi"))
    assert loop[x.dtype] is loop[x.dtype]


def test_threads_that_compile_at_once_use_the_same_folder():
    """numba's folder is changed for a moment; the second thread must not see it change back in the midst of its own moment."""
    import numba

    from allgrad.kernels import jit

    before, seen, second_is_inside = numba.config.CACHE_DIR, [], threading.Event()

    class First:
        def enable_caching(self):
            second_is_inside.wait(0.2)  # which it must not be yet
            seen.append(numba.config.CACHE_DIR)

    class Second:
        def enable_caching(self):
            second_is_inside.set()
            first.join()
            seen.append(numba.config.CACHE_DIR)

    jit.cache_folder()
    first, second = (threading.Thread(target=jit._enable_cache, args=[work]) for work in (First(), Second()))
    first.start()
    second.start()
    second.join(60)
    assert seen == [str(jit.cache_folder())] * 2
    assert before == numba.config.CACHE_DIR


def test_unknown_letters_are_refused():
    from allgrad.kernels.jit import PerDtype

    with pytest.raises(ValueError, match="unknown letter in signature: 'z1'"):
        PerDtype(lambda x: None, "z1")[np.dtype("float32")]


SUMS = """
import sys
import numpy as np
from allgrad.kernels.numba_kernels import kernels
for name in sys.argv[1:]:
    a = np.arange(40, dtype=name).reshape(10, 4)
    np.testing.assert_array_equal(kernels.sum_of_each_worker(a, np.array([0, 4, 10])), [a[:4].sum(0), a[4:].sum(0)])
print("{}")
"""


def test_what_different_processes_compiled_is_not_linked_to_one_another(tmp_path):
    """Float32 and float64 loops that were each the first of a process have helpers with the same numbers in their names."""
    environment = {**os.environ, "ALLGRAD_CACHE": str(tmp_path)}
    for dtypes in (["float32"], ["float64"], ["float32", "float64"]):
        command = [sys.executable, "-c", SUMS, *dtypes]
        finish(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
