"""What can go wrong on the tape, each kind under its own name.

Every message says what was asked, what came instead, and what to write.
"""

from allgrad.errors import AllgradError


class TapeError(AllgradError):
    """Base class of the errors that automatic differentiation raises."""


class NoRuleError(TapeError, TypeError):
    """A NumPy function, method or keyword that has no derivative here was called on a tracked Tensor."""


class LostGradientError(TapeError, TypeError):
    """A tracked Tensor was about to become plain numbers, and its gradient would have been lost.

    In `a[0] = t` NumPy raises a ValueError of its own, with this one as its cause.
    """


class NotDifferentiableError(TapeError, TypeError):
    """A gradient was asked for with respect to, or of, something that has none (integers, untracked values)."""


class CotangentError(TapeError, ValueError):
    """A cotangent or tangent is missing, or has the wrong shape or dtype."""


class RuleError(TapeError, ValueError):
    """A derivative rule was declared for, or asks for, an argument that the operation does not have."""


class GraphFreedError(TapeError, RuntimeError):
    """Backward reached a part of the graph that an earlier backward pass has already freed."""


class SavedArrayError(TapeError, RuntimeError):
    """An array that backward needs was overwritten after the forward pass saved it."""


class AssignmentError(TapeError, RuntimeError):
    """An in-place operation that cannot be differentiated, or cannot mean what it means in NumPy."""


class AnomalyError(TapeError, ArithmeticError):
    """Anomaly detection met the first NaN or infinity."""


class InFlightError(TapeError, RuntimeError):
    """A gradient was written, or emptied, while it was being reduced over the ranks."""


class ImplicitError(TapeError, ArithmeticError):
    """An implicit equation could not be solved, or its Jacobian is singular at the solution."""
