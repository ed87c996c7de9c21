"""`from allgrad.sklearn import Classifier, Regressor`: the estimators of `allgrad.interop.sklearn`, under the name one types."""

from allgrad.interop.sklearn import Classifier as Classifier
from allgrad.interop.sklearn import Regressor as Regressor

__all__ = ["Classifier", "Regressor"]
