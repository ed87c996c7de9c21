"""Plain arrays that a function was called with could be overwritten before backward, and changed the gradient."""

import importlib
from pathlib import Path

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.containers import flatten
from allgrad.autodiff.errors import LostGradientError

SUPPORT = Path(__file__).parent.parent / "support"
CASES = [
    (case, place)
    for path in sorted(SUPPORT.glob("cases_*.py"))
    if path.stem != "cases_special"
    for case in importlib.import_module(path.stem).CASES
    for place in case.wrt[:2]
]


def gradients(case, place, seed, overwrite):
    """The gradients by the argument at `place` alone; the others are plain arrays, which may be overwritten after the call."""
    args, keywords = case.sample(np.random.default_rng(seed))
    args = list(args)
    holder = keywords if isinstance(place, str) else args
    tracked = []

    def track(x):
        if isinstance(x, (list, tuple)):
            return type(x)(track(item) for item in x)
        tracked.append(ag.tensor(x, requires_grad=True))
        return tracked[-1]

    holder[place] = track(holder[place])
    results = [r for r in flatten(case.function(*args, **keywords))[0] if isinstance(r, ag.Tensor) and r.requires_grad]
    if overwrite:
        for array in flatten([args, keywords])[0]:
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array[...] = np.zeros((), array.dtype)
    for k, r in enumerate(results):
        r.backward(np.full(r.shape, 0.5 + k, r.dtype), retain_graph=True)
    return [t.grad for t in tracked]


@pytest.mark.parametrize(("case", "place"), CASES, ids=lambda x: str(x))
def test_later_writes_change_no_gradient(case, place):
    for seed in range(2):
        try:
            expected = gradients(case, place, seed, False)
        except (LostGradientError, ValueError) as error:  # NumPy does not ask this argument, so the call is refused
            if isinstance(error, LostGradientError) or isinstance(error.__cause__, LostGradientError):
                return
            raise
        got = gradients(case, place, seed, True)
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_array_equal(a, b)
