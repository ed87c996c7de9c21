"""Softmax of one row and its gradient in explicit vectors, without loops over single entries for the rest of a row.

Sums are in the order of `numba_sums.py`: entry i is added to lane i modulo their number.
"""
# ruff: noqa: ARG001  # an intrinsic's parameters are its signature; their code comes as `values`

from __future__ import annotations

from typing import Any

from numba import types

from allgrad.kernels.matmul.llvm import INDEX, POINTER, Floats, cgutils
from allgrad.kernels.numba_math import decay_code, filled, inlined
from allgrad.kernels.numba_sums import BYTES, across_lanes, added, larger


class _Rows:
    """Contiguous vectors of one length, of which the first `seen` entries count: whole vectors of lanes, and a rest."""

    def __init__(self, context: Any, builder: Any, kinds: list[Any], values: list[Any], seen: Any) -> None:
        item = kinds[0].dtype.bitwidth // 8
        self.builder, self.floats = builder, Floats(item, BYTES // item)
        arrays = [context.make_array(kind)(context, builder, value) for kind, value in zip(kinds, values, strict=True)]
        self.starts = [builder.inttoptr(builder.ptrtoint(each.data, INDEX), POINTER) for each in arrays]
        self.length = builder.extract_value(arrays[0].shape, 0)
        self.step = INDEX(self.floats.lanes)
        self.whole = builder.and_(seen, INDEX(-self.floats.lanes))
        rest = builder.sub(seen, self.whole)
        self.has_rest, self.mask = builder.icmp_signed(">", rest, INDEX(0)), self.floats.first_lanes(builder, rest)

    def each_vector(self) -> Any:
        """A loop over the places of whole vectors."""
        return cgutils.for_range_slice(self.builder, INDEX(0), self.whole, self.step)

    def if_rest(self) -> Any:
        return self.builder.if_then(self.has_rest)

    def variable(self, value: float) -> Any:
        return cgutils.alloca_once_value(self.builder, filled(self.floats.vector, value))

    def load(self, row: int, place: Any, mask: Any = None) -> Any:
        return self.floats.load(self.builder, self.floats.at(self.builder, self.starts[row], place), mask)

    def store(self, vector: Any, row: int, place: Any) -> None:
        self.floats.store(self.builder, vector, self.floats.at(self.builder, self.starts[row], place))

    def store_rest(self, vector: Any, row: int) -> None:
        """The rest and zeros behind it, as far as there is memory."""
        builder, floats = self.builder, self.floats
        room = builder.sub(self.length, self.whole)
        with builder.if_else(builder.icmp_signed(">=", room, self.step)) as (at_once, one_by_one):
            with at_once:
                self.store(vector, row, self.whole)
            with one_by_one:  # masked stores are slow
                memory = cgutils.alloca_once_value(builder, vector)
                entries = builder.inttoptr(builder.ptrtoint(memory, INDEX), POINTER)
                with cgutils.for_range(builder, room) as loop:
                    entry = builder.load(floats.at(builder, entries, loop.index), typ=floats.scalar)
                    place = builder.add(self.whole, loop.index)
                    builder.store(entry, floats.at(builder, self.starts[row], place))

    def zero_behind(self, row: int) -> None:
        """Zeros behind the vector of the rest."""
        end = self.builder.select(self.has_rest, self.builder.add(self.whole, self.step), self.whole)
        with cgutils.for_range_slice(self.builder, end, self.length, INDEX(1)) as (i, _):
            self.builder.store(self.floats.scalar(0), self.floats.at(self.builder, self.starts[row], i))


@inlined
def softmax_row(typing_context: Any, x: Any, y: Any, seen: Any, scale: Any) -> Any:
    """y = softmax(scale x) over the first `seen` entries, and zeros behind them. x and y may be one vector."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        rows = _Rows(context, builder, [x, y], values[:2], values[2])
        factor = rows.floats.splat(builder, values[3])
        best, last, total = rows.variable(float("-inf")), rows.variable(float("-inf")), rows.variable(0.0)

        def scaled(place: Any, mask: Any = None) -> Any:
            return builder.fmul(rows.load(0, place, mask), factor)

        with rows.each_vector() as (i, _):
            builder.store(larger(builder, builder.load(best), scaled(i)), best)
        with rows.if_rest():
            lowest = filled(rows.floats.vector, float("-inf"))  # decays to 0
            builder.store(builder.select(rows.mask, scaled(rows.whole, rows.mask), lowest), last)
            builder.store(larger(builder, builder.load(best), builder.load(last)), best)
        largest = rows.floats.splat(builder, across_lanes(builder, builder.load(best), larger))

        def decayed(vector: Any) -> Any:
            e = decay_code(builder, builder.fsub(vector, largest))
            builder.store(builder.fadd(builder.load(total), e), total)
            return e

        with rows.each_vector() as (i, _):
            rows.store(decayed(scaled(i)), 1, i)
        with rows.if_rest():
            builder.store(decayed(builder.load(last)), last)
        one = rows.floats.scalar(1)
        inverse = rows.floats.splat(builder, builder.fdiv(one, across_lanes(builder, builder.load(total), added)))
        with rows.each_vector() as (i, _):
            rows.store(builder.fmul(rows.load(1, i), inverse), 1, i)
        with rows.if_rest():
            rows.store_rest(builder.fmul(builder.load(last), inverse), 1)
        rows.zero_behind(1)

    return types.void(x, y, seen, scale), code


@inlined
def softmax_gradient_row(typing_context: Any, g: Any, y: Any, scale: Any, dx: Any) -> Any:
    """dx = scale y (g - sum of g y), for y = softmax(scale x). dx may be g."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = [values[0], values[1], values[3]]
        length = builder.extract_value(context.make_array(g)(context, builder, values[0]).shape, 0)
        rows = _Rows(context, builder, [g, y, dx], arrays, length)
        factor, total = rows.floats.splat(builder, values[2]), rows.variable(0.0)

        def add(place: Any, mask: Any = None) -> None:
            pair = rows.load(0, place, mask), rows.load(1, place, mask)
            builder.store(rows.floats.fma(builder, *pair, builder.load(total)), total)

        with rows.each_vector() as (i, _):
            add(i)
        with rows.if_rest():
            add(rows.whole, rows.mask)
        along = rows.floats.splat(builder, across_lanes(builder, builder.load(total), added))

        def gradient(place: Any, mask: Any = None) -> Any:
            distance = builder.fsub(rows.load(0, place, mask), along)
            return builder.fmul(builder.fmul(distance, rows.load(1, place, mask)), factor)

        with rows.each_vector() as (i, _):
            rows.store(gradient(i), 2, i)
        with rows.if_rest():
            rows.store_rest(gradient(rows.whole, rows.mask), 2)

    return types.void(g, y, scale, dx), code
