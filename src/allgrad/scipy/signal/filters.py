"""Digital filters by the signal, the coefficients and the initial state, and linear operations along one axis.

A filter solves A y = B x, where A and B are polynomials of the delay. So dy = A^-1 (dB x + B dx - dA y), and the transpose
of a filter is the same filter running backward in time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.scipy.along import by_matrix
from allgrad.scipy.registry import differentiates, operand, tracked
from scipy import signal


def _without_first(a: Any) -> Any:
    return a * (np.arange(a.shape[0]) > 0)


def _lagged_products(g: Any, u: Any, count: int) -> Any:
    """For k < count, the sum over n of g[n] u[n - k], over all leading axes too."""
    n = g.shape[-1]
    return np.stack([np.sum(g[..., k:] * u[..., : n - k]) if k < n else np.sum(g[..., :0]) for k in range(count)])


def _recursive_vjp(g: Any, b: Any, a: Any, x: Any, ans: Any, *, needs: tuple[bool, ...]) -> Any:
    unit = np.ones(1, dtype=a.dtype)
    by_b = _lagged_products(g, recursive(unit, a, x), b.shape[0]) if needs[0] else None
    by_a = -_without_first(_lagged_products(g, recursive(unit, a, ans), a.shape[0])) if needs[1] else None
    by_x = np.flip(recursive(b, a, np.flip(g, -1)), -1) if needs[2] else None
    return by_b, by_a, by_x


recursive: Primitive = Primitive(
    lambda b, a, x: signal.lfilter(b, a, x, axis=-1),
    name="lfilter",
    joint=_recursive_vjp,
    jvp={"b": LINEAR, "a": lambda t, a, ans: -recursive(_without_first(t), a, ans), "x": LINEAR},
)
"""The filter with a[0] = 1 along the last axis, starting from rest."""


def _normalized(b: Any, a: Any) -> tuple[Any, Any]:
    b, a = np.atleast_1d(operand(b)), np.atleast_1d(operand(a))
    return b / a[0], a / a[0]


@differentiates(signal.lfilter, "signal")
def lfilter(b: Any, a: Any, x: Any, axis: int = -1, zi: Any = None) -> Any:
    """y, or (y, final state) if the initial state zi is given."""
    b, a = _normalized(b, a)
    x = np.moveaxis(operand(x), axis, -1)
    y = recursive(b, a, x)
    if zi is None:
        return np.moveaxis(y, -1, axis)
    zi = np.moveaxis(operand(zi), axis, -1)
    order, n = zi.shape[-1], x.shape[-1]
    if n < order:
        raise NotDifferentiableError(f"lfilter with zi= needs at least {order} samples, got {n}.")
    # The state enters the equation as an impulse for each of the first samples.
    impulses = np.concatenate([zi, np.zeros((*zi.shape[:-1], n - order), dtype=zi.dtype)], axis=-1)
    y = y + recursive(np.ones(1, dtype=a.dtype), a, impulses)
    return np.moveaxis(y, -1, axis), np.moveaxis(_final_state(b, a, x, y, order), -1, axis)


def _final_state(b: Any, a: Any, x: Any, y: Any, order: int) -> Any:
    """z_i = the sum over j >= i of b[j + 1] x[-1 - (j - i)] - a[j + 1] y[-1 - (j - i)]."""
    states = []
    for i in range(order):
        terms = [b[i + 1 + j] * x[..., -1 - j] for j in range(b.shape[0] - i - 1)]
        terms += [-(a[i + 1 + j] * y[..., -1 - j]) for j in range(a.shape[0] - i - 1)]
        states.append(sum(terms[1:], terms[0]))
    return np.stack(states, axis=-1)


@differentiates(signal.lfilter_zi, "signal")
def lfilter_zi(b: Any, a: Any) -> Any:
    """The state of the filter's response to a constant 1 after a long time."""
    b, a = _normalized(b, a)
    n = max(b.shape[0], a.shape[0])
    b, a = (np.concatenate([c, np.zeros(n - c.shape[0], dtype=c.dtype)]) for c in (b, a))
    shifted = np.concatenate([np.eye(n - 1, dtype=a.dtype)[1:], np.zeros((1, n - 1), dtype=a.dtype)])
    first = np.zeros(n - 1, dtype=a.dtype)
    first[0] = 1
    system = np.eye(n - 1, dtype=a.dtype) - shifted + np.expand_dims(a[1:], 1) * first
    return np.linalg.solve(system, b[1:] - a[1:] * b[0])


def _extended(x: Any, padtype: str | None, edge: int) -> Any:
    """x with `edge` samples before and after, mirrored at its ends."""
    if padtype is None or edge == 0:
        return x
    left, right = x[..., edge:0:-1], x[..., -2 : -edge - 2 : -1]
    first, last = x[..., :1], x[..., -1:]
    if padtype == "odd":
        left, right = 2 * first - left, 2 * last - right
    elif padtype == "constant":
        left, right = first + 0 * left, last + 0 * right
    return np.concatenate([left, x, right], axis=-1)


@differentiates(signal.filtfilt, "signal")
def filtfilt(
    b: Any,
    a: Any,
    x: Any,
    axis: int = -1,
    padtype: str | None = "odd",
    padlen: int | None = None,
    method: str = "pad",
    irlen: Any = None,
) -> Any:
    """The filter forward and backward, as SciPy's method='pad'."""
    if method != "pad" or irlen is not None:
        raise NotDifferentiableError(f"filtfilt(method={method!r}) is not differentiated; use method='pad'.")
    b, a = _normalized(b, a)
    x = np.moveaxis(operand(x), axis, -1)
    edge = (0 if padtype is None else 3 * max(b.shape[0], a.shape[0])) if padlen is None else padlen
    padded = _extended(x, padtype, edge)
    state = lfilter_zi(b, a) if tracked((b, a)) else signal.lfilter_zi(b, a).astype(x.dtype)
    y = lfilter(b, a, padded, zi=state * padded[..., :1])[0]
    y = np.flip(lfilter(b, a, np.flip(y, -1), zi=state * y[..., -1:])[0], -1)
    return np.moveaxis(y[..., edge : y.shape[-1] - edge], -1, axis)


@differentiates(signal.sosfilt, "signal")
def sosfilt(sos: Any, x: Any, axis: int = -1, zi: Any = None) -> Any:
    """A cascade of second-order sections, sos: (sections, 6); the state zi: (sections, ..., 2)."""
    sos = operand(sos)
    x = np.moveaxis(operand(x), axis, -1)
    states = []
    for k in range(sos.shape[0]):
        b, a = sos[k, :3], sos[k, 3:]
        if zi is None:
            x = lfilter(b, a, x)
        else:
            x, state = lfilter(b, a, x, zi=np.moveaxis(operand(zi)[k], axis, -1))
            states.append(np.moveaxis(state, -1, axis))
    y = np.moveaxis(x, -1, axis)
    return y if zi is None else (y, np.stack(states))


# Operations that are linear in the signal and have no other argument to differentiate.


@differentiates(signal.hilbert, "signal")
def hilbert(x: Any, N: Any = None, axis: int = -1) -> Any:
    """The analytic signal x + i H(x)."""
    return by_matrix(lambda e: signal.hilbert(e, N), x, axis)


@differentiates(signal.detrend, "signal")
def detrend(data: Any, axis: int = -1, type: str = "linear", bp: Any = 0) -> Any:
    return by_matrix(lambda e: signal.detrend(e, type=type, bp=bp), data, axis)


@differentiates(signal.resample, "signal")
def resample(x: Any, num: int, t: Any = None, axis: int = 0, window: Any = None, domain: str = "time") -> Any:
    if t is not None or domain != "time":
        raise NotDifferentiableError("resample with t= or domain='freq' is not differentiated.")
    return by_matrix(lambda e: signal.resample(e, num, axis=-1, window=window), x, axis)


@differentiates(signal.resample_poly, "signal")
def resample_poly(
    x: Any,
    up: int,
    down: int,
    axis: int = 0,
    window: Any = ("kaiser", 5.0),
    padtype: str = "constant",
    cval: Any = None,
) -> Any:
    if padtype in ("median", "minimum", "maximum") or cval:
        raise NotDifferentiableError(f"resample_poly(padtype={padtype!r}, cval={cval!r}) is not linear in the signal.")
    return by_matrix(lambda e: signal.resample_poly(e, up, down, axis=-1, window=window, padtype=padtype), x, axis)


@differentiates(signal.upfirdn, "signal")
def upfirdn(h: Any, x: Any, up: int = 1, down: int = 1, axis: int = -1, mode: str = "constant", cval: float = 0) -> Any:
    if tracked(h) or cval:
        raise NotDifferentiableError("upfirdn is differentiated by the signal x, with cval=0.")
    return by_matrix(lambda e: signal.upfirdn(h, e, up, down, axis=-1, mode=mode), x, axis)


@differentiates(signal.decimate, "signal")
def decimate(x: Any, q: int, n: Any = None, ftype: Any = "iir", axis: int = -1, zero_phase: bool = True) -> Any:
    return by_matrix(lambda e: signal.decimate(e, q, n, ftype, axis=-1, zero_phase=zero_phase), x, axis)


@differentiates(signal.savgol_filter, "signal")
def savgol_filter(
    x: Any,
    window_length: int,
    polyorder: int,
    deriv: int = 0,
    delta: float = 1.0,
    axis: int = -1,
    mode: str = "interp",
    cval: float = 0.0,
) -> Any:
    if cval:
        raise NotDifferentiableError("savgol_filter is differentiated with cval=0.")
    return by_matrix(
        lambda e: signal.savgol_filter(e, window_length, polyorder, deriv, delta, axis=-1, mode=mode), x, axis
    )
