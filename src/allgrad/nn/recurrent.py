"""RNN, LSTM, and GRU layers: stacked, in one direction or both. The recurrences themselves are in `recurrence.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from allgrad.nn import init
from allgrad.nn.checks import refuse_image
from allgrad.nn.dropout import Dropout
from allgrad.nn.errors import InputError, LayerOptionError
from allgrad.nn.module import Module
from allgrad.nn.parameter import TRANSPOSED, Parameter
from allgrad.nn.recurrence import gru, lstm, rnn


class _Recurrent(Module):
    """What the three have in common: the weights of each layer and direction, and the run over them.

    In the last states, the forward direction of each layer comes first.
    """

    gates: int

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        rng: init.Rng,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        if min(input_size, hidden_size, num_layers) < 1:
            raise LayerOptionError(
                f"{type(self).__name__}: sizes and num_layers must be 1 or more. "
                f"Got {input_size} in, {hidden_size} hidden, {num_layers} layers."
            )
        rng = init.generator(rng)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.directions = ("", "_reverse") if bidirectional else ("",)
        self.has_bias, self.dtype = bias, np.dtype(dtype)
        columns, bound = self.gates * hidden_size, 1 / math.sqrt(hidden_size)
        inner = input_size
        for layer in range(num_layers):
            for direction in self.directions:
                for name, shape in (("ih", (inner, columns)), ("hh", (hidden_size, columns))):
                    weight = init.uniform(shape, rng, bound=bound, dtype=dtype)
                    setattr(self, f"weight_{name}_l{layer}{direction}", Parameter(weight, layout=TRANSPOSED))
                for name in ("ih", "hh") if bias else ():
                    offset = init.uniform((columns,), rng, bound=bound, dtype=dtype)
                    setattr(self, f"bias_{name}_l{layer}{direction}", Parameter(offset))
            inner = hidden_size * len(self.directions)
        self.dropout = Dropout(dropout)

    def _weights(self, layer: int, direction: str) -> tuple[Any, ...]:
        """W, U, and both biases or None."""
        names = [f"{kind}_{part}_l{layer}{direction}" for kind in ("weight", "bias") for part in ("ih", "hh")]
        return tuple(getattr(self, name, None) for name in names)

    def _sequence(self, x: Any, h: Any, cell: Any, layer: int, direction: str) -> Any:
        """The operation over one layer in one direction, time-major; see `recurrence.py` for its result."""
        raise NotImplementedError

    def _run(self, x: Any, h: Any, cell: Any, *, cells: bool) -> tuple[Any, Any, Any]:
        """Outputs (batch, length, ...), last states, and last cells (None without `cells`)."""
        self._check(x, h, cell)
        steps = x.shape[1]
        y = np.swapaxes(x, 0, 1)
        ends = []  # of each layer and direction: the last state, and for an LSTM the last cell
        for layer in range(self.num_layers):
            if layer:
                y = self.dropout(y, samples=1)
            results = []
            for number, direction in enumerate(self.directions):
                place = layer * len(self.directions) + number
                start = (None if h is None else h[place]), (None if cell is None else cell[place])
                out = self._sequence(y[::-1] if direction else y, *start, layer, direction)
                hidden = out[:steps] if cells else out
                ends.append(out[steps - 1 :])
                results.append(hidden[::-1] if direction else hidden)
            y = results[0] if len(results) == 1 else np.concatenate(results, axis=2)
        last = np.concatenate(ends)
        return np.swapaxes(y, 0, 1), last[::2] if cells else last, last[1::2] if cells else None

    def _check(self, x: Any, *states: Any) -> None:
        if getattr(x, "dtype", None) != self.dtype or x.ndim != 3 or x.shape[2] != self.input_size:
            refuse_image(self, x, (("length",),), self.input_size, self.dtype)
        if not x.shape[1]:
            raise InputError(f"{self.where()}: expects sequences of at least one step. Got shape {x.shape} instead.")
        expected = (self.num_layers * len(self.directions), x.shape[0], self.hidden_size)
        for state in states:
            if state is not None and (state.shape != expected or state.dtype != self.dtype):
                raise InputError(
                    f"{self.where()}: for an input of shape {x.shape} expected {self.dtype} states (num_layers * directions, "
                    f"batch, hidden) = {expected}. Got {state.dtype} of shape {state.shape} instead."
                )

    def extra_repr(self) -> str:
        parts = [f"{self.input_size} -> {self.hidden_size}"]
        if self.num_layers > 1:
            parts.append(f"num_layers={self.num_layers}")
        if len(self.directions) > 1:
            parts.append("bidirectional=True")
        return ", ".join(parts + ([] if self.has_bias else ["bias=False"]))


class RNN(_Recurrent):
    """Elman's recurrent layer: h' = tanh(x W + b + h U + c).

    x: (batch, length, input_size) float; result: (batch, length, directions * hidden_size) float, and the last states
    (num_layers * directions, batch, hidden_size).

    Reference: Elman, "Finding Structure in Time" (Cognitive Science 14, 1990).

    Args:
        input_size: length of the last axis of x.
        hidden_size: length of a state.
        num_layers: number of stacked layers.
        nonlinearity: "tanh" or "relu".
        bias: whether there are biases b and c.
        dropout: probability in training, between layers.
        bidirectional: run over the sequence in both directions and concatenate the results.
        rng: source of the initial numbers: uniform within 1 / sqrt(hidden_size).
        dtype: of the parameters and the input, float32 or float64.

    Raises:
        LayerOptionError: if sizes or the nonlinearity do not fit.
        InputError, InputTypeError: if an input has the wrong shape or dtype; the message names the layer's path.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> y, h = nn.RNN(4, 6, rng=0)(np.ones((2, 5, 4), np.float32))
    >>> y.shape, h.shape
    ((2, 5, 6), (1, 2, 6))
    """

    rows_independent = True

    gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, *, nonlinearity: str = "tanh", rng: init.Rng, **options: Any
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise LayerOptionError(f"RNN: nonlinearity must be 'tanh' or 'relu'. Got {nonlinearity!r} instead.")
        super().__init__(input_size, hidden_size, rng=rng, **options)
        self.nonlinearity = nonlinearity

    def forward(self, x: Any, h: Any = None) -> tuple[Any, Any]:
        """Return the outputs and the last states; `h` are the first states, by default 0. See the class for shapes."""
        y, last, _ = self._run(x, h, None, cells=False)
        return y, last

    def _sequence(self, x: Any, h: Any, cell: Any, layer: int, direction: str) -> Any:
        return rnn(x, h, cell, *self._weights(layer, direction), relu=self.nonlinearity == "relu")


class LSTM(_Recurrent):
    """Long short-term memory.

    x: (batch, length, input_size) float; result: (batch, length, directions * hidden_size) float, and the last states and cells
    (h, c), each (num_layers * directions, batch, hidden_size). Arguments and errors are those of `RNN`.

    Reference: Hochreiter & Schmidhuber, "Long Short-Term Memory" (Neural Computation 9, 1997); forget gates: Gers, Schmidhuber &
    Cummins (2000).

    >>> import numpy as np
    >>> from allgrad import nn
    >>> y, (h, c) = nn.LSTM(4, 6, num_layers=2, rng=0)(np.ones((2, 5, 4), np.float32))
    >>> y.shape, h.shape, c.shape
    ((2, 5, 6), (2, 2, 6), (2, 2, 6))
    """

    rows_independent = True

    gates = 4

    def forward(self, x: Any, state: tuple[Any, Any] | None = None) -> tuple[Any, tuple[Any, Any]]:
        """Return the outputs and the last (h, c); `state` is the first (h, c), by default 0. See the class for shapes."""
        h, cell = (None, None) if state is None else state
        y, last, last_cell = self._run(x, h, cell, cells=True)
        return y, (last, last_cell)

    def _sequence(self, x: Any, h: Any, cell: Any, layer: int, direction: str) -> Any:
        return lstm(x, h, cell, *self._weights(layer, direction))


class GRU(_Recurrent):
    """Gated recurrent unit, in PyTorch's form: the reset gate acts after the product.

    x: (batch, length, input_size) float; result: (batch, length, directions * hidden_size) float, and the last states
    (num_layers * directions, batch, hidden_size). Arguments and errors are those of `RNN`.

    Reference: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (EMNLP 2014).

    >>> import numpy as np
    >>> from allgrad import nn
    >>> y, h = nn.GRU(4, 6, bidirectional=True, rng=0)(np.ones((2, 5, 4), np.float32))
    >>> y.shape, h.shape
    ((2, 5, 12), (2, 2, 6))
    """

    rows_independent = True

    gates = 3

    def forward(self, x: Any, h: Any = None) -> tuple[Any, Any]:
        """Return the outputs and the last states; `h` are the first states, by default 0. See the class for shapes."""
        y, last, _ = self._run(x, h, None, cells=False)
        return y, last

    def _sequence(self, x: Any, h: Any, cell: Any, layer: int, direction: str) -> Any:
        return gru(x, h, cell, *self._weights(layer, direction))
