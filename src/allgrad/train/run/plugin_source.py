"""Does the source of a plugin leave the functions whose bits are the same on every CPU?

The tape shows what a model computes with Tensors, but not what a plugin computes with plain arrays: a table made by `np.sin` in
`__init__`, a feature made by `np.log` from the inputs. So the text of the plugin is read as well. Reading is strict: what is not
known to be portable counts as not portable, and the reason names the line. It sees names, not values; what hides behind
`getattr`, or in a module that the plugin imports, it does not follow, and such an import is itself a reason.
"""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING

from allgrad.train.run.portable_operations import PORTABLE_FUNCTIONS, words

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["source_reasons"]

_PACKAGES = frozenset(sys.stdlib_module_names) | {"allgrad", "numpy", "pydantic", "annotated_types"}
_C_LIBRARY = frozenset({"cmath", "statistics", "random"})
_MATH = words(
    """
    ceil comb copysign e fabs factorial floor fsum gcd inf isclose isfinite isinf isnan isqrt lcm nan pi prod sqrt trunc
    """
)
_ZIGGURAT = "NumPy calls the C library"
_METHODS = {
    "dot": "products belong to BLAS",
    "normal": _ZIGGURAT,
    "standard_normal": _ZIGGURAT,
    "orthogonal": "LAPACK's QR",
}


def source_reasons(name: str, source: str) -> list[str]:
    """Why code is not known to be portable, a line of the source each; empty if it is.

    Example:
        >>> source_reasons("mine.py", "import numpy as np\\ndef f(x):\\n    return np.exp(x) + np.sum(x)")
        ['mine.py, line 3, uses np.exp']
    """
    tree = ast.parse(source)
    modules = dict(_imported(tree))
    found = {(line, what) for node in ast.walk(tree) for line, what in _reasons(node, modules)}
    return [f"{name}, line {line}, {what}" for line, what in sorted(found)]


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The names that stand for NumPy or for `math`, each with which of the two."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in ("numpy", "allgrad.numpy", "math"):
                    yield alias.asname or alias.name, alias.name.removeprefix("allgrad.")
        elif isinstance(node, ast.ImportFrom) and node.module == "allgrad":
            yield from ((alias.asname or alias.name, "numpy") for alias in node.names if alias.name == "numpy")


def _reasons(node: ast.AST, modules: dict[str, str]) -> Iterator[tuple[int, str]]:
    match node:
        case ast.Import():
            yield from ((node.lineno, text) for alias in node.names for text in _import(alias.name))
        case ast.ImportFrom(module=str(module), level=0):
            yield from ((node.lineno, text) for text in _import(module))
            known = _known(module)
            if known is not None:
                yield from ((node.lineno, f"uses {module}.{a.name}") for a in node.names if a.name not in known)
        case ast.ImportFrom():
            yield node.lineno, "imports a module that is not checked"
        case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in modules:
            known = _known(modules[name])
            if known is not None and attribute not in known:
                yield node.lineno, f"uses {name}.{attribute}"
        case ast.Attribute(value=ast.Name(id="init") | ast.Attribute(attr="init"), attr="normal"):
            pass  # allgrad's own, which is portable
        case ast.Attribute(attr=attribute) if attribute in _METHODS:
            yield node.lineno, f"uses .{attribute} ({_METHODS[attribute]})"
        case ast.BinOp(op=ast.MatMult()) | ast.AugAssign(op=ast.MatMult()):
            yield node.lineno, "multiplies matrices with @"
        case ast.BinOp(op=ast.Pow(), right=right, left=left):
            if not (_is_number(right, 0, 2) or (isinstance(left, ast.Constant) and isinstance(right, ast.Constant))):
                yield node.lineno, "computes a power other than a square"


def _import(module: str) -> Iterator[str]:
    root = module.partition(".")[0]
    if root not in _PACKAGES or root in _C_LIBRARY or module.startswith(("numpy.linalg", "numpy.fft", "allgrad.scipy")):
        yield f"imports {module}"


def _known(module: str) -> frozenset[str] | None:
    """The portable names of a module, where only some are."""
    return {"numpy": PORTABLE_FUNCTIONS, "allgrad.numpy": PORTABLE_FUNCTIONS, "math": _MATH}.get(module)


def _is_number(node: ast.expr, *values: int) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value in values
