"""Estimators for scikit-learn: a multilayer perceptron on the same preprocessing as a run's, with fit, predict and score.

    from allgrad.sklearn import Classifier
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(Classifier(random_state=0), {"hidden": [(32,), (64, 64)]})
    search.fit(frame, labels)

Numbers are standardised. In a frame (pandas, polars, Arrow), columns of texts, categories and bools become one 0/1 input per
category, and columns of dates their time and its places in the year, the week and the day; an array is all numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import (
        _check_sample_weight,
        _check_y,
        check_consistent_length,
        check_is_fitted,
        validate_data,
    )
except ImportError as error:
    raise ImportError("allgrad.sklearn needs scikit-learn 1.6 or newer: pip install allgrad[sklearn]") from error

from allgrad.data.column_values import mean_and_scale
from allgrad.data.csv_files import Table
from allgrad.data.errors import DataError
from allgrad.data.fit import Columns, fit_inputs
from allgrad.data.frames import is_frame, table_of
from allgrad.data.number_texts import NumberTexts
from allgrad.data.preprocess import encode_inputs
from allgrad.data.split import split_rows
from allgrad.interop.fitting import Network, Rows, Settings, fit_network, predicted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Classifier", "Regressor"]


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators share. A subclass says what its targets are."""

    _classes: ClassVar[bool]

    def __init__(
        self,
        hidden: Sequence[int] = (64, 64),
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        lr: float = 3e-3,
        weight_decay: float = 1e-4,
        batch_size: int | Literal["auto"] = "auto",
        epochs: int = 100,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        tol: float = 1e-4,
        categorical: Sequence[str] | Literal["auto"] = "auto",
        missing: Literal["error", "mean", "category"] = "error",
        unseen: Literal["error", "ignore"] = "error",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.tol = tol
        self.categorical = categorical
        self.missing = missing
        self.unseen = unseen
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing != "error"
        tags.input_tags.string = False
        return tags

    def _fit(self, X: Any, targets: NDArray[Any], weights: NDArray[Any], outputs: int) -> None:
        """Fit preprocessing and network to targets (rows, outputs).

        Raises:
            ValueError: rows, targets or parameters are not what they should be.
        """
        table = self._table(X, reset=True)
        counted = np.flatnonzero(weights > 0)  # a sample of weight 0 is no sample
        if not len(counted):
            raise ValueError(f"{type(self).__name__}: all sample weights are zero. At least one must be positive.")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        train, valid = counted, None
        if self.early_stopping:
            groups = targets[counted].argmax(axis=1) if self._classes else None
            kept, held_out = split_rows(
                len(counted), self.validation_fraction, seed, groups=groups, what=type(self).__name__
            )
            train, valid = counted[kept], counted[held_out]
        self.fitted_ = {
            "kind": "table",
            "missing": self.missing,
            "columns": fit_inputs(table, self._columns(table), train),
        }
        inputs = encode_inputs(table, self.fitted_)
        network = Network((inputs.shape[1], *self.hidden, outputs), self.activation, self.dropout)
        rows = Rows(inputs, targets.astype(np.float32), weights.astype(np.float32))
        settings = Settings(
            self.lr, self.weight_decay, self._batch_size(len(train)), self.epochs, self.patience, self.tol, seed,
            print if self.verbose else None,
        )  # fmt: skip
        self.model_, self.loss_curve_, self.validation_loss_ = fit_network(
            network, rows.take(train), None if valid is None else rows.take(valid), settings, classes=self._classes
        )
        self.network_ = network
        self.n_epochs_ = len(self.loss_curve_)

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        return predicted(self.model_, encode_inputs(self._table(X, reset=False), self.fitted_))

    def _table(self, X: Any, *, reset: bool) -> Table:
        """X as a table, after scikit-learn's own checks of names, lengths and values."""
        if is_frame(X):
            names = [str(name) for name in getattr(X, "column_names", None) or X.columns]
            validate_data(self, X, reset=reset, skip_check_array=True)
            table = table_of(X, names, "X")
            if not len(table):
                raise ValueError(f"{type(self).__name__}: found array with 0 sample(s); at least 1 is required.")
            return table
        finite: Any = True if self.missing == "error" else "allow-nan"
        array = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite=finite)
        return Table({f"x{n}": NumberTexts(array[:, n]) for n in range(array.shape[1])}, "X")

    def _columns(self, table: Table) -> Columns:
        """Which column is what: numbers, dates, and the rest categories, unless `categorical` says it."""
        named = set() if self.categorical == "auto" else set(self.categorical)
        if unknown := named - set(table.columns):
            raise DataError(
                f"{type(self).__name__}: categorical names columns that X does not have: {sorted(unknown)}."
            )
        numeric = [n for n, texts in table.columns.items() if isinstance(texts, NumberTexts) and n not in named]
        dates = [n for n, texts in table.columns.items() if n not in named and n not in numeric and _are_dates(texts)]
        categorical = [name for name in table.columns if name not in numeric and name not in dates]
        return Columns(
            "", numeric=numeric, categorical=categorical, dates=dates, date_format="iso", unseen=self.unseen,
            missing=self.missing,
        )  # fmt: skip

    def _batch_size(self, rows: int) -> int:
        return int(np.clip(rows // 20, 16, 256)) if self.batch_size == "auto" else int(self.batch_size)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if "model_" in state:  # as arrays: a pickled file does not depend on how a model is made
            state = {**state, "model_": self.model_.state_dict()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model_" in state:
            self.model_ = self.network_.build()
            self.model_.load_state_dict(state["model_"])
            self.model_.eval()


class Classifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A multilayer perceptron for classes, trained with cross-entropy.

    X: (rows, columns), an array of numbers or a frame; y: (rows,) labels of any kind.

    A sample's weight multiplies its loss. A weight of 2 is not the same as having the row twice, because the two copies would be
    in different batches.

    Args:
        hidden: units of each hidden layer.
        activation: function after each hidden layer: "relu", "gelu", "tanh", "silu", ...
        dropout: probability of dropping a unit after each hidden layer, in training.
        lr: learning rate of Adam, constant.
        weight_decay: decoupled weight decay per unit of the learning rate.
        batch_size: rows in a step; "auto": a twentieth of the rows, at least 16 and at most 256.
        epochs: passes over the rows, at most.
        early_stopping: hold out a fraction of the rows (of each class), stop when their loss has stopped improving, and keep the
            best weights.
        validation_fraction: the fraction of the rows that is held out for that.
        patience: epochs without an improvement after which training stops.
        tol: smallest change of the held-out loss that counts as an improvement.
        categorical: columns of a frame that are categories although they hold numbers; the others are found ("auto": all).
        missing: what happens to missing values: "error", "mean" (the training rows' mean, or the share of each category), or
            "category" (an additional 0/1 input, or a category of its own).
        unseen: what happens to categories that the training rows did not have: "error", or "ignore" (all its inputs are 0).
        random_state: an integer, a `RandomState` or None; the same one gives the same bits.
        verbose: print a line per epoch.
        class_weight: None, "balanced", or class to weight.

    Attributes:
        classes_: the labels, sorted, in the order of `predict_proba`.
        model_: the trained `nn.Module`, on encoded inputs.
        fitted_: the preprocessing, as a run stores it.
        loss_curve_, validation_loss_: the loss of each epoch on the training rows, and on the held-out ones.
        n_epochs_: how many epochs were run.
        n_features_in_, feature_names_in_: the columns, as scikit-learn has them.

    Raises:
        ValueError: X, y or a parameter is not what it should be (`DataError` for a value, with its place).

    Example:
        >>> X = np.linspace(-1, 1, 40)[:, None]
        >>> Classifier(hidden=(8,), epochs=200, random_state=0).fit(X, X[:, 0] > 0).predict([[-0.9], [0.9]])
        array([False,  True])
    """

    _classes = True

    def __init__(
        self,
        hidden: Sequence[int] = (64, 64),
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        lr: float = 3e-3,
        weight_decay: float = 1e-4,
        batch_size: int | Literal["auto"] = "auto",
        epochs: int = 100,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        tol: float = 1e-4,
        categorical: Sequence[str] | Literal["auto"] = "auto",
        missing: Literal["error", "mean", "category"] = "error",
        unseen: Literal["error", "ignore"] = "error",
        random_state: Any = None,
        verbose: bool = False,
        class_weight: Any = None,
    ) -> None:
        super().__init__(
            hidden, activation=activation, dropout=dropout, lr=lr, weight_decay=weight_decay, batch_size=batch_size,
            epochs=epochs, early_stopping=early_stopping, validation_fraction=validation_fraction, patience=patience, tol=tol,
            categorical=categorical, missing=missing, unseen=unseen, random_state=random_state, verbose=verbose,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Classifier:
        """Train on rows X with labels y; a sample counts `sample_weight` times in the loss."""
        from sklearn.utils.class_weight import compute_sample_weight

        y = _checked_targets(self, y, numbers=False)
        check_classification_targets(y)
        check_consistent_length(X, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        weights = _check_sample_weight(sample_weight, np.empty((len(y), 1)), ensure_non_negative=True)
        if self.class_weight is not None:
            weights = weights * compute_sample_weight(self.class_weight, y)
        self._fit(X, np.eye(len(self.classes_), dtype=np.float32)[codes], weights, len(self.classes_))
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest label of each row: (rows,)."""
        chosen = self._outputs(X).argmax(axis=1)
        found: NDArray[Any] = self.classes_[chosen]
        return found

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class for each row: (rows, classes) float64."""
        logits = self._outputs(X)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
        return shares

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """The logarithm of `predict_proba`."""
        logits = self._outputs(X)
        shifted = logits - logits.max(axis=1, keepdims=True)
        found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return found


class Regressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A multilayer perceptron for numbers, trained with the squared error of the standardised target.

    X: (rows, columns), an array of numbers or a frame; y: (rows,) numbers. Parameters and attributes are those of `Classifier`,
    without `class_weight` and `classes_`; `score` is r2.

    Example:
        >>> X = np.linspace(-1, 1, 40)[:, None]
        >>> Regressor(hidden=(16,), epochs=200, random_state=0).fit(X, 1000 * X[:, 0]).score(X, 1000 * X[:, 0]) > 0.99
        True
    """

    _classes = False

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Regressor:
        """Train on rows X with values y; a sample counts `sample_weight` times in the loss."""
        y = _checked_targets(self, y, numbers=True).astype(np.float64)
        check_consistent_length(X, y)
        weights = _check_sample_weight(sample_weight, np.empty((len(y), 1)), ensure_non_negative=True)
        self.target_mean_, self.target_scale_ = mean_and_scale(y[weights > 0] if (weights > 0).any() else y)
        self._fit(X, ((y - self.target_mean_) / self.target_scale_)[:, None], weights, 1)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """The value of each row: (rows,) float64."""
        outputs = self._outputs(X)[:, 0]
        return outputs * self.target_scale_ + self.target_mean_


def _checked_targets(estimator: Any, y: Any, *, numbers: bool) -> NDArray[Any]:
    """The targets as a vector without NaN and infinity, with scikit-learn's own messages where they are not that."""
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None.")
    found: NDArray[Any] = _check_y(y, y_numeric=numbers, estimator=estimator)
    return found


def _are_dates(texts: Sequence[str]) -> bool:
    """Whether a column was one of dates: all texts are what `column_of` makes of them."""
    given = [text for text in texts if text]
    return bool(given) and all(len(text) >= 19 and text[4] == text[7] == "-" and text[10] == "T" for text in given)
