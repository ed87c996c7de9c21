"""Forty-one ordinary ways to write NumPy code, each as a scalar function of an array x, with m for the NumPy module."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy

if TYPE_CHECKING:
    from collections.abc import Callable

X = numpy.array([0.7, 1.9, 1.2, 2.6])


class Idiom(NamedTuple):
    """A function of (m, x) and what kind of idiom it shows."""

    name: str
    kind: str
    function: Callable[[Any, Any], Any]


IDIOMS: list[Idiom] = []


def idiom(kind: str) -> Callable[[Callable[[Any, Any], Any]], Callable[[Any, Any], Any]]:
    def add(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        IDIOMS.append(Idiom(function.__name__.replace("_", " "), kind, function))
        return function

    return add


# In place.


@idiom("in place")
def augmented_assignment(m: Any, x: Any) -> Any:
    y = m.sin(x)
    y += x * x
    y *= 2.0
    return m.sum(y * x)


@idiom("in place")
def fill_an_array_of_zeros_in_a_loop(m: Any, x: Any) -> Any:
    out = m.zeros(4)
    for i in range(4):
        out[i] = x[i] ** 2 + x[0]
    return m.sum(out * out)


@idiom("in place")
def add_to_entries_in_a_loop(m: Any, x: Any) -> Any:
    y = x * 1.0
    for i in range(1, 4):
        y[i] += y[i - 1] * x[i]
    return y[-1]


@idiom("in place")
def a_table_of_dynamic_programming(m: Any, x: Any) -> Any:
    table = m.zeros((4, 4))
    table[0, :] = x
    for i in range(1, 4):
        for j in range(1, 4):
            table[i, j] = m.maximum(table[i - 1, j], table[i, j - 1] + x[i] * x[j])
    return m.sum(table)


@idiom("in place")
def assign_at_a_mask(m: Any, x: Any) -> Any:
    y = x * 3.0 - 4.0
    y[y < 0] = 0.0
    return m.sum(y * y)


@idiom("in place")
def assign_at_a_list_of_indices(m: Any, x: Any) -> Any:
    y = x * 1.0
    y[[0, 2]] = x[1:3] * x[3]
    return m.sum(y * y)


@idiom("in place")
def swap_two_entries(m: Any, x: Any) -> Any:
    y = x**2
    y[0], y[3] = y[3] * 1.0, y[0] * 1.0
    return m.sum(y * numpy.arange(4.0))


@idiom("in place")
def shift_an_array_within_itself(m: Any, x: Any) -> Any:
    y = x**2
    y[1:] = y[:-1]
    return m.sum(y * numpy.arange(1.0, 5.0))


@idiom("in place")
def add_at(m: Any, x: Any) -> Any:
    y = x * 1.0
    m.add.at(y, numpy.array([0, 2, 0]), x[:3] * x[1])
    return m.sum(y * y)


@idiom("in place")
def sort_as_a_statement(m: Any, x: Any) -> Any:
    y = x * 2.0
    y.sort()
    return m.sum(y * numpy.arange(4.0))


@idiom("in place")
def fill_a_diagonal(m: Any, x: Any) -> Any:
    a = m.outer(x, x)
    m.fill_diagonal(a, 0.0)
    return m.sum(a)


@idiom("in place")
def out_argument(m: Any, x: Any) -> Any:
    y = x * 1.0
    m.exp(x, out=y)
    m.multiply(y, x, out=y)
    return m.sum(y)


@idiom("in place")
def copyto(m: Any, x: Any) -> Any:
    y = x * 0.0
    m.copyto(y, m.tanh(x))
    return m.sum(y * x)


# Views and aliases.


@idiom("views")
def write_through_a_slice(m: Any, x: Any) -> Any:
    y = x * 1.0
    head = y[:2]
    head *= 3.0
    return m.sum(y * y)


@idiom("views")
def write_through_a_transpose(m: Any, x: Any) -> Any:
    a = m.reshape(x * x, (2, 2))
    a.T[0] = x[:2]
    return m.sum(a * numpy.array([[1.0, 2.0], [3.0, 4.0]]))


@idiom("views")
def write_through_a_reshaped_view(m: Any, x: Any) -> Any:
    a = m.reshape(x * x, (2, 2))
    a.reshape(-1)[1] = x[0]
    return m.sum(a * a)


@idiom("views")
def read_a_view_after_its_base_was_written(m: Any, x: Any) -> Any:
    y = x * 1.0
    tail = y[2:]
    y[3] = x[0] * x[1]
    return m.sum(tail * tail)


@idiom("views")
def a_second_name(m: Any, x: Any) -> Any:
    total = x * 1.0
    alias = total
    alias += x * x
    return m.sum(total * x)


@idiom("views")
def a_helper_that_adds_into_its_argument(m: Any, x: Any) -> Any:
    def accumulate(buffer: Any, amount: Any) -> None:
        buffer += amount

    y = x * 1.0
    accumulate(y, m.sin(x))
    return m.sum(y * y)


@idiom("views")
def an_argument_that_is_changed_after_its_use(m: Any, x: Any) -> Any:
    y = x * 1.0
    z = y * y
    y *= 0.0
    return m.sum(z + y)


# Lists of numbers.


@idiom("lists")
def array_of_a_list(m: Any, x: Any) -> Any:
    return m.sum(m.array([x[0] * x[1], x[2], m.sin(x[3])]) ** 2)


@idiom("lists")
def array_of_nested_lists(m: Any, x: Any) -> Any:
    c, s = m.cos(x[0]), m.sin(x[0])
    return m.sum(m.array([[c, -s], [s, c]]) @ x[:2])


@idiom("lists")
def mean_of_a_list(m: Any, x: Any) -> Any:
    return m.mean([v * v for v in x])


@idiom("lists")
def stack_what_a_loop_appended(m: Any, x: Any) -> Any:
    states = [x[:2]]
    for _ in range(3):
        states.append(states[-1] * 0.5 + m.sin(states[-1]))
    return m.sum(m.stack(states) ** 2)


@idiom("lists")
def norm_of_a_list(m: Any, x: Any) -> Any:
    return m.linalg.norm([x[0], x[1] * x[2]])


@idiom("lists")
def builtin_sum_max_and_sorted(m: Any, x: Any) -> Any:
    return sum(v * v for v in x) + max(x) * 2.0 + sorted(x)[1] ** 2 + abs(-x[0])


@idiom("lists")
def append_and_r(m: Any, x: Any) -> Any:
    return m.sum(m.append(x, [x[0] * x[1]]) ** 2) + m.sum(m.r_[x[:2], 1.0, x[3]] ** 3)


# Branches, loops, scalars.


@idiom("branches")
def a_branch_on_a_value(m: Any, x: Any) -> Any:
    return x[0] * x[1] if x[0] > 0.5 else x[2]


@idiom("branches")
def iterate_until_it_converges(m: Any, x: Any) -> Any:
    y = x[0]
    while abs(y * y - x[1]) > 1e-13:
        y = 0.5 * (y + x[1] / y)
    return y * x[2]


@idiom("branches")
def where_that_guards_a_root(m: Any, x: Any) -> Any:
    z = x - x[0]
    return m.sum(m.where(z > 0, m.sqrt(m.where(z > 0, z, 1.0)), 0.0))


@idiom("branches")
def vectorize_a_scalar_function(m: Any, x: Any) -> Any:
    return m.sum(m.vectorize(lambda v: v * v if v > 1.0 else m.sin(v))(x))


@idiom("scalars")
def a_function_of_the_math_module(m: Any, x: Any) -> Any:
    return math.sin(x[0]) * x[1]


@idiom("scalars")
def unpack_and_mix_with_python_numbers(m: Any, x: Any) -> Any:
    a, b, *rest = x
    return 2**a + b**2 / 3 - divmod(b, 0.8)[1] + rest[0] // 1 + round(3.4) * rest[1]


@idiom("scalars")
def print_it_on_the_way(m: Any, x: Any) -> Any:
    text = f"{x.shape} {len(x)} {x}"
    return m.sum(x * x) + len(text) * 0.0


# Masks and lookups.


@idiom("masks")
def select_by_a_mask(m: Any, x: Any) -> Any:
    return m.sum(x[x > 1.0] ** 2) + m.mean(x[(x > 1.0) & (x < 2.0)])


@idiom("masks")
def sum_with_where(m: Any, x: Any) -> Any:
    return m.sum(x * x, where=numpy.array([True, False, True, True])) + m.max(x[numpy.argsort(X)[:2]])


@idiom("masks")
def interpolate_in_a_table(m: Any, x: Any) -> Any:
    return m.sum(m.interp(numpy.array([0.3, 1.4, 2.2]), numpy.arange(4.0), x)) * m.interp(x[0], numpy.arange(4.0), x)


# Random draws.


@idiom("random")
def a_sample_with_a_parameter_as_its_scale(m: Any, x: Any) -> Any:
    noise = numpy.random.default_rng(0).standard_normal(4)
    return m.mean((x[0] + m.exp(x[1]) * noise) ** 2)


@idiom("random")
def draw_from_a_distribution_with_a_parameter(m: Any, x: Any) -> Any:
    return m.sum(numpy.random.default_rng(0).normal(x, 1.0) ** 2)


# Containers.


@idiom("containers")
def parameters_in_a_dict(m: Any, x: Any) -> Any:
    parameters = {"w": m.reshape(x, (2, 2)), "b": x[:2]}
    for _ in range(2):
        parameters = {k: m.tanh(v) for k, v in parameters.items()}
    return m.sum(parameters["w"] @ parameters["b"])


@idiom("containers")
def an_object_with_attributes(m: Any, x: Any) -> Any:
    class Body:
        def __init__(self, position: Any, velocity: Any) -> None:
            self.position, self.velocity = position, velocity

    body = Body(x[:2] * 1.0, x[2:] * 1.0)
    for _ in range(3):
        body.velocity -= 0.1 * body.position
        body.position += 0.1 * body.velocity
    return m.sum(body.position**2)


assert len(IDIOMS) == 41
