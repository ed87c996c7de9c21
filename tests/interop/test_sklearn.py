"""The estimators as scikit-learn sees them: its own checks, its tools, frames, copies, and the bits of a seed."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6", reason="the estimators are for scikit-learn 1.6 and newer")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from allgrad.data import DataError
from allgrad.sklearn import Classifier, Regressor

EXCEPTIONS = {
    "check_sample_weight_equivalence_on_dense_data": "Training is by batches in random order: a row that is there twice is in "
    "two batches, and one of weight 2 in one.",
}
SMALL = {"hidden": (16,), "epochs": 20, "lr": 0.03, "random_state": 0}


@parametrize_with_checks([Classifier(**SMALL), Regressor(**SMALL)], expected_failed_checks=lambda _: EXCEPTIONS)
def test_the_checks_of_scikit_learn(estimator, check) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    return X, 50 + 10 * X[:, 0] - X[:, 1], np.where(X[:, 0] > 0.5, "high", np.where(X[:, 0] > -0.5, "middle", "low"))


@pytest.fixture(scope="module")
def classifier(rows):
    return Classifier(hidden=(16,), epochs=60, lr=0.01, random_state=1).fit(rows[0], rows[2])


def test_copies_predict_the_same(rows, classifier) -> None:
    joblib = pytest.importorskip("joblib", reason="scikit-learn brings joblib")
    X, _, labels = rows
    expected = classifier.predict_proba(X)
    file = io.BytesIO()
    joblib.dump(classifier, file)
    file.seek(0)
    for copy in (pickle.loads(pickle.dumps(classifier)), joblib.load(file), clone(classifier).fit(X, labels)):
        assert copy.predict_proba(X).tobytes() == expected.tobytes()
        assert copy.predict(X).tolist() == classifier.predict(X).tolist()
    assert np.allclose(np.exp(classifier.predict_log_proba(X)), expected)
    assert classifier.score(X, labels) > 0.9


def test_a_pickle_is_read_by_another_process_and_has_its_bits(rows, classifier, tmp_path) -> None:
    (tmp_path / "model.pickle").write_bytes(pickle.dumps((classifier, rows[0])))
    code = "import pickle, sys; m, X = pickle.load(open(sys.argv[1], 'rb')); print(m.predict_proba(X).tobytes().hex())"
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.pickle")], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == classifier.predict_proba(rows[0]).tobytes().hex()


def test_the_same_seed_gives_the_same_bits_and_another_one_others(rows) -> None:
    X, values, _ = rows
    one, same, other = (
        Regressor(dropout=0.1, **{**SMALL, "random_state": seed}).fit(X, values).predict(X) for seed in (3, 3, 4)
    )
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()


def test_searches_and_pipelines(rows) -> None:
    X, values, labels = rows
    search = GridSearchCV(Classifier(**SMALL), {"hidden": [(4,), (16,)]}, cv=3).fit(X, labels)
    assert search.best_score_ > 0.7
    pipeline = make_pipeline(StandardScaler(), Regressor(hidden=(16,), epochs=60, lr=0.02, random_state=0))
    assert np.mean(cross_val_score(pipeline, X, values, cv=3)) > 0.9


def test_early_stopping_keeps_the_best_weights(rows, capsys) -> None:
    X, _, labels = rows
    noisy = np.where(np.random.default_rng(2).random(len(labels)) < 0.3, "low", labels)
    model = Classifier(hidden=(64,), lr=0.03, epochs=200, early_stopping=True, patience=5, random_state=0, verbose=True)
    model.fit(X, noisy)
    assert model.n_epochs_ < 200
    assert model.n_epochs_ == int(np.argmin(model.validation_loss_)) + 6
    assert capsys.readouterr().out.count("\n") == model.n_epochs_


def test_weights_and_class_weights_move_the_decision(rows) -> None:
    X = np.repeat([[0.0], [1.0]], [90, 30], axis=0)
    y = np.tile([0, 0, 1], 40)
    share = Classifier(**SMALL).fit(X, y).predict_proba([[0.0]])[0, 1]
    weighted = Classifier(**SMALL).fit(X, y, sample_weight=np.where(y == 1, 4.0, 1.0)).predict_proba([[0.0]])[0, 1]
    balanced = Classifier(class_weight="balanced", **SMALL).fit(X, y).predict_proba([[0.0]])[0, 1]
    assert share == pytest.approx(1 / 3, abs=0.08)
    assert weighted == pytest.approx(2 / 3, abs=0.08)
    assert balanced == pytest.approx(1 / 2, abs=0.08)
    # A sample of weight 0 is no sample: its target may be anything.
    values = np.where(y == 1, 1e6, 5.0)
    assert np.allclose(Regressor(**SMALL).fit(X, values, sample_weight=(y == 0)).predict(X), 5.0, atol=0.05)


def test_frames_with_texts_dates_and_gaps(rows) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is one of the libraries whose frames are read")
    X, values, _ = rows
    frame = pandas.DataFrame(
        {
            "size": X[:, 0],
            "kind": np.where(X[:, 1] > 0, "a", "b"),
            "code": (X[:, 1] > 0).astype(int),
            "sold": pandas.date_range("2024-01-01", periods=len(X)),
        }
    )
    frame.loc[3, ["size", "kind"]] = None
    with pytest.raises(DataError, match=r"X, row 4, column 'size': the value is missing"):
        Regressor(**SMALL).fit(frame, values)
    model = Regressor(missing="mean", unseen="ignore", categorical=["code", "kind"], **SMALL).fit(frame, values)
    assert [column["type"] for column in model.fitted_["columns"]] == ["numeric", "categorical", "categorical", "date"]
    assert list(model.feature_names_in_) == ["size", "kind", "code", "sold"]
    assert model.score(frame, values) > 0.8
    other = frame.assign(kind="c")
    assert np.isfinite(model.predict(other)).all()
    with pytest.raises(DataError, match=r"expected one of 'a', 'b'\. Got 'c'"):
        Regressor(missing="mean", **SMALL).fit(frame, values).predict(other)
    with pytest.raises(DataError, match=r"categorical names columns that X does not have: \['colour'\]"):
        Regressor(categorical=["colour"], **SMALL).fit(frame.dropna(), values[1:])
