"""The numba kernels: each makes one pass where NumPy makes several, with bits that are the same on every CPU with fused
multiply-add. Documented in `interface.Kernels`.
"""

from __future__ import annotations

import numpy as np

from allgrad.kernels import numba_loops as loops
from allgrad.kernels.blocks import Array, Pair, as_rows, constant, output
from allgrad.kernels.jit import PerDtype, contiguous
from allgrad.kernels.matmul.product import matmul as product
from allgrad.kernels.numba_attention import attention_backward as attention_backward
from allgrad.kernels.numba_attention import attention_forward as attention_forward
from allgrad.kernels.numba_bf16 import bf16_add as bf16_add
from allgrad.kernels.numba_bf16 import bf16_decode as bf16_decode
from allgrad.kernels.numba_bf16 import bf16_encode as bf16_encode
from allgrad.kernels.numba_random import random_words as random_words
from allgrad.kernels.numba_recurrence import gru_backward as gru_backward
from allgrad.kernels.numba_recurrence import gru_forward as gru_forward
from allgrad.kernels.numba_recurrence import lstm_backward as lstm_backward
from allgrad.kernels.numba_recurrence import lstm_forward as lstm_forward
from allgrad.kernels.numba_tiles import assemble_tiles as assemble_tiles
from allgrad.kernels.numba_tiles import transform_tiles as transform_tiles
from allgrad.kernels.numba_workers import product_by_worker as product_by_worker
from allgrad.kernels.numba_workers import product_of_each_worker as product_of_each_worker
from allgrad.kernels.numba_workers import sum_by_worker as sum_by_worker
from allgrad.kernels.numba_workers import sum_of_each_worker as sum_of_each_worker
from allgrad.kernels.numpy_pooling import pooled_shape

name = "numba"
matmul = product.__call__  # a method is called in less time than an object

_adam = PerDtype(loops.adam, "w1 r1 w1 w1 n d d d d d b")
_sgd = PerDtype(loops.sgd, "w1 r1 s s")
_sgd_momentum = PerDtype(loops.sgd_momentum, "w1 r1 w1 s s s s s b")
_layer_norm_forward = PerDtype(loops.layer_norm_forward, "r2 r1 r1 s w2 w1 w1")
_rms_norm_forward = PerDtype(loops.rms_norm_forward, "r2 r1 s w2 w1")
_norm_backward = PerDtype(loops.norm_backward, "r2 r2 r1 r1 r1 b w2 w1 w1")
_softmax_forward = PerDtype(loops.softmax_forward, "r2 w2")
_causal_softmax_forward = PerDtype(loops.causal_softmax_forward, "r3 s w3")
_softmax_backward = PerDtype(loops.softmax_backward, "r2 r2 s b w2")
_cross_entropy_forward = PerDtype(loops.cross_entropy_forward, "r2 k n s s w1 w2")
_cross_entropy_backward = PerDtype(loops.cross_entropy_backward, "r1 r2 k n s s w2")
_soft_cross_entropy_forward = PerDtype(loops.soft_cross_entropy_forward, "r2 r2 w1 w2")
_soft_cross_entropy_backward = PerDtype(loops.soft_cross_entropy_backward, "r1 r2 r2 w2")
_tanh = PerDtype(loops.tanh, "r1 w1")
_softplus = PerDtype(loops.softplus, "r1 w1")
_elu = PerDtype(loops.elu, "r1 s w1 w1")
_gelu_tanh = PerDtype(loops.gelu_tanh, "r1 w1 w1")
_bias_gradient = PerDtype(loops.bias_gradient, "r2 w1")
_dot = PerDtype(loops.dot, "r1 r1")
_gelu = PerDtype(loops.gelu, "r1 w1")
_gelu_with_derivative = PerDtype(loops.gelu_with_derivative, "r1 w1 w1")
_relu_forward = PerDtype(loops.relu_forward, "r1 w1")
_relu_backward = PerDtype(loops.relu_backward, "r1 r1 w1")
_max_pool_forward = PerDtype(loops.max_pool_forward, "r4 n n n n n n n n w4")
_max_pool_backward = PerDtype(loops.max_pool_backward, "r4 r4 r4 n n n n n n n n w4 w1")
_pool_tiles = PerDtype(loops.pool_tiles, "r4 n n w4 o4")
_unpool_tiles = PerDtype(loops.unpool_tiles, "r4 n n i4 w4")
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
    _adam[p.dtype](p, g, m, v, step, lr, beta1, beta2, eps, weight_decay, decoupled)


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
    mean, inverse = np.empty(len(x2), x.dtype), np.empty(len(x2), x.dtype)
    _layer_norm_forward[x.dtype](x2, _filled(weight, x, 1), _filled(bias, x, 0), eps, as_rows(y), mean, inverse)
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
    return _through_norm(g, x, mean, inverse, weight, out, dweight, dbias)


def rms_norm_forward(x: Array, weight: Array | None, eps: float, *, out: Array | None = None) -> tuple[Array, Array]:
    """See `Kernels.rms_norm_forward`."""
    x2, y = as_rows(x), output(out, x)
    inverse = np.empty(len(x2), x.dtype)
    _rms_norm_forward[x.dtype](x2, _filled(weight, x, 1), eps, as_rows(y), inverse)
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
    return _through_norm(g, x, None, inverse, weight, out, dweight, None)


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
) -> tuple[Array, Array]:
    """See `Kernels.cross_entropy_forward`."""
    probabilities, losses = output(out, logits), np.empty(len(logits), logits.dtype)
    if logits.size:
        spread = label_smoothing / logits.shape[1]
        _cross_entropy_forward[logits.dtype](
            contiguous(logits), labels, ignore_index, 1 - label_smoothing, spread, losses, probabilities
        )
    return losses, probabilities


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
    scales = np.empty(rows, probabilities.dtype)
    scales[...] = scale
    spread = label_smoothing / max(classes, 1)
    _cross_entropy_backward[probabilities.dtype](
        scales, contiguous(probabilities), labels, ignore_index, 1 - label_smoothing, spread, gradient
    )
    return gradient


def soft_cross_entropy_forward(logits: Array, targets: Array, *, out: Array | None = None) -> tuple[Array, Array]:
    """See `Kernels.soft_cross_entropy_forward`."""
    probabilities, losses = output(out, logits), np.zeros(len(logits), logits.dtype)
    if logits.size:
        _soft_cross_entropy_forward[logits.dtype](contiguous(logits), contiguous(targets), losses, probabilities)
    return losses, probabilities


def soft_cross_entropy_backward(
    scale: Array | float, probabilities: Array, targets: Array, *, out: Array | None = None
) -> Array:
    """See `Kernels.soft_cross_entropy_backward`."""
    gradient, scales = output(out, probabilities), np.full(len(probabilities), scale, probabilities.dtype)
    _soft_cross_entropy_backward[probabilities.dtype](scales, contiguous(probabilities), contiguous(targets), gradient)
    return gradient


def tanh(x: Array, *, out: Array | None = None) -> Array:
    """See `Kernels.tanh`."""
    y = output(out, x)
    _tanh[x.dtype](contiguous(x).reshape(-1), y.reshape(-1))
    return y


def softplus(x: Array, *, out: Array | None = None) -> Array:
    """See `Kernels.softplus`."""
    y = output(out, x)
    _softplus[x.dtype](contiguous(x).reshape(-1), y.reshape(-1))
    return y


def elu(x: Array, alpha: float, *, out: Array | None = None, derivative: Array | None = None) -> Array:
    """See `Kernels.elu`."""
    y, slope = output(out, x), output(derivative, x)
    _elu[x.dtype](contiguous(x).reshape(-1), alpha, y.reshape(-1), slope.reshape(-1))
    return y


def gelu_tanh(x: Array, *, out: Array | None = None, derivative: Array | None = None) -> Array:
    """See `Kernels.gelu_tanh`."""
    y, slope = output(out, x), output(derivative, x)
    _gelu_tanh[x.dtype](contiguous(x).reshape(-1), y.reshape(-1), slope.reshape(-1))
    return y


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


def pool_tiles(raw: Array, tile: Pair, *, out: Array, winners: Array) -> None:
    """See `Kernels.pool_tiles`."""
    _pool_tiles[raw.dtype](raw, *tile, out, winners)


def unpool_tiles(g: Array, tile: Pair, winners: Array, *, out: Array) -> None:
    """See `Kernels.unpool_tiles`."""
    _unpool_tiles[g.dtype](contiguous(g), *tile, winners, out)


def bias_gradient(g: Array, *, out: Array | None = None) -> Array:
    """See `Kernels.bias_gradient`."""
    rows = as_rows(g)
    total = output(out, g, rows.shape[1:])
    _bias_gradient[g.dtype](rows, total)
    return total


def dot(x: Array, y: Array) -> float:
    """See `Kernels.dot`."""
    return float(_dot[x.dtype](contiguous(x), contiguous(y)))


def embedding_gradient(g: Array, indices: Array, *, out: Array) -> Array:
    """See `Kernels.embedding_gradient`."""
    output(out, g, out.shape)
    _embedding_gradient[g.dtype](as_rows(g), _int64(indices), out)
    return out


def _through_norm(
    g: Array,
    x: Array,
    mean: Array | None,
    inverse: Array,
    weight: Array | None,
    out: Array | None,
    dweight: Array | None,
    dbias: Array | None,
) -> Array:
    dx, centred = output(out, x), mean is not None
    sums = [np.zeros(x.shape[-1], x.dtype) if d is None else d for d in (dweight, dbias)]
    for gradient in sums:
        gradient[...] = 0
    mean = np.zeros_like(inverse) if mean is None else mean
    _norm_backward[x.dtype](as_rows(g), as_rows(x), mean, inverse, _filled(weight, x, 1), centred, as_rows(dx), *sums)
    return dx


def _filled(vector: Array | None, x: Array, value: float) -> Array:
    return constant(x.dtype, value, x.shape[-1]) if vector is None else contiguous(vector)


def _int64(indices: Array) -> Array:
    return np.ascontiguousarray(indices, np.int64).reshape(-1)
