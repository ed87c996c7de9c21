"""What a set of kernels offers. Two modules keep this contract: `numpy_kernels` and `numba_kernels`.

Rules for every kernel
----------------------
- float32 and float64; computed and returned in that dtype. Inputs may have any strides (they are copied if they must
  be), outputs (`out=`, `derivative=`, gradients of weights) must be C-contiguous and of the right dtype.
- `out` may be the array that the result replaces where the docstring says so.
- The result's bits depend on values, shapes and the set of kernels; never on addresses, time, or other threads.
- Nothing is validated here beyond what would otherwise go wrong silently: layers check what users give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from allgrad.kernels.blocks import Array, Pair


class Kernels(Protocol):
    """The hot loops of training behind one interface."""

    @property
    def name(self) -> str:
        """`"numpy"` or `"numba"`; recorded with each run, since bits depend on it."""

    # -- matrix products -----------------------------------------------------------------------------------------

    def matmul(self, a: Array, b: Array, *, out: Array | None = None, bias: Array | None = None) -> Array:
        """a @ b + bias over the last two axes, of a (..., rows, inner) and b (..., inner, columns); bias is (columns,).

        `out` may have any strides. In the numba kernels an element is one chain of fused multiply-adds over `inner`, the same
        on every CPU and whatever surrounds the element; in the NumPy kernels its bits are up to BLAS.
        """

    # -- optimizers, in place over flat memory -------------------------------------------------------------------

    def adam(
        self,
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
        """One step t = `step` (from 1) of Adam (Kingma & Ba 2015) or, `decoupled`, AdamW (Loshchilov & Hutter 2019).

        m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps).
        Weight decay adds wd p to g, or, decoupled, multiplies p by 1 - lr wd first. All four are one-dimensional.
        """

    def sgd(
        self,
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
        """One step of SGD as PyTorch defines it.

        d = g + wd p; u = mu u + (1 - dampening) d (u = d in the `first` step);
        p -= lr (d + mu u if nesterov else u). Without momentum `buffer` is None, and p -= lr d.
        """

    # -- bfloat16: the upper half of a float32, as uint16; all arrays are one-dimensional --------------------------

    def bf16_encode(self, x: Array, out: Array) -> None:
        """out = the nearest bfloat16 of each float32 or float64 number (ties to even, as PyTorch does; NaN becomes 0x7FC0)."""

    def bf16_decode(self, bits: Array, out: Array) -> None:
        """out = the values of bfloat16 numbers, as float32 or float64."""

    def bf16_add(self, left: Array, right: Array, out: Array) -> None:
        """out = the sums of two arrays of bfloat16 numbers, added in float32 and rounded; `out` may be one of them."""

    # -- random numbers ------------------------------------------------------------------------------------------

    def random_words(self, keys: Array, edges: Array) -> Array:
        """Words edges[i] to edges[i + 1] of the result are the first of Philox 4x64 with the key keys[i]: (edges[-1],) uint32.

        Each 64-bit word of the generator, in its order, gives its lower half and then its upper half.

        Args:
            keys: (n, 2) uint64.
            edges: (n + 1,) int64, from 0 up.
        """

    # -- norms over the last axis --------------------------------------------------------------------------------

    def layer_norm_forward(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float, *, out: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Layer norm (Ba et al. 2016): y = (x - mean) / sqrt(var + eps) * weight + bias, var divided by n.

        Returns y and, one a row, the mean and 1 / sqrt(var + eps), both of shape (rows,).
        """

    def layer_norm_backward(
        self,
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
        """Gradient for x, written to `out` (which may be `g`); those for weight and bias are written where given."""

    def rms_norm_forward(
        self, x: Array, weight: Array | None, eps: float, *, out: Array | None = None
    ) -> tuple[Array, Array]:
        """RMS norm (Zhang & Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * weight. Returns y and the inverse roots."""

    def rms_norm_backward(
        self,
        g: Array,
        x: Array,
        inverse: Array,
        weight: Array | None,
        *,
        out: Array | None = None,
        dweight: Array | None = None,
    ) -> Array:
        """Gradient for x, written to `out` (which may be `g`); that for weight is written where given."""

    # -- softmax over the last axis ------------------------------------------------------------------------------

    def softmax_forward(self, x: Array, *, out: Array | None = None) -> Array:
        """exp(x - max) / sum. `out` may be `x`."""

    def causal_softmax_forward(self, x: Array, *, scale: float = 1.0, out: Array | None = None) -> Array:
        """Softmax of scale * x, x of shape (..., queries, keys), in which query i sees keys 0 to i + keys - queries.

        What a query does not see is exactly 0 in the result. `out` may be `x`. The gradient is `softmax_backward`'s
        with the same scale.
        """

    def softmax_backward(self, g: Array, y: Array, *, scale: float = 1.0, out: Array | None = None) -> Array:
        """scale * y * (g - sum(g y)), y being the forward's result. `out` may be `g`."""

    # -- attention -----------------------------------------------------------------------------------------------

    def attention_forward(
        self, packed: Array, query_heads: int, *, causal: bool, padding_mask: Array | None, scale: float, keep: bool
    ) -> tuple[Array, Any]:
        """softmax(scale Q K^T) V for each sample and head: (batch, length, query heads, features).

        `packed` (batch, length, heads, features) is C-contiguous and has the query heads first, then the key heads, then as
        many value heads; consecutive query heads share a key head if there are fewer of these. A `causal` query sees no later
        key, and no query sees a key where `padding_mask` (batch, length) is True. A query that sees no key gets zeros. With
        `keep` the probabilities come second, for `attention_backward` of the same kernels, otherwise None.
        """

    def attention_backward(
        self,
        g: Array,
        packed: Array,
        kept: Any,
        query_heads: int,
        *,
        causal: bool,
        padding_mask: Array | None,
        scale: float,
    ) -> Array:
        """Gradient for `packed`; with `kept` None the probabilities are computed again, block by block."""

    # -- losses --------------------------------------------------------------------------------------------------

    def cross_entropy_forward(
        self,
        logits: Array,
        labels: Array,
        *,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        out: Array | None = None,
    ) -> tuple[Array, Array]:
        """Cross-entropy of logits (rows, classes) with labels (rows,), int64; each is a class or `ignore_index`, which the caller
        has checked.

        With smoothing e the target is (1 - e) on the label plus e / classes everywhere (Szegedy et al. 2016).
        Returns the loss of each row (0 where the label is `ignore_index`) and the probabilities, which the backward needs;
        `out` (may be `logits`) receives those.
        """

    def cross_entropy_backward(
        self,
        scale: Array | float,
        probabilities: Array,
        labels: Array,
        *,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        out: Array | None = None,
    ) -> Array:
        """(probabilities - target) * scale, scale a number or one a row: the cotangent of the rows' losses.

        0 in rows that do not count. `out` may be `probabilities`.
        """

    def soft_cross_entropy_forward(
        self, logits: Array, targets: Array, *, out: Array | None = None
    ) -> tuple[Array, Array]:
        """-sum(targets * log_softmax(logits)) of each row, and the probabilities. Targets need not sum to 1."""

    def soft_cross_entropy_backward(
        self, scale: Array | float, probabilities: Array, targets: Array, *, out: Array | None = None
    ) -> Array:
        """(probabilities * sum(targets) - targets) * scale. `out` may be `probabilities`."""

    # -- activations ---------------------------------------------------------------------------------------------

    def tanh(self, x: Array, *, out: Array | None = None) -> Array:
        """tanh(x). `out` may be `x`."""

    def softplus(self, x: Array, *, out: Array | None = None) -> Array:
        """log(1 + exp(x))."""

    def elu(self, x: Array, alpha: float, *, out: Array | None = None, derivative: Array | None = None) -> Array:
        """x where x > 0, else alpha (exp(x) - 1) (Clevert et al. 2016). `derivative` as in `gelu`."""

    def gelu(self, x: Array, *, out: Array | None = None, derivative: Array | None = None) -> Array:
        """x Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016); exact, not the tanh form.

        `derivative`, where given, receives gelu'(x): the backward is then g * derivative. `out` may be `x`.
        """

    def gelu_tanh(self, x: Array, *, out: Array | None = None, derivative: Array | None = None) -> Array:
        """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, as GPT-2 has it. `derivative` and `out` as in `gelu`."""

    def relu_forward(self, x: Array, *, out: Array | None = None) -> Array:
        """max(x, 0); NaN stays NaN, -0.0 becomes 0.0 or stays. `out` may be `x`."""

    def relu_backward(self, g: Array, y: Array, *, out: Array | None = None) -> Array:
        """g where y > 0, else 0; y is the forward's result (a zero of either sign passes nothing). `out` may be `g`."""

    # -- pooling, images channels-last ---------------------------------------------------------------------------

    def max_pool_forward(
        self,
        x: Array,
        window: Pair,
        stride: Pair,
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        *,
        out: Array | None = None,
    ) -> Array:
        """Largest pixel of each window; x is (batch, height, width, channels), padding counts as -inf, floor mode."""

    def max_pool_backward(
        self,
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
        """Gradient for x. Among equal pixels of a window the first in reading order gets all, as in PyTorch."""

    def pool_tiles(self, raw: Array, tile: Pair, *, out: Array, winners: Array) -> None:
        """Largest pixel of each tile of `raw` (n, height, width, channels) to `out`, and its position in the tile to `winners`.

        Tiles do not overlap, and pixels beyond the last whole tile are left out. Positions count in reading order, as bytes; of
        equal pixels the first one wins. All arrays are C-contiguous.
        """

    def unpool_tiles(self, g: Array, tile: Pair, winners: Array, *, out: Array) -> None:
        """The cotangent of `raw`: g where it won and 0 in the rest of each tile. Pixels outside of all tiles are left alone."""

    # -- Winograd's convolution ----------------------------------------------------------------------------------

    def transform_tiles(self, x: Array, matrix: Array, corner: Pair, tiles: Pair, step: int, *, out: Array) -> Array:
        """m t m' for each tile t of images x (n, height, width, channels), channel by channel, with m = `matrix` (p, q).

        Tile (i, j) of (down, across) = `tiles` has q x q pixels, the first of them (step i - top, step j - left) with
        (top, left) = `corner`; pixels outside of the image are 0. `out` is (p p, n down across, channels), C-contiguous. q is 4
        or 6.
        """

    def assemble_tiles(self, z: Array, matrix: Array, corner: Pair, tiles: Pair, step: int, *, out: Array) -> Array:
        """The way back: images `out` (n, height, width, channels) in which m t m', p x p pixels, is added at the place of each
        tile t of z (q q, n down across, channels). What is outside of the image is dropped. Needs p <= 2 step; q is 4 or 6.
        """

    # -- recurrences ---------------------------------------------------------------------------------------------

    def lstm_forward(self, z: Array, u: Array, states: Array, cells: Array, *, rounds: bool) -> None:
        """An LSTM over a sequence (Hochreiter & Schmidhuber 1997). With a_t = z_t + h_t u in four parts of n columns:
        i = sigmoid(a_0), f = sigmoid(a_1), g = tanh(a_2), o = sigmoid(a_3); new cell = f cell + i g, h = o tanh(new cell).

        z: (length, samples, 4 n); u: (n, 4 n); states and cells: (length + 1 or more, samples, n), whose first entries are given
        and whose others are written; all C-contiguous. z is overwritten by what `lstm_backward` of the same kernels needs of the
        gates.
        If it `rounds`, the operands of products with u are rounded to bfloat16 (`bf16.py`).
        """

    def lstm_backward(
        self, g: Array, z: Array, u: Array, cells: Array, dz: Array, dcell: Array, *, rounds: bool
    ) -> Array:
        """Backward through `lstm_forward`, which left z and cells: the cotangent of the first state, (samples, n).

        g: (length or more, samples, n), the cotangents of states 1 to length. dz: (length, samples, 4 n) becomes that of a.
        dcell: (samples, n), the cotangent of the last cell, becomes that of the first.
        """

    def gru_forward(
        self, z: Array, u: Array, bias: Array | None, states: Array, candidates: Array, *, rounds: bool
    ) -> None:
        """A GRU over a sequence (Cho et al. 2014, with PyTorch's candidate). With p_t = h_t u, z_t and p_t in three parts of n
        columns: r = sigmoid(z_0 + p_0), k = sigmoid(z_1 + p_1), candidate = p_2 + bias, new = tanh(z_2 + r candidate),
        h = new + k (h before - new).

        z: (length, samples, 3 n); u: (n, 3 n); bias: (n,) or None; states: (length + 1, samples, n), whose first entry is given
        and whose others are written; candidates: (length, samples, n), written; all C-contiguous. z is overwritten by what
        `gru_backward` of the same kernels needs of the gates.
        """

    def gru_backward(
        self,
        g: Array,
        z: Array,
        u: Array,
        candidates: Array,
        states: Array,
        dz: Array,
        dproduct: Array,
        *,
        rounds: bool,
    ) -> Array:
        """Backward through `gru_forward`, which left z and candidates: the cotangent of the first state, (samples, n).

        g: (length, samples, n), the cotangents of states 1 to length. The cotangents of z and p are written to dz and dproduct,
        (length, samples, 3 n) each.
        """

    # -- sums over rows ------------------------------------------------------------------------------------------

    def bias_gradient(self, g: Array, *, out: Array | None = None) -> Array:
        """Sum of g (..., n) over all axes but the last: shape (n,)."""

    def dot(self, x: Array, y: Array) -> float:
        """The inner product of two vectors."""

    def product_by_worker(self, a: Array, b: Array, edges: Array, order: Array, merges: Array, *, out: Array) -> Array:
        """The sum over some workers of a batch of a^T b, each over that worker's rows: (m, n), for a (rows, m) and b (rows, n).

        Worker w has the rows edges[w] to edges[w + 1]. The workers come in the order of `order`, and the additions are those of a
        stack: worker order[i] is pushed, and then merges[i] times the top is added to the entry below it, which replaces both.
        One entry is left in the end. Each worker's own sum has the bits of `matmul`. All three are int64 vectors.
        """

    def sum_by_worker(self, g: Array, edges: Array, order: Array, merges: Array, *, out: Array) -> Array:
        """The same for the sums over rows of g (rows, n): (n,). Each worker's own sum has the bits of `bias_gradient`."""

    def product_of_each_worker(self, a: Array, b: Array, edges: Array, *, out: Array | None = None) -> Array:
        """a^T b over the rows of each worker: (workers, m, n), each with the bits of `matmul`; see `product_by_worker`."""

    def sum_of_each_worker(self, g: Array, edges: Array, *, out: Array | None = None) -> Array:
        """The sum of the rows of each worker: (workers, n), each with the bits of `bias_gradient`."""

    def embedding_gradient(self, g: Array, indices: Array, *, out: Array) -> Array:
        """Sum of the rows of g (..., n) by index (0 <= index < len(out)), in their order; zeros where none.

        `indices` has g's leading shape. Writes all of `out`, shape (table rows, n).
        """
