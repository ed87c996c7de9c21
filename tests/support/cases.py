"""The one driver that every derivative rule is tested with.

A `Case` names a NumPy function and draws arguments for it; `check(case, seed)` draws once and verifies, at that point,

1. value, shape and dtype: on Tensors the function gives what NumPy gives on plain arrays;
2. spellings: positional arguments, keyword arguments and the method of the same name agree, value and derivative;
3. jvp against central differences, in a random direction;
4. vjp against jvp: Re<w, J v> = Re<J^T w, v> without conjugation (JAX's convention), for real arguments and, with
   `complex=True`, complex ones;
5. second order: forward over reverse against differences of the vjp, reverse over reverse and reverse over forward against it;
6. float32: both modes stay in float32 and agree with float64; every cotangent has its argument's dtype and shape.

A family's file, `cases_<family>.py`, holds `CASES`; its test is

    @pytest.mark.parametrize("case", CASES, ids=str)
    @drawn
    def test_rule(case, seed):
        check(case, seed)

Samples must stay away from kinks by more than 1e-3 (`separated` draws entries that do), since differences straddle them.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import allgrad as ag
from allgrad.autodiff.containers import flatten

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = 1e-4  # of the five-point differences: truncation ~ STEP^4, rounding ~ 1e-16 / STEP


@dataclass(frozen=True)
class Case:
    """A function and how to draw arguments for it.

    Attributes:
        name: shown in the test's id; starts with the function's name.
        function: called on arrays and on Tensors; normally the NumPy function itself.
        sample: rng -> (args, keywords). Arrays in float64; `check` makes the other dtypes from it.
        wrt: what is differentiated: positions, or names of keywords. An entry may be a list or tuple of arrays.
        complex: whether to check with complex arguments as well.
        order: 1, or 2 for second derivatives too.
        rtol: for derivatives in float64; float32 is compared with `rtol32`.
        float32: False where a float32 result cannot be compared (another branch, an ill-conditioned function).
        spellings: False where the keyword or method form is another function than the positional one.
        covers: the NumPy functions that this case stands for in the registry's test; by default `function`.
    """

    name: str
    function: Callable[..., Any]
    sample: Callable[[np.random.Generator], tuple[tuple[Any, ...], dict[str, Any]]]
    wrt: tuple[int | str, ...] = (0,)
    complex: bool = False
    order: int = 2
    rtol: float = 1e-6
    rtol32: float = 2e-3
    float32: bool = True
    spellings: bool = True
    covers: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def covered(self) -> tuple[Any, ...]:
        return self.covers or (self.function,)


def drawn(test: Callable[..., None], examples: int = 8) -> Callable[..., None]:
    """Run a test with a few seeds drawn by hypothesis, the same on every run."""
    test = given(seed=st.integers(0, 2**32 - 1))(test)
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(test)


def check(case: Case, seed: int) -> None:
    """Draw arguments with `seed` and verify all that the top of this file lists."""
    rng = np.random.default_rng(seed)
    args, keywords = case.sample(rng)
    point = _Point(case, args, keywords)
    _check_value(point)
    exact = _check_derivatives(point, rng)
    if case.complex:
        lift = _complexify(rng)
        _check_value(point.mapped(lift))
        _check_derivatives(point.mapped(lift), rng)
    if case.float32:
        _check_float32(point, exact)


class _Point:
    """A case at drawn arguments, as a function of the list of arrays that it is differentiated by."""

    def __init__(self, case: Case, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self.case, self.args, self.keywords = case, args, keywords
        chosen = [keywords[k] if isinstance(k, str) else args[k] for k in case.wrt]
        self.inputs, self.build = flatten(chosen)
        assert self.inputs, f"{case.name}: nothing to differentiate at {args}, {keywords}"
        self.inputs = [np.asarray(x) for x in self.inputs]

    def mapped(self, change: Callable[[np.ndarray], np.ndarray]) -> _Point:
        """The same call with every floating array changed by `change`."""

        def visit(x: Any) -> Any:
            leaves, build = flatten(x)
            return build([change(a) if isinstance(a, np.ndarray) and a.dtype.kind in "fc" else a for a in leaves])

        args = tuple(visit(a) for a in self.args)
        if change is to_float32:
            return _Point(self.case, args, {k: visit(v) for k, v in self.keywords.items()})
        chosen = [k for k in self.case.wrt if isinstance(k, int)]
        args = tuple(new if i in chosen else old for i, (new, old) in enumerate(zip(args, self.args, strict=True)))
        keywords = {k: visit(v) if k in self.case.wrt else v for k, v in self.keywords.items()}
        return _Point(self.case, args, keywords)

    def arguments(self, inputs: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        args, keywords = list(self.args), dict(self.keywords)
        for k, x in zip(self.case.wrt, self.build(list(inputs)), strict=True):
            if isinstance(k, str):
                keywords[k] = x
            else:
                args[k] = x
        return args, keywords

    def __call__(self, *inputs: Any) -> list[Any]:
        """The floating results, as a flat list."""
        args, keywords = self.arguments(list(inputs))
        return floating(self.case.function(*args, **keywords))


def floating(result: Any) -> list[Any]:
    return [y for y in flatten(result)[0] if np.asarray(_raw(y)).dtype.kind in "fc"]


def _raw(x: Any) -> Any:
    return x.value if isinstance(x, ag.Tensor) else x


def _check_value(point: _Point) -> None:
    case = point.case
    args, keywords = point.arguments(point.inputs)
    expected, _ = flatten(case.function(*args, **keywords))
    single = any(x.dtype in (np.float32, np.complex64) for x in point.inputs)
    rtol, atol = (1e-5, 1e-6) if single else (1e-9, 1e-12)
    tracked = [ag.tensor(x, requires_grad=True) for x in point.inputs]
    targs, tkeywords = point.arguments(tracked)
    for how, spelling in _spellings(case, targs, tkeywords):
        results, _ = flatten(spelling())
        assert len(results) == len(expected), (
            f"{case.name} ({how}): {len(results)} results, NumPy gives {len(expected)}"
        )
        for got, want in zip(results, expected, strict=True):
            got, want = np.asarray(_raw(got)), np.asarray(want)
            context = f"{case.name} ({how}) of {_describe(point)}"
            assert got.dtype == want.dtype, f"{context}: dtype {got.dtype}, NumPy gives {want.dtype}"
            assert got.shape == want.shape, f"{context}: shape {got.shape}, NumPy gives {want.shape}"
            np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, err_msg=f"{context}: value")


def _spellings(case: Case, args: list[Any], keywords: dict[str, Any]) -> list[tuple[str, Callable[[], Any]]]:
    """The call as the case writes it, all by keyword, and as a method, where these exist."""
    function = case.function
    ways = [("as given", lambda: function(*args, **keywords))]
    if not case.spellings:
        return ways
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        parameters = []
    if parameters and all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters[: len(args)]):
        named = {p.name: a for p, a in zip(parameters, args, strict=False)} | keywords
        ways.append(("by keyword", lambda: function(**named)))
    name = getattr(function, "__name__", "")
    method = getattr(ag.Tensor, name, None)
    if callable(method) and getattr(np, name, None) is function and args and isinstance(args[0], ag.Tensor):
        ways.append(("as a method", lambda: method(*args, **keywords)))
    return ways


def _check_derivatives(point: _Point, rng: np.random.Generator) -> tuple[list[Any], list[Any], list[Any]]:
    """First (and second) derivatives in float64; returns (directions, cotangents, [tangents, gradients]) for float32's check."""
    case, xs = point.case, point.inputs
    context = f"{case.name} of {_describe(point)}"
    vs = [_like(rng, x) for x in xs]
    values, tangents = ag.jvp(point, tuple(xs), tuple(vs))
    _check_forms(f"{context}: tangent", tangents, values)
    numeric = differences(point, xs, vs)
    for t, n in zip(tangents, numeric, strict=True):
        close(t, n, case.rtol, f"{context}: jvp against differences")
    ws = [_like(rng, np.asarray(y)) for y in values]
    values, pullback = ag.vjp(point, *xs)
    gradients = pullback(ws)
    _check_forms(f"{context}: cotangent", gradients, xs)
    close(inner(gradients, vs), inner(ws, tangents), case.rtol, f"{context}: vjp against jvp")
    if case.order > 1:
        _check_second(point, xs, vs, ws, rng, context)
    return vs, ws, [tangents, gradients]


def _check_second(point: _Point, xs: Any, vs: Any, ws: Any, rng: np.random.Generator, context: str) -> None:
    us = [_like(rng, x) for x in xs]
    rtol = point.case.rtol * 10

    def pulled(*inner_xs: Any) -> list[Any]:
        return list(ag.vjp(point, *inner_xs)[1](ws))

    def pushed(*inner_xs: Any) -> list[Any]:
        return ag.jvp(point, inner_xs, tuple(vs))[1]

    numeric = differences(pulled, xs, us)
    forward_over_reverse = ag.jvp(pulled, tuple(xs), tuple(us))[1]
    for t, n in zip(forward_over_reverse, numeric, strict=True):
        close(t, n, rtol, f"{context}: second order, forward over reverse")
    along = inner(numeric, vs)
    reverse_over_reverse = ag.vjp(pulled, *xs)[1](vs)
    close(inner(reverse_over_reverse, us), along, rtol, f"{context}: second order, reverse over reverse")
    reverse_over_forward = ag.vjp(pushed, *xs)[1](ws)
    close(inner(reverse_over_forward, us), along, rtol, f"{context}: second order, reverse over forward")


def _check_float32(point: _Point, exact: tuple[list[Any], list[Any], list[Any]]) -> None:
    vs, ws, (tangents, gradients) = exact
    single = point.mapped(to_float32)
    _check_value(single)
    context = f"{point.case.name} of {_describe(single)}"
    values, got_tangents = ag.jvp(single, tuple(single.inputs), tuple(map(to_float32, vs)))
    _check_forms(f"{context}: tangent", got_tangents, values)
    _, pullback = ag.vjp(single, *single.inputs)
    got_gradients = pullback([np.asarray(w).astype(np.asarray(y).dtype) for w, y in zip(ws, values, strict=True)])
    _check_forms(f"{context}: cotangent", got_gradients, single.inputs)
    for got, want in zip((*got_tangents, *got_gradients), (*tangents, *gradients), strict=True):
        close(got, want, point.case.rtol32, f"{context}: float32 against float64")


def _check_forms(context: str, got: Any, like: Any) -> None:
    assert len(got) == len(like), f"{context}: {len(got)} of them, expected {len(like)}"
    for a, b in zip(got, like, strict=True):
        assert not isinstance(a, ag.Tensor), f"{context}: a Tensor escaped"
        assert np.shape(a) == np.shape(b), f"{context}: shape {np.shape(a)}, expected {np.shape(b)}"
        assert a.dtype == b.dtype, f"{context}: dtype {a.dtype}, expected {b.dtype}"


def differences(f: Callable[..., list[Any]], xs: list[Any], vs: list[Any]) -> list[Any]:
    """The derivative of f at xs in the direction vs, by five-point central differences."""

    def at(h: float) -> list[Any]:
        return [np.asarray(_raw(y)) for y in f(*[x + h * v for x, v in zip(xs, vs, strict=True)])]

    points = zip(at(STEP), at(-STEP), at(2 * STEP), at(-2 * STEP), strict=True)
    return [(8 * (a - b) - (c - d)) / (12 * STEP) for a, b, c, d in points]


def inner(a: list[Any], b: list[Any]) -> float:
    """Re of the sum of products, without conjugation."""
    return float(sum(np.sum(np.asarray(x) * np.asarray(y)).real for x, y in zip(a, b, strict=True)))


def close(got: Any, want: Any, rtol: float, context: str) -> None:
    """Equal up to rtol of the larger of 1 and the greatest entry: rounding of differences does not scale with each entry."""
    got, want = np.asarray(got), np.asarray(want)
    scale = max(1.0, float(np.max(np.abs(want), initial=0.0)))
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * scale, err_msg=context)


def to_float32(x: Any) -> Any:
    x = np.asarray(x)
    return x.astype({"f": np.float32, "c": np.complex64}[x.dtype.kind]) if x.dtype.kind in "fc" else x


def _complexify(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.asarray(x + 0.5j * rng.uniform(0.3, 1.0, x.shape))


def _like(rng: np.random.Generator, x: Any) -> Any:
    """A random direction in the form of x."""
    v = rng.standard_normal(np.shape(x))
    return np.asarray(v + 1j * rng.standard_normal(np.shape(x)) if x.dtype.kind == "c" else v)


def _describe(point: _Point) -> str:
    def form(x: Any) -> str:
        if isinstance(x, np.ndarray):
            return f"{x.dtype}{list(x.shape)}"
        if isinstance(x, (list, tuple)):
            return f"({', '.join(map(form, x))})"
        return repr(x)

    return ", ".join([*map(form, point.args), *(f"{k}={form(v)}" for k, v in point.keywords.items())])


# What samples are made of.


def shape(rng: np.random.Generator, low: int = 0, high: int = 3, *, empty: bool = True) -> tuple[int, ...]:
    """A shape of `low` to `high` axes, mostly of 1 to 4 entries; now and then an axis of none."""
    sizes = [int(n) for n in rng.integers(1, 5, rng.integers(low, high + 1))]
    if empty and sizes and rng.random() < 0.1:
        sizes[rng.integers(len(sizes))] = 0
    return tuple(sizes)


def shapes_that_broadcast(rng: np.random.Generator, n: int, *, empty: bool = True) -> list[tuple[int, ...]]:
    """n shapes that broadcast together: leading axes missing, axes of size 1, 0-d."""
    full = shape(rng, empty=empty)
    made = [full]
    for _ in range(n - 1):
        start = int(rng.integers(len(full) + 1)) if rng.random() < 0.6 else 0
        made.append(tuple(1 if rng.random() < 0.3 else size for size in full[start:]))
    return [made[i] for i in rng.permutation(n)]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape))


def uniform(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    return np.asarray(rng.uniform(low, high, shape))


def away_from_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of either sign, at least 0.3 in size."""
    return np.asarray(rng.uniform(0.3, 2.0, shape) * rng.choice([-1.0, 1.0], shape))


def separated(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of which no two are closer than 0.02, and none closer than that to zero: no ties within reach of a difference."""
    size = int(np.prod(shape, dtype=int))
    grid = np.linspace(-2.0, 2.0, 2 * size + 2)
    grid = grid[np.abs(grid) > 0.02]
    spacing = 4.0 / (2 * size + 1)
    chosen = rng.permutation(grid)[:size] + rng.uniform(-0.2, 0.2, size) * spacing
    return np.asarray(chosen.reshape(shape))


def one_axis(rng: np.random.Generator, ndim: int) -> int:
    """An axis of an array of `ndim` > 0 axes, positive or negative."""
    return int(rng.integers(-ndim, ndim))


def some_axes(rng: np.random.Generator, ndim: int) -> Any:
    """What `axis=` takes: None, an axis, or a tuple of axes, positive or negative."""
    kind = rng.integers(3)
    if ndim == 0 or kind == 0:
        return None
    if kind == 1:
        return one_axis(rng, ndim)
    picked = rng.permutation(ndim)[: rng.integers(1, ndim + 1)]
    return tuple(int(i) - (ndim if rng.random() < 0.5 else 0) for i in picked)
