"""The 41 idioms of tests/support/idioms.py in each library that is installed: right, refused, or silently wrong.

    python tests/benchmarks/idioms.py [--list]

Right: the gradient is that of central differences on plain NumPy. Refused: an exception. Silently wrong: another gradient,
without an exception. Each library gets its own NumPy namespace, and arrays of its own where it has a class for them.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from idioms import IDIOMS, X

Gradient = Callable[[Callable[[Any, Any], Any]], Any]


def with_allgrad() -> Gradient:
    import allgrad as ag

    return lambda f: ag.grad(lambda x: f(ag.numpy, x))(X)


def with_advect() -> Gradient:
    import advect
    import advect.numpy as anp

    return lambda f: advect.grad(lambda x: f(anp, x))(X)


def with_jax() -> Gradient:
    import jax

    jax.config.update("jax_enable_x64", True)
    return lambda f: jax.grad(lambda x: f(jax.numpy, x))(jax.numpy.asarray(X))


def with_mygrad() -> Gradient:
    import mygrad

    def gradient(f: Callable[[Any, Any], Any]) -> Any:
        x = mygrad.tensor(X.copy())
        f(np, x).backward()  # MyGrad overrides NumPy's own functions
        return x.grad

    return gradient


def with_autograd() -> Gradient:
    import autograd
    import autograd.numpy as anp

    return lambda f: autograd.grad(lambda x: f(anp, x))(X)


LIBRARIES: dict[str, Callable[[], Gradient]] = {
    "allgrad": with_allgrad,
    "advect": with_advect,
    "jax": with_jax,
    "mygrad": with_mygrad,
    "autograd": with_autograd,
}


def expected(f: Callable[[Any, Any], Any]) -> np.ndarray:
    h = 1e-6
    return np.array([(f(np, X + h * e) - f(np, X - h * e)) / (2 * h) for e in np.eye(len(X))])


def verdict(gradient: Gradient, f: Callable[[Any, Any], Any], want: np.ndarray) -> str:
    try:
        got = np.asarray(gradient(f), dtype=float)
    except Exception:  # whatever a library raises is a refusal
        return "refused"
    return "right" if got.shape == want.shape and np.allclose(got, want, rtol=1e-5, atol=1e-6) else "silently wrong"


def main() -> None:
    warnings.simplefilter("ignore")
    wants = [expected(i.function) for i in IDIOMS]
    print(f"{'':>10} {'right':>7} {'refused':>8} {'silently wrong':>15}")
    for name, load in LIBRARIES.items():
        try:
            gradient = load()
        except ImportError:
            print(f"{name:>10}   not installed")
            continue
        verdicts = [verdict(gradient, i.function, want) for i, want in zip(IDIOMS, wants, strict=True)]
        counts = Counter(verdicts)
        print(f"{name:>10} {counts['right']:>7} {counts['refused']:>8} {counts['silently wrong']:>15}")
        if "--list" in sys.argv:
            for i, v in zip(IDIOMS, verdicts, strict=True):
                if v != "right":
                    print(f"{'':>12}{v:<16}{i.kind}: {i.name}")


if __name__ == "__main__":
    main()
