"""Elementary functions for the compiled loops: arithmetic only, so that LLVM vectorises them and every CPU gives the same bits.

Each is a polynomial in fused multiply-adds around an exact reduction. Nothing calls the C library, whose results differ between
versions and CPUs. The polynomials are interpolations at Chebyshev nodes, computed with 50 digits, whose own error is below a
fifth of a unit in the last place. exp, log and tanh are within 2 units in the last place of the exact values, the tail within a
relative error of 4 epsilons (`tests/kernels/test_math.py`):

* exp(x) = 2^k exp(r), with r = x - k log 2 in two fused steps (after Cody and Waite, "Software Manual for the Elementary
  Functions", 1980), for x <= 0 only;
* log(x) = k log 2 + log(1 + f), with log(1 + f) = f - f^2/2 + s (f^2/2 + s^2 G(s^2)), s = f / (2 + f) (P. Tang's arrangement,
  ACM TOMS 16, 1990);
* tanh(x) = x + x^3 T(x^2) near 0, and e / (2 + e) elsewhere, with e = exp(2 |x|) - 1 = 2^k (exp(r) - 1) + (2^k - 1);
* the normal distribution's tail: in float32 as in `activations.py`; in float64 erfc(x) = exp(-x^2) W(y) / (1 + 2 x) with
  y = (x - 3.75) / (x + 3.75) (the form of Shepherd and Laframboise, Math. Comp. 36, 1981).
"""
# ruff: noqa: ARG001, ARG005  # an intrinsic's parameters are its signature; their code comes as `values`

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from allgrad.kernels.activations import TAIL_P, TAIL_Q
from allgrad.kernels.jit import callee

if TYPE_CHECKING:
    from collections.abc import Callable

# Polynomials, highest power first: for float32 and for float64.
_POLYNOMIALS = {
    "exp": (
        (0.001392625083149761172, 0.008363232883682618204, 0.04166655421298415031, 0.1666657666611992831, 0.5),
        (
            2.09147553258932022e-9, 2.510531272962210179e-8, 2.755727347871858047e-7, 2.755725517000088744e-6,
            0.0000248015873256774619, 0.0001984126987500227879, 0.001388888888888371117, 0.00833333333332608312,
            0.04166666666666666978, 0.1666666666666667103, 0.5,
        ),
    ),
    "expm1": (
        (
            0.0001648096733446957549, 0.001370618729063327014, 0.008328671793039656001, 0.04166612494795605246,
            0.166666643543953973, 0.4999999998395514644,
        ),
        (
            9.246116116967712689e-12, 1.57511954096653471e-10, 2.08514746457584948e-9, 2.505075888252089792e-8,
            2.755727041958525628e-7, 2.755731800997789452e-6, 0.00002480158728089561093, 0.0001984126984103336479,
            0.001388888888888715337, 0.008333333333333325751, 0.04166666666666666649, 0.1666666666666666667, 0.5,
        ),
    ),
    "log": (
        (0.2333276295511752306, 0.2855073636310781151, 0.400001225849572545, 0.6666666655358508115),
        (
            0.1188490925075558497, 0.1168780200760393302, 0.1333565303662828408, 0.1538457479990346559, 0.1818181859789225058,
            0.2222222221982963776, 0.2857142857143545644, 0.3999999999999999238, 0.6666666666666666667,
        ),
    ),
    "tanh": (
        (0.02034935899719462791, -0.05388397278702691965, 0.1333318240562418302, -0.3333333290890893589),
        (
            -0.0002033450460409866886, 0.0005841708900561469444, -0.001455309098552506562, 0.003592100396959642515,
            -0.008863234672730473911, 0.0218694885211928281, -0.05396825396812296016, 0.1333333333333328912,
            -0.3333333333333333331,
        ),
    ),
    "tail": (
        TAIL_P,
        (
            4.43495907000962826e-10, 3.110310719839164993e-10, -5.284286979631420566e-9, -3.743568033634583217e-9,
            3.896545254898596811e-8, 2.326191327669656739e-8, -2.591069687796657853e-7, -5.721597255990987179e-8,
            1.752057970166318102e-6, -9.735619015182663294e-7, -0.00001144441243917172306, 0.00002238424031422443833,
            0.00005164921139070285187, -0.0002901540809795271307, 0.0002937136342850081258, 0.001755625853001725795,
            -0.009746579552504242968, 0.0283622774189406648, -0.05869339859021236722, 0.09230432116037876714,
            -0.1088039301417178578, 0.08227673849014515912, 0.003585415485463774964, -0.1402405985855469619,
            1.237512630837827582,
        ),
    ),
}  # fmt: skip

# Constants that differ between float32 and float64. Adding `shift` leaves the nearest whole number in a float's low bits;
# `lowest` is where exp would leave the normal numbers, and from `most` on tanh is 1.
_CONSTANTS = {
    "shift": (1.5 * 2**23, 1.5 * 2**52),
    "lowest": (-87.3, -708.3),
    "most": (10.0, 20.0),
    "log2_high": (0.693147182464599609375, 0.6931471805599453094),
    "tail_q": (TAIL_Q, TAIL_Q),
    "log2_low": (-1.90465429995776e-9, 2.3190468138462996155e-17),
}


def inlined(function: Callable[..., Any]) -> Any:
    """Makes a function of compiled code from one that gives its type and writes its instructions."""
    return intrinsic(prefer_literal=True)(function)


def _pick(kind: Any, pair: Any) -> Any:
    return pair[0] if kind == types.float32 else pair[1]


@inlined
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once."""
    return a(a, a, a), lambda context, builder, signature, values: builder.fma(*values)


@inlined
def constant(typing_context: Any, x: Any, value: Any) -> Any:
    """One of `_CONSTANTS`, or a number written as text (numba knows texts at compile time, but not floats), in x's type."""
    text = value.literal_value
    number = _pick(x, _CONSTANTS[text]) if text in _CONSTANTS else text
    return x(x, value), lambda context, builder, signature, values: values[0].type(float(number))


@inlined
def polynomial(typing_context: Any, x: Any, name: Any) -> Any:
    """One of `_POLYNOMIALS` at x, by Horner's rule."""
    first, *others = _pick(x, _POLYNOMIALS[name.literal_value])

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = values[0].type
        total = kind(first)
        for coefficient in others:
            total = builder.fma(total, values[0], kind(coefficient))
        return total

    return x(x, name), code


def _bits(kind: Any) -> tuple[Any, int, int]:
    """The integer type of a float, the bits of its fraction, its exponent's bias."""
    return (ir.IntType(32), 23, 127) if kind == types.float32 else (ir.IntType(64), 52, 1023)


@inlined
def power_of_two(typing_context: Any, shifted: Any) -> Any:
    """2^k for a whole number k to which "shift" was added."""
    word, fraction, bias = _bits(shifted)

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = builder.shl(builder.bitcast(values[0], word), word(fraction))
        return builder.bitcast(builder.add(bits, word(bias << fraction)), values[0].type)

    return shifted(shifted), code


@inlined
def split(typing_context: Any, x: Any, part: Any) -> Any:
    """For a normal x = 2^k m > 0 with m from sqrt(1/2) to sqrt(2): "k" as a float, or "m"."""
    word, fraction, _ = _bits(x)
    half_root = 0x3F3504F3 if x == types.float32 else 0x3FE6A09E667F3BCD

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = builder.bitcast(values[0], word)
        k = builder.ashr(builder.sub(bits, word(half_root)), word(fraction))
        if part.literal_value == "k":
            # Through 32 bits: AVX2 has no conversion of 64-bit integers.
            return builder.sitofp(builder.trunc(k, ir.IntType(32)) if fraction == 52 else k, values[0].type)
        return builder.bitcast(builder.sub(bits, builder.shl(k, word(fraction))), values[0].type)

    return x(x, part), code


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Code for a b + c, rounded once, of floats or of vectors of them."""
    kind = c.type
    scalar = kind.element if isinstance(kind, ir.VectorType) else kind
    name = f"llvm.fma.{f'v{kind.count}' if kind is not scalar else ''}f{32 if isinstance(scalar, ir.FloatType) else 64}"
    function = builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, [a, b, c])


def filled(kind: Any, value: float) -> Any:
    """A constant of a float type, or of a vector type with the same number in all lanes."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def decay_code(builder: Any, x: Any) -> Any:
    """Code for `decay` of a float or of a vector of them."""
    kind = x.type
    scalar = kind.element if isinstance(kind, ir.VectorType) else kind
    single = isinstance(scalar, ir.FloatType)

    def number(name: Any) -> Any:
        return filled(kind, _CONSTANTS[name][not single] if name in _CONSTANTS else float(name))

    bits, fraction, bias = (32, 23, 127) if single else (64, 52, 1023)
    word = ir.IntType(bits) if kind is scalar else ir.VectorType(ir.IntType(bits), kind.count)
    below = builder.fcmp_ordered("<", x, number("lowest"))
    cut = builder.select(below, number("lowest"), x)  # in this order NaN passes
    shifted = fused(builder, cut, number("1.4426950408889634074"), number("shift"))
    k = builder.fneg(builder.fsub(shifted, number("shift")))
    r = fused(builder, k, number("log2_low"), fused(builder, k, number("log2_high"), cut))
    first, *others = _POLYNOMIALS["exp"][not single]
    total = filled(kind, first)
    for coefficient in others:
        total = fused(builder, total, r, filled(kind, coefficient))
    p = builder.fadd(number("1.0"), fused(builder, builder.fmul(r, r), total, r))
    raised = builder.shl(builder.bitcast(shifted, word), filled(word, fraction))
    power = builder.bitcast(builder.add(raised, filled(word, bias << fraction)), kind)
    return builder.select(below, number("0.0"), builder.fmul(p, power))


@inlined
def decay(typing_context: Any, x: Any) -> Any:
    """exp(x) for x <= 0 (and NaN). 0 where the result would be subnormal, below about 1.2e-38 or 2.5e-308."""
    return x(x), lambda context, builder, signature, values: decay_code(builder, values[0])


@callee
def decay_minus_one(x: Any) -> Any:
    """exp(x) - 1 for x <= 0 (and NaN)."""
    small, large = fma(x * x, polynomial(x, "expm1"), x), decay(x) - constant(x, "1.0")
    return small if x > constant(x, "-0.5") else large


@callee
def logarithm(x: Any) -> Any:
    """log(x) for normal x > 0; infinity and NaN stay what they are."""
    k, m = split(x, "k"), split(x, "m")
    f = m - constant(x, "1.0")
    s = f / (f + constant(x, "2.0"))
    square, half = s * s, constant(x, "0.5") * f * f
    low = fma(s, fma(square, polynomial(square, "log"), half), k * constant(x, "log2_low"))
    result = fma(k, constant(x, "log2_high"), f - (half - low))
    return result if x < constant(x, "inf") else x


@callee
def log_one_plus(x: Any) -> Any:
    """log(1 + x) for 0 <= x <= 1 (and NaN)."""
    y = constant(x, "1.0") + x
    return logarithm(y) + (x - (y - constant(x, "1.0"))) / y


@inlined
def with_sign_of(typing_context: Any, size: Any, x: Any) -> Any:
    """|size| with the sign of x."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = values[0].type
        copy = builder.module.declare_intrinsic("llvm.copysign", [kind], ir.FunctionType(kind, [kind, kind]))
        return builder.call(copy, values)

    return x(x, x), code


@callee
def hyperbolic_tangent(x: Any) -> Any:
    """tanh(x)."""
    size, square, most, two = abs(x), x * x, constant(x, "most"), constant(x, "2.0")
    near = fma(x * square, polynomial(square, "tanh"), x)
    double = two * (most if size > most else size)  # in this order NaN passes
    shifted = fma(double, constant(x, "1.4426950408889634074"), constant(x, "shift"))
    k = shifted - constant(x, "shift")
    r = fma(-k, constant(x, "log2_high"), double)  # log 2 needs no second part: it counts for a large k only
    power = power_of_two(shifted)
    e = fma(fma(r * r, polynomial(r, "exp"), r), power, power - constant(x, "1.0"))
    return near if size < constant(x, "0.3") else with_sign_of(e / (e + two), x)


@callee
def gauss(x: Any) -> Any:
    """exp(-x^2 / 2). What the square loses in rounding comes back as a factor."""
    square = x * x
    lost = fma(x, x, -square)
    value = decay(constant(x, "-0.5") * square)
    return fma(constant(x, "-0.5") * lost, value, value) if value > constant(x, "0.0") else value


@inlined
def is_single(typing_context: Any, x: Any) -> Any:
    """Whether x is float32, at compile time."""
    single = x == types.float32
    return types.boolean(x), lambda context, builder, signature, values: ir.IntType(1)(single)


@callee
def normal_tail(size: Any, gauss: Any) -> Any:
    """Phi(-size) for size >= 0, given gauss = exp(-size^2 / 2)."""
    one = constant(size, "1.0")
    if is_single(size):
        t = one / fma(constant(size, "tail_q"), size, one)
        return polynomial(t, "tail") * t * gauss
    bounded = size if size < constant(size, "60.0") else constant(size, "60.0")
    x = bounded * constant(size, "0.70710678118654752440")
    y = (x - constant(size, "3.75")) / (x + constant(size, "3.75"))
    return constant(size, "0.5") * gauss * (polynomial(y, "tail") / fma(constant(size, "2.0"), x, one))
