"""A data set whose `batch` returned a list killed the prefetching thread; the process then waited for ever, deaf to SIGTERM."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from allgrad.data import DataError, DataInfo, DataSource, Loader, Sampler


class Odd:
    """A data set that returns whatever it is given."""

    def __init__(self, make: Any) -> None:
        self._make = make

    def __len__(self) -> int:
        return 8

    def batch(self, indices: np.ndarray, *, epoch: int = 0) -> Any:
        return self._make(indices)


WRONG = [
    (
        lambda i: [np.zeros(len(i))],
        r"data set Odd: batch\(\[0, 1, 2, \.\.\.\], epoch=0\) must return a dict of NumPy arrays. Got list",
    ),
    (lambda i: None, "Got NoneType"),
    (lambda i: {}, "Got an empty dict"),
    (lambda i: {"x": [0.0] * len(i)}, "'x' must be a NumPy array of numbers. Got list"),
    (lambda i: {"x": SimpleNamespace(flags=0)}, r"'x' must be a NumPy array of numbers. Got types\.SimpleNamespace"),
    (lambda i: {"x": np.array([None] * len(i))}, "'x' must be a NumPy array of numbers. Got an array of dtype object"),
    (lambda i: {"x": np.array(["a"] * len(i))}, "'x' must be a NumPy array of numbers. Got an array of dtype <U1"),
    (lambda i: {"x": np.float64(3)}, "'x' must be a NumPy array"),
    (lambda i: {"x": np.array(3.0)}, r"'x' must have the 4 samples along axis 0. Got shape \(\)"),
    (lambda i: {"x": np.zeros(len(i) + 1)}, r"'x' must have the 4 samples along axis 0. Got shape \(5,\)"),
    (lambda i: {3: np.zeros(len(i))}, "the keys must be strings. Got 3"),
]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize(("make", "match"), WRONG)
def test_a_wrong_batch_is_an_error_at_every_call(make: Any, match: str, prefetch: int) -> None:
    sampler = Sampler(8, 4, seed=0, shuffle=False)
    with Loader(Odd(make), sampler, workers=[0, 1], virtual_workers=2, prefetch=prefetch) as loader:
        for _ in range(3):
            with pytest.raises(DataError, match=match):
                next(loader)


@pytest.mark.parametrize(("make", "match"), [(make, match) for make, match in WRONG if "epoch" in match])
def test_a_wrong_batch_is_found_before_the_training_begins(make: Any, match: str) -> None:
    with pytest.raises(DataError, match=r"batch\(\[0, 4, 7\], epoch=0\) must return a dict"):
        DataSource(Odd(make), Odd(make), DataInfo("values", (), 1))


HANGING = """
import signal, sys, threading
import numpy as np
from allgrad.data import Loader, Sampler, loader

class Hanging:
    def __len__(self):
        return 8

    def batch(self, indices, *, epoch=0):
        print("waiting", flush=True)
        called.set()
        threading.Event().wait()

called = threading.Event()
loader._PATIENCE = 0.01
one = Loader(Hanging(), Sampler(8, 4, seed=0), workers=[0], virtual_workers=1)
if sys.argv[1] == "handler":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
if sys.argv[1] == "close":
    one._started()
    called.wait()
    one.close()
    sys.exit(7)
next(one)
"""


@pytest.mark.parametrize(
    ("kind", "sent", "code"),
    [
        ("plain", signal.SIGTERM, -signal.SIGTERM),
        ("handler", signal.SIGTERM, 7),
        ("plain", signal.SIGINT, -signal.SIGINT),
        ("close", None, 7),
    ],
)
def test_a_hanging_data_set_can_be_interrupted(kind: str, sent: signal.Signals | None, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        if sent is not None:
            process.send_signal(sent)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == code
    assert ("The data set Hanging has not returned from batch()" in errors) == (kind == "close")
