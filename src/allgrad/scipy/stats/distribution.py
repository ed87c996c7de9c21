"""Distributions of one variable: how their methods follow from functions of the standardized variable.

A continuous distribution is declared by functions of z = (x - loc) / scale and its shape parameters; a discrete one by
functions of k = x - loc. The methods have SciPy's names and signatures, frozen distributions included, and on plain numbers
they are SciPy's own. They are differentiated by x (or q), the shapes, loc and scale. Outside the support the log-density is
-inf and the derivative 0; with invalid parameters the result is NaN, as in SciPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.scipy.registry import TABLE, Row, operand, tracked, value, values
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Callable

OF_VARIABLE = ("logpdf", "pdf", "logpmf", "pmf", "cdf", "sf", "logcdf", "logsf", "ppf", "isf")
OF_PARAMETERS = ("mean", "var", "std", "median", "entropy")


class Distribution:
    """A distribution of `scipy.stats` whose methods take Tensors.

    Args:
        name: in scipy.stats.
        inside: a point in the support, or a function of the shapes: where z is outside, functions are evaluated here.
        functions: by name, functions of (z, *shapes) for logpdf or logpmf, cdf, sf, logcdf, logsf; of (q, *shapes) for ppf and
            isf; of the shapes for mean, var and entropy, all for loc = 0 and scale = 1.
    """

    def __init__(self, name: str, *, inside: Any = 0.0, **functions: Any) -> None:
        self.name = name
        self.scipy = getattr(stats, name)
        self.discrete = "logpmf" in functions
        self.names = tuple(self.scipy.shapes.split(", ")) if self.scipy.shapes else ()
        self.inside = inside
        self.functions: dict[str, Callable[..., Any]] = functions
        self._complete()
        for method in (*OF_VARIABLE, *OF_PARAMETERS):
            if method in self.functions:
                TABLE.add(Row(f"{name}.{method}", "stats", "differentiated"))

    def _complete(self) -> None:
        """The methods that follow from others: pdf, sf, logcdf, logsf, isf, std, median."""
        f = self.functions
        for log_name, name in (("logpdf", "pdf"), ("logpmf", "pmf")):
            if log_name in f:
                f[name] = lambda *args, _log=f[log_name]: np.exp(_log(*args))
        if "cdf" in f:
            f.setdefault("sf", lambda *args: 1 - f["cdf"](*args))
            f.setdefault("logcdf", lambda *args: np.log(f["cdf"](*args)))
            f.setdefault("logsf", lambda *args: np.log(f["sf"](*args)))
        if "ppf" in f:
            f.setdefault("isf", lambda q, *shapes: f["ppf"](1 - q, *shapes))
            f.setdefault("median", lambda *shapes: f["ppf"](np.asarray(0.5), *shapes))
        if "var" in f:
            f.setdefault("std", lambda *shapes: np.sqrt(f["var"](*shapes)))

    def __getattr__(self, method: str) -> Any:
        if method in self.functions:
            compute = self._of_variable if method in OF_VARIABLE else self._of_parameters
            return lambda *args, **keywords: (
                compute(method, *args, **keywords) if tracked((args, keywords)) else self._plain(method, args, keywords)
            )
        if method.startswith("_") or not hasattr(self.scipy, method):
            raise AttributeError(f"{self.name!r} has no method {method!r}")
        return self._refusing(method)

    def _plain(self, method: str, args: Any, keywords: Any) -> Any:
        return getattr(self.scipy, method)(*args, **keywords)

    def _refusing(self, method: str) -> Any:
        def plain_only(*args: Any, **keywords: Any) -> Any:
            if tracked((args, keywords)):
                raise NotDifferentiableError(
                    f"scipy.stats.{self.name}.{method} is not differentiated; pass .detach()ed Tensors. "
                    f"These are: {', '.join(m for m in (*OF_VARIABLE, *OF_PARAMETERS) if m in self.functions)}."
                )
            return self._plain(method, args, keywords)

        return plain_only

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """The distribution with these parameters."""
        return Frozen(self, args, keywords) if tracked((args, keywords)) else self.scipy(*args, **keywords)

    def _parameters(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[list[Any], Any, Any, Any]:
        """Shapes, loc, scale, and where they are valid."""
        names = (*self.names, "loc", "scale") if not self.discrete else (*self.names, "loc")
        given = dict(zip(names, args, strict=False)) | keywords
        missing, unknown = set(self.names) - set(given), set(given) - set(names)
        if missing or unknown or len(args) > len(names):
            raise TypeError(f"stats.{self.name} takes the parameters {', '.join(names)}; got {', '.join(given)}.")
        shapes = [operand(given[name]) for name in self.names]
        loc, scale = operand(given.get("loc", 0.0)), operand(given.get("scale", 1.0))
        valid = np.asarray(self.scipy._argcheck(*values(shapes)), dtype=bool) & (value(scale) > 0)
        return shapes, loc, scale, valid

    def _of_variable(self, method: str, x: Any, *args: Any, **keywords: Any) -> Any:
        shapes, loc, scale, valid = self._parameters(args, keywords)
        function = self.functions[method]
        with np.errstate(all="ignore"):
            if method in ("ppf", "isf"):
                return np.where(valid, function(operand(x), *shapes) * scale + loc, np.nan)
            z = (operand(x) - loc) / scale
            low, high = self.scipy.support(*values(shapes))
            plain = value(z)
            within = (plain >= low) & (plain <= high)
            if self.discrete and method in ("pmf", "logpmf"):
                within = within & (plain == np.floor(plain))
            inside = self.inside(*values(shapes)) if callable(self.inside) else self.inside
            result = function(np.where(within, z, inside), *shapes)
            if method == "logpdf":
                result = result - np.log(scale)
            elif method == "pdf":
                result = result / scale
            below, above = OUTSIDE[method]
            result = np.where(within, result, np.where(plain < low, below, above))
            return np.where(valid & ~np.isnan(plain), result, np.nan)

    def _of_parameters(self, method: str, *args: Any, **keywords: Any) -> Any:
        shapes, loc, scale, valid = self._parameters(args, keywords)
        with np.errstate(all="ignore"):
            result = self.functions[method](*shapes)
            if method in ("mean", "median"):
                result = result * scale + loc
            elif method == "var":
                result = result * scale * scale
            elif method == "std":
                result = result * scale
            elif not self.discrete:
                result = result + np.log(scale) + 0.0 * loc
            return np.where(valid, result, np.nan)


OUTSIDE: dict[str, tuple[float, float]] = {
    "pdf": (0.0, 0.0),
    "pmf": (0.0, 0.0),
    "logpdf": (-np.inf, -np.inf),
    "logpmf": (-np.inf, -np.inf),
    "cdf": (0.0, 1.0),
    "sf": (1.0, 0.0),
    "logcdf": (-np.inf, 0.0),
    "logsf": (0.0, -np.inf),
}
"""The values below and above the support."""


class Frozen:
    """A distribution with its parameters, of which some are Tensors."""

    def __init__(self, distribution: Distribution, args: Any, keywords: Any) -> None:
        self.distribution, self.args, self.keywords = distribution, args, keywords

    def __getattr__(self, method: str) -> Any:
        function = getattr(self.distribution, method)
        if method in OF_PARAMETERS:
            return lambda: function(*self.args, **self.keywords)
        return lambda x: function(x, *self.args, **self.keywords)
