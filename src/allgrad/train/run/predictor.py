"""`allgrad.load`: a run's model together with its preprocessing, for rows as people have them.

The outputs are computed in blocks of `BLOCK` rows, whose borders do not depend on the number of ranks. So a row's prediction has
the same bits on any number of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import comm, no_grad
from allgrad.data.rows import PreparedRows, answers, label_names, prepare_rows
from allgrad.errors import UsageError
from allgrad.train.run.model import load_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from allgrad.train.run.model import LoadedModel

__all__ = ["BLOCK", "Predictor", "load"]

BLOCK = 256
"""Rows that the model sees at once."""


def load(
    directory: str | Path,
    *,
    best: bool = False,
    plugins: Sequence[str | Path] = (),
    world: comm.World | None = None,
) -> Predictor:
    """A run's model and preprocessing. The training data are not needed.

    Args:
        directory: the run's, or one of its checkpoints.
        best: the checkpoint with the best metric instead of the newest.
        plugins: what registered the run's own components.
        world: the ranks that share the work; by default this process alone.

    Raises:
        RunDirectoryError: it is not a run's directory, or has no checkpoint.
        CheckpointError: no checkpoint is whole, or its weights do not fit the model.

    Example:
        >>> import allgrad
        >>> diamonds = allgrad.load("runs/diamonds")  # doctest: +SKIP
        >>> diamonds.predict([{"carat": 0.5, "cut": "Ideal", ...}])  # doctest: +SKIP
        array([1543.2])
    """
    return Predictor(load_model(directory, best=best, plugins=plugins, world=world), world)


class Predictor:
    """A trained model with the preprocessing that was learned from its training data.

    Attributes:
        model: the module itself, in evaluation mode.
        info, fitted: what the run stored of its training data.
        config: the run's configuration.
        step: after how many steps the weights were saved.
        classes: the names of the classes, or the tokens of the vocabulary, in the order of the outputs; None for values.
    """

    def __init__(self, loaded: LoadedModel, world: comm.World | None = None) -> None:
        self.model, self.info, self.fitted = loaded.model, loaded.info, loaded.fitted
        self.config, self.step = loaded.config, loaded.step
        self.classes = label_names(self.info, self.fitted)
        self._world = world or comm.World()

    def predict(self, rows: Any) -> NDArray[Any]:
        """What the model says of each row: a value in the units of the target, the name of a class, or the next token.

        Args:
            rows: a list of dicts, a dict of columns, a frame (pandas, polars, Arrow) or an array; for a model of text, a list of
                texts. Columns may be in any order, and further ones are ignored.

        Returns:
            (rows,), or (rows, *shape of one target) for several values. Where the model was trained without rows that have
            missing values (`missing: drop`), such a row's prediction is NaN, or the empty text.

        Raises:
            DataError: a column is missing, or a value is not what the model was trained on; with its place.
        """
        prepared = prepare_rows(rows, self.info, self.fitted)
        return spread(answers(self.outputs(prepared), self.info, self.fitted), prepared)

    def predict_proba(self, rows: Any) -> NDArray[np.float64]:
        """The probability of each of `classes` for each row: (rows, classes) float64; NaN where `predict` says nothing.

        Raises:
            UsageError: the model predicts values.
            DataError: as `predict`.
        """
        if self.classes is None:
            raise UsageError("predict_proba: this model predicts values and not classes. Use predict.")
        prepared = prepare_rows(rows, self.info, self.fitted)
        return spread(probabilities(self.outputs(prepared)), prepared)

    def outputs(self, prepared: PreparedRows) -> NDArray[Any]:
        """The model's own outputs for the rows that are used: (rows, outputs); for text, those after the last token.

        All ranks call this together with the same rows, and each of them gets all outputs.
        """
        count = -(-len(prepared.inputs) // BLOCK)  # rounded up
        size, rank = self._world.size, self._world.rank
        mine = range(count * rank // size, count * (rank + 1) // size)
        blocks = [self._block(prepared, slice(number * BLOCK, (number + 1) * BLOCK)) for number in mine]
        if not count:
            blocks = [self._block(prepared, slice(0, 0))]
        return _gathered(self._world, blocks)

    def _block(self, prepared: PreparedRows, rows: slice) -> NDArray[Any]:
        with no_grad():
            outputs: NDArray[Any] = self.model(prepared.inputs[rows]).numpy()
        if prepared.lengths is None:
            return outputs
        last: NDArray[Any] = outputs[np.arange(len(outputs)), prepared.lengths[rows] - 1]
        return last


def probabilities(outputs: NDArray[Any]) -> NDArray[np.float64]:
    """Softmax of logits (rows, classes), in float64.

    Example:
        >>> probabilities(np.zeros((1, 4)))
        array([[0.25, 0.25, 0.25, 0.25]])
    """
    logits = np.asarray(outputs, np.float64)
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: NDArray[np.float64] = raised / raised.sum(axis=-1, keepdims=True)
    return found


def spread(values: NDArray[Any], prepared: PreparedRows) -> NDArray[Any]:
    """Answers for the rows that are used, as answers for all rows: NaN, or the empty text, for the others."""
    if len(prepared.used) == prepared.count:
        return values
    everywhere = np.full((prepared.count, *values.shape[1:]), "" if values.dtype.kind == "U" else np.nan, values.dtype)
    everywhere[prepared.used] = values
    return everywhere


def _gathered(world: comm.World, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """All ranks' blocks, one rank after another."""
    if world.size == 1:
        return np.concatenate(blocks)
    shapes = world.all_gather_json([[sum(map(len, blocks)), *blocks[0].shape[1:]] if blocks else None])
    sample = next(shape[1:] for (shape,) in shapes if shape is not None)
    lengths = [0 if shape is None else shape[0] for (shape,) in shapes]
    padded = np.zeros((max(lengths), *sample), np.float32)
    if blocks:
        padded[: sum(map(len, blocks))] = np.concatenate(blocks)
    everyone = world.all_gather(padded)
    return np.concatenate([rows[:length] for rows, length in zip(everyone, lengths, strict=True)])
