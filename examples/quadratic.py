"""f(x) = x^2 - 3x - 2, differentiated four ways, step by step.

    python examples/quadratic.py

The function is simple enough to differentiate by hand: f'(x) = 2x - 3, so f'(4) = 5. The example shows how each method gets
there: the graph that is recorded when f runs; forward mode, which carries a derivative along with each value; reverse mode, which
walks the graph backwards; and numerical differentiation, which treats f as a black box and has an error. At the end it counts the
cost of both modes, for many inputs and one output, and the other way round.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import allgrad as ag


def f(x: Any) -> Any:
    return x**2 - 3 * x - 2


def the_graph(at: float) -> None:
    x = ag.tensor(at, requires_grad=True)
    graph = ag.Graph(f(x), x=x)
    print(f"1. Running f at x = {at} records this graph:\n")
    print("   " + graph.text().replace("\n", "\n   "))


def forward_step_by_step(at: float) -> None:
    """Each line shows a value and its derivative with respect to x, computed from the lines above."""
    print("\n2. Forward mode carries (value, derivative) from the input to the result:\n")
    x, dx = at, 1.0
    a, da = x**2, 2 * x * dx
    b, db = 3 * x, 3 * dx
    c, dc = a - b, da - db
    y, dy = c - 2, dc
    for name, formula, value, slope in (
        ("x", "x", x, dx),
        ("a", "x^2", a, da),
        ("b", "3 x", b, db),
        ("c", "a - b", c, dc),
        ("y", "c - 2", y, dy),
    ):
        print(f"   {name} = {formula:6s} value {value:6.2f}   d{name}/dx = {slope:6.2f}")
    value, slope = ag.jvp(f, (at,), (1.0,))
    print(f"   allgrad.jvp(f, (x,), (1.0,)) gives {value:.2f} and {slope:.2f}")
    assert (value, slope) == (y, dy)


def reverse_step_by_step(at: float) -> None:
    """Each line shows the derivative of the result with respect to a value, computed from the lines that used it."""
    print(
        "\n3. Reverse mode walks the graph from the result to the input; x is used twice, so two contributions add:\n"
    )
    dy = 1.0
    dc = dy
    da, db = dc, -dc
    dx_through_a, dx_through_b = da * 2 * at, db * 3
    for name, value in (("y", dy), ("c", dc), ("a", da), ("b", db)):
        print(f"   dy/d{name} = {value:5.2f}")
    total = dx_through_a + dx_through_b
    print(f"   dy/dx = {dx_through_a:.2f} (through a) + {dx_through_b:.2f} (through b) = {total:.2f}")
    x = ag.tensor(at, requires_grad=True)
    f(x).backward()
    print(f"   allgrad: f(x).backward() leaves x.grad = {x.grad}")
    assert x.grad == total


def numerically(at: float) -> None:
    exact = 2 * at - 3
    print(
        "\n4. Numerical differentiation, (f(x + h) - f(x - h)) / 2h. Too large an h truncates, too small a one rounds."
    )
    print("   For a parabola the central difference has no truncation error at all, so exp(x) is shown as well:\n")
    print("        h     error for f    error for exp")
    for exponent in range(1, 15, 2):
        h = 10.0**-exponent
        error_f = abs((f(at + h) - f(at - h)) / (2 * h) - exact)
        error_exp = abs((np.exp(at + h) - np.exp(at - h)) / (2 * h) - np.exp(at))
        print(f"   1e-{exponent:02d}     {error_f:11.1e}      {error_exp:11.1e}")
    print(
        f"   The errors of allgrad's two modes are {abs(ag.grad(f)(at) - exact)} and {abs(ag.derivative(f)(at) - exact)}."
    )


class Counter:
    """Counts the calls of a function."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.passes = 0

    def __call__(self, x: Any) -> Any:
        self.passes += 1
        return self.function(x)


def which_mode_is_cheaper(n: int = 50) -> None:
    weights = np.random.default_rng(0).standard_normal((n, n))

    def n_to_one(x: Any) -> Any:
        return np.sum(np.sin(weights @ x))

    def one_to_n(x: Any) -> Any:
        return np.sin(weights[:, 0] * x)

    print(f"\n5. Passes that a full derivative takes, counted (n = {n}):\n")
    print("                             forward mode        reverse mode")
    for name, function, x in (
        ("n inputs, one output", n_to_one, np.ones(n)),
        ("one input, n outputs", one_to_n, np.ones(())),
    ):
        forward = Counter(function)
        by_columns = ag.jacobian(forward, mode="forward")(x)
        reverse = Counter(function)
        by_rows = ag.jacobian(reverse, mode="reverse")(x)
        assert np.allclose(by_columns, by_rows)
        outputs = np.size(function(x))
        print(f"   {name}    {forward.passes:3d} forward          {reverse.passes:3d} forward + {outputs:2d} backward")
    print(
        "\n   Forward mode needs one pass per input, reverse mode one per output. A loss has millions of inputs and one output."
    )


def main(at: float = 4.0) -> None:
    the_graph(at)
    forward_step_by_step(at)
    reverse_step_by_step(at)
    numerically(at)
    which_mode_is_cheaper()


if __name__ == "__main__":
    main()
