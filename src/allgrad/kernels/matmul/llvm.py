"""LLVM code inside numba: what the micro-kernel (`strip.py`) and the packing moves (`packing.py`) are written with.

numba compiles them together with the loops that call them (`blocking.py`), for the CPU that it compiles everything else for,
and keeps them in its cache. Addresses are integers, strides and offsets count elements.
"""

# ruff: noqa: ARG001  # an intrinsic's parameters are its signature; their code comes as `values`

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic
from numba.np import arrayobj as untyped_arrayobj

if TYPE_CHECKING:
    from collections.abc import Callable

cgutils: Any = untyped_cgutils  # numba has no types for it
arrayobj: Any = untyped_arrayobj
INDEX = ir.IntType(64)
POINTER = ir.PointerType()


def inlined(function: Callable[..., Any]) -> Any:
    """Makes a function of compiled code from one that gives its type and writes its instructions."""
    return intrinsic(prefer_literal=True)(function)


class Floats:
    """Types and instructions for one element size and vector length."""

    def __init__(self, item: int, lanes: int) -> None:
        self.item, self.lanes = item, lanes
        self.scalar = ir.FloatType() if item == 4 else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, lanes)
        self.mask = ir.VectorType(ir.IntType(1), lanes)
        self.suffix = f"v{lanes}f{8 * item}"

    def at(self, builder: Any, pointer: Any, offset: Any) -> Any:
        return builder.gep(pointer, [offset], source_etype=self.scalar)

    def load(self, builder: Any, pointer: Any, mask: Any = None) -> Any:
        """A vector. Lanes outside of the mask are zero, and their memory is not touched."""
        if mask is None:
            return builder.load(pointer, typ=self.vector, align=self.item)
        function = self._function(
            builder, "masked.load", self.vector, [POINTER, ir.IntType(32), self.mask, self.vector], ".p0"
        )
        return builder.call(function, [pointer, ir.IntType(32)(self.item), mask, ir.Constant(self.vector, None)])

    def store(self, builder: Any, value: Any, pointer: Any, mask: Any = None) -> None:
        if mask is None:
            builder.store(value, pointer, align=self.item)
            return
        kinds = [self.vector, POINTER, ir.IntType(32), self.mask]
        function = self._function(builder, "masked.store", ir.VoidType(), kinds, ".p0")
        builder.call(function, [value, pointer, ir.IntType(32)(self.item), mask])

    def splat(self, builder: Any, scalar: Any) -> Any:
        undefined = ir.Constant(ir.VectorType(scalar.type, self.lanes), ir.Undefined)
        one = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return builder.shuffle_vector(one, undefined, zeros)

    def fma(self, builder: Any, a: Any, b: Any, c: Any) -> Any:
        return builder.call(self._function(builder, "fma", self.vector, [self.vector] * 3), [a, b, c])

    def first_lanes(self, builder: Any, count: Any) -> Any:
        """The mask of the first `count` lanes."""
        numbers = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), list(range(self.lanes)))
        return builder.icmp_signed("<", numbers, self.splat(builder, builder.trunc(count, ir.IntType(32))))

    def _function(self, builder: Any, name: str, result: Any, arguments: list[Any], ending: str = "") -> Any:
        kind = ir.FunctionType(result, arguments)
        llvm_name = f"llvm.{name}.{self.suffix}{ending}"
        return builder.module.globals.get(llvm_name) or ir.Function(builder.module, kind, llvm_name)


def prefetch(builder: Any, pointer: Any, *, write: bool) -> None:
    """Ask for a line of memory that will be read or written."""
    word = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [POINTER, word, word, word])
    name = "llvm.prefetch.p0"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    builder.call(function, [pointer, word(int(write)), word(3), word(1)])


def internal(module: Any, name: str, arguments: int, write: Callable[[Any, Any], None]) -> Any:
    """A function of this module that takes 64-bit integers; `write(builder, arguments)` fills it at the first request."""
    found = module.globals.get(name)
    if found is None:
        found = ir.Function(module, ir.FunctionType(ir.VoidType(), [INDEX] * arguments), name)
        found.linkage = "internal"
        found.attributes.add("noinline")
        found.attributes.add("nounwind")
        builder = ir.IRBuilder(found.append_basic_block("entry"))
        write(builder, found.args)
        builder.ret_void()
    return found


def routine(
    arguments: int, name: str, write: Callable[[Any, Any], None], constants: tuple[Any, ...]
) -> tuple[Any, Any]:
    """Type and code of an intrinsic: integers, then constants; its code is one call of a function made by `write`."""

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        builder.call(internal(builder.module, name, arguments, write), values[:arguments])

    return types.void(*[types.int64] * arguments, *constants), code


@inlined
def address(typing_context: Any, array: Any) -> Any:
    """Where an array's first element is."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.ptrtoint(data, INDEX)

    return types.int64(array), code


@inlined
def matrix(typing_context: Any, like: Any, place: Any, rows: Any, columns: Any) -> Any:
    """The C-contiguous matrix (rows, columns) of like's dtype at an address. It compiles faster than slices and `reshape`."""
    kind = types.Array(like.dtype, 2, "C")

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array, item = context.make_array(kind)(context, builder), INDEX(like.dtype.bitwidth // 8)
        shape = values[2:]
        data = builder.inttoptr(values[1], array.data.type)
        strides = [builder.mul(shape[1], item), item]
        arrayobj.populate_array(array, data=data, shape=shape, strides=strides, itemsize=item, meminfo=None)
        return array._getvalue()

    return kind(like, types.int64, types.int64, types.int64), code


@inlined
def call(typing_context: Any, function: Any, arguments: Any) -> Any:
    """Call compiled code at an address with a tuple of 64-bit integers.

    So the code is compiled once, on its own, and not again with each of its callers.
    """

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        given = cgutils.unpack_tuple(builder, values[1])
        kind = ir.FunctionType(ir.VoidType(), [INDEX] * len(given))
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), given)

    return types.void(function, arguments), code
