"""NumPy arrays for compiled code, as they are: an argument is the address of the array object, and its header is read there.

numba's own arguments cost half a microsecond per product: it looks up the types of all of them, and makes a record of each array.
The header's fields are `PyArrayObject_fields` of NumPy's C interface, behind what every Python object has, of which the type is
the last. Compiled code must compare the type before it reads anything else.
"""

# ruff: noqa: ARG001  # an intrinsic's parameters are its signature; their code comes as `values`

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending as untyped_extending
from numba import types

from allgrad.kernels.jit import callee
from allgrad.kernels.matmul.llvm import INDEX, POINTER, inlined

extending: Any = untyped_extending  # numba has no types for it
_OBJECT = object.__basicsize__
TYPE, DATA, NDIM, SHAPE, STRIDES, DTYPE, FLAGS = _OBJECT - 8, *(_OBJECT + n for n in (0, 8, 16, 24, 40, 48))
"""Where the fields are, in bytes from the start of the object; NDIM and FLAGS are C's `int`."""
ALIGNED, WRITEABLE = 0x100, 0x400
"""Bits of FLAGS: NPY_ARRAY_ALIGNED, NPY_ARRAY_WRITEABLE."""


class ObjectAddress(types.Type):  # type: ignore[misc]
    """A Python object, of which compiled code gets the address."""

    def __init__(self) -> None:
        super().__init__(name="ObjectAddress")


@extending.register_model(ObjectAddress)
class _AddressModel(extending.models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, INDEX)


@extending.unbox(ObjectAddress)
def _unboxed(_kind: Any, value: Any, context: Any) -> Any:
    return extending.NativeValue(context.builder.ptrtoint(value, INDEX))


@inlined
def address_of(typing_context: Any, value: Any) -> Any:
    """The address of an object, as an integer."""
    return types.int64(value), lambda _context, _builder, _signature, values: values[0]


@inlined
def word(typing_context: Any, address: Any) -> Any:
    """The 64-bit integer at an address."""

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.load(builder.inttoptr(values[0], POINTER), typ=INDEX)

    return types.int64(types.int64), code


@inlined
def write_word(typing_context: Any, address: Any, value: Any) -> Any:
    """Write a 64-bit integer at an address."""

    def code(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        builder.store(values[1], builder.inttoptr(values[0], POINTER))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@inlined
def half_word(typing_context: Any, address: Any) -> Any:
    """The 32-bit integer at an address."""

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.sext(builder.load(builder.inttoptr(values[0], POINTER), typ=ir.IntType(32)), INDEX)

    return types.int64(types.int64), code


@callee
def is_array(x: Any, kind: Any, dtype: Any, flags: Any) -> bool:
    """Whether x is an array of that type and dtype (addresses of both objects) with these flags."""
    return word(x + TYPE) == kind and word(x + DTYPE) == dtype and half_word(x + FLAGS) & flags == flags


@callee
def ndim(x: Any) -> Any:
    return half_word(x + NDIM)


@callee
def length(x: Any, axis: Any) -> Any:
    return word(word(x + SHAPE) + 8 * axis)


@callee
def stride(x: Any, axis: Any) -> Any:
    """In bytes."""
    return word(word(x + STRIDES) + 8 * axis)


@callee
def ends(x: Any) -> Any:
    """The addresses of the first and of the last element of an array that is not empty."""
    low = high = word(x + DATA)
    for axis in range(ndim(x)):
        reach = (length(x, axis) - 1) * stride(x, axis)
        low, high = low + min(reach, 0), high + max(reach, 0)
    return low, high


@callee
def apart(x: Any, c: Any) -> bool:
    """Whether writing to c leaves x as it is, as far as the ends of both tell."""
    low, high = ends(c)
    low_x, high_x = ends(x)
    return high < low_x or high_x < low


@callee
def size(x: Any) -> Any:
    total = 1
    for axis in range(ndim(x)):
        total *= length(x, axis)
    return total
