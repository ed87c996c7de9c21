"""Sums, inner products and maxima of rows, for the compiled loops, in an order that no CPU changes.

A row goes through 32 lanes in float32 and 16 in float64: entry i is added to lane i modulo their number, and at the end the
upper half of the lanes is added to the lower half until one is left. So several vector registers take part on every CPU, which is
what keeps its adders busy.
"""
# ruff: noqa: ARG001  # an intrinsic's parameters are its signature; their code comes as `values`

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils as untyped_cgutils

from allgrad.kernels.numba_math import fused, inlined

cgutils: Any = untyped_cgutils  # numba has no types for it
INDEX, WORD = ir.IntType(64), ir.IntType(32)
BYTES = 128
"""Of all lanes together."""


def _lanes(element: Any) -> int:
    return int(BYTES // (element.bitwidth // 8))


def _reduce(
    context: Any, builder: Any, arrays: list[Any], kinds: list[Any], start: float, step: Any, merge: Any
) -> Any:
    """Code for one row: `step(builder, lanes, loaded)` takes a vector of each array in, `merge(builder, a, b)` joins lanes."""
    element = kinds[0].dtype
    lanes, scalar = _lanes(element), context.get_value_type(element)
    vector, mask_kind = ir.VectorType(scalar, lanes), ir.VectorType(ir.IntType(1), lanes)
    rows = [context.make_array(kind)(context, builder, array) for kind, array in zip(kinds, arrays, strict=True)]
    length = builder.extract_value(rows[0].shape, 0)
    whole = builder.and_(length, INDEX(-lanes))
    initial = ir.Constant(vector, [start] * lanes)
    total = cgutils.alloca_once_value(builder, initial)
    name = f"llvm.masked.load.v{lanes}f{element.bitwidth}.p0"
    masked_type = ir.FunctionType(vector, [ir.PointerType(), WORD, mask_kind, vector])
    masked = builder.module.globals.get(name) or ir.Function(builder.module, masked_type, name)

    def at(row: Any, index: Any) -> Any:
        return builder.gep(row.data, [index], source_etype=scalar)

    with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(lanes)) as (i, _):
        loaded = [builder.load(at(row, i), typ=vector, align=element.bitwidth // 8) for row in rows]
        builder.store(step(builder, builder.load(total), loaded), total)
    rest = builder.sub(length, whole)
    with builder.if_then(builder.icmp_signed(">", rest, INDEX(0))):
        numbers = ir.Constant(ir.VectorType(WORD, lanes), list(range(lanes)))
        one = builder.insert_element(ir.Constant(numbers.type, ir.Undefined), builder.trunc(rest, WORD), WORD(0))
        spread = builder.shuffle_vector(one, one, ir.Constant(numbers.type, [0] * lanes))
        mask = builder.icmp_signed("<", numbers, spread)
        align = WORD(element.bitwidth // 8)
        loaded = [builder.call(masked, [at(row, whole), align, mask, initial]) for row in rows]
        old = builder.load(total)
        builder.store(builder.select(mask, step(builder, old, loaded), old), total)
    return across_lanes(builder, builder.load(total), merge)


def across_lanes(builder: Any, vector: Any, merge: Any) -> Any:
    """Code that merges the upper half of the lanes into the lower half until one is left."""
    lanes = vector.type.count
    while lanes > 1:
        lanes //= 2
        halves = [
            builder.shuffle_vector(
                vector, vector, ir.Constant(ir.VectorType(WORD, lanes), list(range(first, first + lanes)))
            )
            for first in (0, lanes)
        ]
        vector = merge(builder, *halves)
    return builder.extract_element(vector, WORD(0))


def added(builder: Any, a: Any, b: Any) -> Any:
    return builder.fadd(a, b)


def larger(builder: Any, a: Any, b: Any) -> Any:
    """b where it is larger than a; if one of them is NaN, a."""
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


@inlined
def row_sum(typing_context: Any, x: Any) -> Any:
    """The sum of a contiguous vector."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _reduce(
            context, builder, list(values), [x], 0.0, lambda builder, total, new: builder.fadd(total, new[0]), added
        )

    return x.dtype(x), code


@inlined
def row_product(typing_context: Any, x: Any, y: Any) -> Any:
    """The inner product of two contiguous vectors of one length."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _reduce(
            context,
            builder,
            list(values),
            [x, y],
            0.0,
            lambda builder, total, new: fused(builder, new[0], new[1], total),
            added,
        )

    return x.dtype(x, y), code


@inlined
def row_squares(typing_context: Any, x: Any, centre: Any) -> Any:
    """The sum of (x - centre)^2 over a contiguous vector."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def step(builder: Any, total: Any, new: Any) -> Any:
            kind = total.type
            one = builder.insert_element(ir.Constant(kind, ir.Undefined), values[1], WORD(0))
            spread = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(WORD, kind.count), [0] * kind.count))
            distance = builder.fsub(new[0], spread)
            return fused(builder, distance, distance, total)

        return _reduce(context, builder, [values[0]], [x], 0.0, step, added)

    return x.dtype(x, x.dtype), code


@inlined
def row_maximum(typing_context: Any, x: Any) -> Any:
    """The largest entry of a contiguous vector; of NaNs nothing is promised (the caller's sum is NaN anyway)."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _reduce(
            context,
            builder,
            list(values),
            [x],
            float("-inf"),
            lambda builder, total, new: larger(builder, total, new[0]),
            larger,
        )

    return x.dtype(x), code
