"""The numba kernels: each makes one pass where NumPy makes several. Documented in `interface.Kernels`.

What is one BLAS call or one vectorised pass in NumPy already (bias gradient, tanh GELU, soft labels) is NumPy's here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allgrad.kernels import numba_loops as loops
from allgrad.kernels.blocks import Array, as_rows, constant, output, rows_a_block, scratch, spans
from allgrad.kernels.jit import PerDtype, contiguous
from allgrad.kernels.matmul.product import matmul as matmul
from allgrad.kernels.numpy_activations import gelu_tanh as gelu_tanh
from allgrad.kernels.numpy_losses import checked_labels
from allgrad.kernels.numpy_losses import soft_cross_entropy_backward as soft_cross_entropy_backward
from allgrad.kernels.numpy_losses import soft_cross_entropy_forward as soft_cross_entropy_forward
from allgrad.kernels.numpy_pooling import Pair, pooled_shape
from allgrad.kernels.numpy_sums import bias_gradient as bias_gradient

if TYPE_CHECKING:
    from collections.abc import Iterable

name = "numba"

_adam = PerDtype(loops.adam, "w1 r1 w1 w1 s s s s s s s s")
_sgd = PerDtype(loops.sgd, "w1 r1 s s")
_sgd_momentum = PerDtype(loops.sgd_momentum, "w1 r1 w1 s s s s s b")
_centre = PerDtype(loops.centre, "r2 r1 w2 w2")
_normalise = PerDtype(loops.normalise, "r2 r1 r1 s w2 w1")
_times_normalised = PerDtype(loops.times_normalised, "r2 r2 r1 r1 w2")
_norm_gradient = PerDtype(loops.norm_gradient, "r2 r2 r1 r1 r1 r1 r1 w2")
_softmax_forward = PerDtype(loops.softmax_forward, "r2 w2")
_causal_softmax_forward = PerDtype(loops.causal_softmax_forward, "r3 s w3")
_softmax_backward = PerDtype(loops.softmax_backward, "r2 r2 s b w2")
_cross_entropy_forward = PerDtype(loops.cross_entropy_forward, "r2 k n s s w1 w2")
_cross_entropy_backward = PerDtype(loops.cross_entropy_backward, "r1 r2 k n s s w2")
_gelu = PerDtype(loops.gelu, "r1 w1")
_gelu_with_derivative = PerDtype(loops.gelu_with_derivative, "r1 w1 w1")
_relu_forward = PerDtype(loops.relu_forward, "r1 w1")
_relu_backward = PerDtype(loops.relu_backward, "r1 r1 w1")
_max_pool_forward = PerDtype(loops.max_pool_forward, "r4 n n n n n n n n w4")
_max_pool_backward = PerDtype(loops.max_pool_backward, "r4 r4 r4 n n n n n n n n w4 w1")
_lstm_cell = PerDtype(loops.lstm_cell, "r2 r1 w1")
_lstm_output = PerDtype(loops.lstm_output, "r1 w1")
_lstm_backward = PerDtype(loops.lstm_backward, "r3 r2 r2 r2 w2 w2")
_embedding_gradient = PerDtype(loops.embedding_gradient, "r2 k w2")


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """See `Kernels.adam`."""
    root = (1 - beta2**step) ** 0.5
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    rate = lr * root / (1 - beta1**step)
    _adam[p.dtype](p, g, m, v, rate, eps * root, beta1, 1 - beta1, beta2, 1 - beta2, shrink, decay)


def sgd(
    p: Array,
    g: Array,
    buffer: Array | None,
    *,
    first: bool,
    lr: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """See `Kernels.sgd`."""
    if buffer is None:
        _sgd[p.dtype](p, g, lr, weight_decay)
        return
    keep, take = (0.0, 1.0) if first else (momentum, 1 - dampening)
    _sgd_momentum[p.dtype](p, g, buffer, lr, weight_decay, keep, take, momentum, nesterov)


def layer_norm_forward(
    x: Array, weight: Array | None, bias: Array | None, eps: float, *, out: Array | None = None
) -> tuple[Array, Array, Array]:
    """See `Kernels.layer_norm_forward`."""
    x2, y = as_rows(x), output(out, x)
    y2, w, b = as_rows(y), _filled(weight, x, 1), _filled(bias, x, 0)
    mean, inverse = np.empty(len(x2), x.dtype), np.empty(len(x2), x.dtype)
    average = _average(x)
    for span in _row_spans(x2):
        x_, y_, square = x2[span], y2[span], scratch(x.dtype, 0, x2[span].shape)
        np.matmul(x_, average, out=mean[span])
        _centre[x.dtype](x_, mean[span], y_, square)
        np.matmul(square, average, out=inverse[span])
        _normalise[x.dtype](y_, w, b, eps, y_, inverse[span])
    return y, mean, inverse


def layer_norm_backward(
    g: Array,
    x: Array,
    mean: Array,
    inverse: Array,
    weight: Array | None,
    *,
    out: Array | None = None,
    dweight: Array | None = None,
    dbias: Array | None = None,
) -> Array:
    """See `Kernels.layer_norm_backward`."""
    return _norm_backward(g, x, mean, inverse, weight, out, dweight, dbias)


def rms_norm_forward(x: Array, weight: Array | None, eps: float, *, out: Array | None = None) -> tuple[Array, Array]:
    """See `Kernels.rms_norm_forward`."""
    x2, y = as_rows(x), output(out, x)
    y2, w, b = as_rows(y), _filled(weight, x, 1), _filled(None, x, 0)
    inverse = np.empty(len(x2), x.dtype)
    average = _average(x)
    for span in _row_spans(x2):
        x_, square = x2[span], scratch(x.dtype, 0, x2[span].shape)
        np.matmul(np.multiply(x_, x_, square), average, out=inverse[span])
        _normalise[x.dtype](x_, w, b, eps, y2[span], inverse[span])
    return y, inverse


def rms_norm_backward(
    g: Array,
    x: Array,
    inverse: Array,
    weight: Array | None,
    *,
    out: Array | None = None,
    dweight: Array | None = None,
) -> Array:
    """See `Kernels.rms_norm_backward`."""
    return _norm_backward(g, x, None, inverse, weight, out, dweight, None)


def softmax_forward(x: Array, *, out: Array | None = None) -> Array:
    """See `Kernels.softmax_forward`."""
    y = output(out, x)
    if x.size:
        _softmax_forward[x.dtype](as_rows(x), as_rows(y))
    return y


def causal_softmax_forward(x: Array, *, scale: float = 1.0, out: Array | None = None) -> Array:
    """See `Kernels.causal_softmax_forward`."""
    y = output(out, x)
    queries, keys = x.shape[-2:]
    if keys < queries:
        raise ValueError(f"causal_softmax: needs at least as many keys as queries. Got scores of shape {x.shape}.")
    if x.size:
        shape = (-1, queries, keys)
        _causal_softmax_forward[x.dtype](contiguous(x).reshape(shape), scale, y.reshape(shape))
    return y


def softmax_backward(g: Array, y: Array, *, scale: float = 1.0, out: Array | None = None) -> Array:
    """See `Kernels.softmax_backward`."""
    dx = output(out, g)
    in_place = np.may_share_memory(dx, g)
    _softmax_backward[g.dtype](as_rows(g), as_rows(y), scale, in_place, as_rows(dx))
    return dx


def cross_entropy_forward(
    logits: Array, labels: Array, *, ignore_index: int = -100, label_smoothing: float = 0.0, out: Array | None = None
) -> tuple[Array, int, Array]:
    """See `Kernels.cross_entropy_forward`."""
    counted = checked_labels(logits, labels, ignore_index)
    probabilities = output(out, logits)
    rows, classes = logits.shape
    losses = np.empty(rows, logits.dtype)
    if logits.size:
        spread = label_smoothing / classes
        _cross_entropy_forward[logits.dtype](
            contiguous(logits), _int64(labels), ignore_index, 1 - label_smoothing, spread, losses, probabilities
        )
    return losses, rows if counted is None else int(np.count_nonzero(counted)), probabilities


def cross_entropy_backward(
    scale: Array | float,
    probabilities: Array,
    labels: Array,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    out: Array | None = None,
) -> Array:
    """See `Kernels.cross_entropy_backward`."""
    gradient = output(out, probabilities)
    rows, classes = probabilities.shape
    scales = np.full(rows, scale, probabilities.dtype)
    spread = label_smoothing / max(classes, 1)
    _cross_entropy_backward[probabilities.dtype](
        scales, contiguous(probabilities), _int64(labels), ignore_index, 1 - label_smoothing, spread, gradient
    )
    return gradient


def gelu(x: Array, *, out: Array | None = None, derivative: Array | None = None) -> Array:
    """See `Kernels.gelu`."""
    y, source = output(out, x), contiguous(x).reshape(-1)
    if derivative is None:
        _gelu[x.dtype](source, y.reshape(-1))
    else:
        _gelu_with_derivative[x.dtype](source, y.reshape(-1), output(derivative, x).reshape(-1))
    return y


def relu_forward(x: Array, *, out: Array | None = None) -> Array:
    """See `Kernels.relu_forward`."""
    y = output(out, x)
    _relu_forward[x.dtype](contiguous(x).reshape(-1), y.reshape(-1))
    return y


def relu_backward(g: Array, y: Array, *, out: Array | None = None) -> Array:
    """See `Kernels.relu_backward`."""
    dx = output(out, g)
    _relu_backward[g.dtype](contiguous(g).reshape(-1), contiguous(y).reshape(-1), dx.reshape(-1))
    return dx


def max_pool_forward(
    x: Array, window: Pair, stride: Pair, padding: Pair = (0, 0), dilation: Pair = (1, 1), *, out: Array | None = None
) -> Array:
    """See `Kernels.max_pool_forward`."""
    y = output(out, x, pooled_shape(x.shape, window, stride, padding, dilation))
    _max_pool_forward[x.dtype](contiguous(x), *window, *stride, *padding, *dilation, y)
    return y


def max_pool_backward(
    g: Array,
    x: Array,
    y: Array,
    window: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    *,
    out: Array | None = None,
) -> Array:
    """See `Kernels.max_pool_backward`."""
    dx = output(out, x)
    left = np.empty(x.shape[3], x.dtype)
    _max_pool_backward[x.dtype](
        contiguous(g), contiguous(x), contiguous(y), *window, *stride, *padding, *dilation, dx, left
    )
    return dx


def lstm_forward(z: Array, product: Array, cell: Array, new: Array, h: Array) -> None:
    """See `Kernels.lstm_forward`. NumPy's sum and tanh are as fast as these get."""
    np.add(z, product, out=z)
    np.tanh(z, out=z)
    flat = z.reshape(4, -1)
    _lstm_cell[z.dtype](flat, cell.reshape(-1), new.reshape(-1))
    np.tanh(new, out=h)
    _lstm_output[z.dtype](flat[3], h.reshape(-1))


def lstm_backward(z: Array, cell: Array, new: Array, dh: Array, dcell: Array, dz: Array) -> None:
    """See `Kernels.lstm_backward`."""
    tanh = np.tanh(new, scratch(z.dtype, 0, new.shape))
    _lstm_backward[z.dtype](z, cell, tanh, dh, dcell, dz)


def embedding_gradient(g: Array, indices: Array, *, out: Array) -> Array:
    """See `Kernels.embedding_gradient`."""
    output(out, g, out.shape)
    _embedding_gradient[g.dtype](as_rows(g), _int64(indices), out)
    return out


def _norm_backward(
    g: Array,
    x: Array,
    mean: Array | None,
    inverse: Array,
    weight: Array | None,
    out: Array | None,
    dweight: Array | None,
    dbias: Array | None,
) -> Array:
    # With n = (x - mean) r:  dx = r (g w - avg(g w) - n avg(g w n)); RMS norm is the same without the means.
    # Sums over rows and columns are BLAS's: GEMV with a constant vector beats a loop that may not be reordered.
    g2, x2, dx = as_rows(g), as_rows(x), output(out, x)
    dx2, w, zeros = as_rows(dx), _filled(weight, x, 1), np.zeros(len(x2) if mean is None else 0, x.dtype)
    in_place = np.may_share_memory(dx, g) or np.may_share_memory(dx, x)
    scaled = _average(x) if weight is None else weight * _average(x)
    for gradient in (dweight, dbias):
        if gradient is not None:
            gradient[...] = 0
    for span in _row_spans(x2):
        g_, x_, r = g2[span], x2[span], inverse[span]
        m, product = zeros[span] if mean is None else mean[span], scratch(x.dtype, 0, x_.shape)
        _times_normalised[x.dtype](g_, x_, m, r, product)
        ones = constant(x.dtype, 1, len(x_))
        if dweight is not None:
            dweight += ones @ product
        if dbias is not None:
            dbias += ones @ g_
        level = m if mean is None else g_ @ scaled
        along, target = product @ scaled, product if in_place else dx2[span]
        _norm_gradient[x.dtype](g_, x_, m, r, w, along, level, target)
        if in_place:
            dx2[span] = product
    return dx


def _average(x: Array) -> Array:
    return constant(x.dtype, 1 / max(x.shape[-1], 1), x.shape[-1])


def _row_spans(x: Array) -> Iterable[slice]:
    """Blocks of rows: large enough to hide the calls, small enough for the second-level cache."""
    return spans(len(x), rows_a_block(x.shape[1]))


def _filled(vector: Array | None, x: Array, value: float) -> Array:
    return constant(x.dtype, value, x.shape[-1]) if vector is None else contiguous(vector)


def _int64(indices: Array) -> Array:
    return np.ascontiguousarray(indices, np.int64).reshape(-1)
