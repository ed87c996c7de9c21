"""Every differentiated function of scipy.linalg, one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from cases import Case

from allgrad.scipy import linalg

if TYPE_CHECKING:
    from collections.abc import Callable


def m(*shape: int) -> Callable[[np.random.Generator], Any]:
    """Any numbers."""
    return lambda rng: rng.standard_normal(shape)


def regular(n: int) -> Callable[[np.random.Generator], Any]:
    """A matrix far from singular, with eigenvalues away from the negative axis and from each other."""
    return lambda rng: rng.standard_normal((n, n)) * 0.3 + np.diag(np.arange(2.0, 2 + n))


def band(rows: int, n: int, diagonal: int) -> Callable[[np.random.Generator], Any]:
    def draw(rng: np.random.Generator) -> Any:
        ab = rng.standard_normal((rows, n))
        ab[diagonal] += 5
        return ab

    return draw


def case(name: str, *draws: Any, function: Any = None, label: str = "", **options: Any) -> Case:
    keywords = options.pop("keywords", {})
    wrt = tuple(i for i, draw in enumerate(draws) if callable(draw))
    complex_too = options.pop("complex", False)
    return Case(
        f"{name}{label}{keywords or ''}",
        function or getattr(linalg, name),
        lambda rng: (tuple(draw(rng) if callable(draw) else draw for draw in draws), keywords),
        wrt=wrt,
        complex=complex_too,
        **({"spellings": False, "rtol": 1e-5} | options),
    )


def of_hermitian(name: str, n: int = 3, **keywords: Any) -> Case:
    """A function that reads one triangle, as a function of the Hermitian part."""
    function = getattr(linalg, name)

    def symmetrized(a: Any, *rest: Any) -> Any:
        return function((a + np.swapaxes(a, 0, 1).conj()) / 2, *rest, **keywords)

    return case(name, regular(n), function=symmetrized, label=str(keywords or ""))


def up_to_sign(name: str, **keywords: Any) -> Any:
    """Eigenvectors squared: their sign is arbitrary."""
    function = getattr(linalg, name)

    def squared(*args: Any) -> Any:
        w, v = function(*args, **keywords)
        return w, v * v

    return squared


def factored(a: Any, b: Any) -> Any:
    return linalg.cho_solve(linalg.cho_factor(a @ np.swapaxes(a, 0, 1)), b)


def by_lu(a: Any, b: Any) -> Any:
    return tuple(linalg.lu_solve(linalg.lu_factor(a), b, trans=trans) for trans in (0, 1))


def riccati(name: str) -> Any:
    """By all four matrices; of q and r the symmetric parts count."""
    function = getattr(linalg, name)

    def solve(a: Any, b: Any, q: Any, r: Any) -> Any:
        q, r = q @ np.swapaxes(q, 0, 1) + np.eye(3), r @ np.swapaxes(r, 0, 1) + np.eye(2)
        return function(a, b, q, r)

    return solve


def positive_pair(a: Any, b: Any) -> Any:
    b = b @ np.swapaxes(b, 0, 1)
    w, v = linalg.eigh((a + np.swapaxes(a, 0, 1)) / 2, b)
    return w, v * v


# float32=False: SciPy itself answers in float64 (det, the Toeplitz functions, ...) or is too rough in float32.
CASES = [
    # matrix functions
    case("expm", m(3, 3), complex=True),
    case("expm", m(2, 3, 3), label=" of a batch"),
    case("logm", regular(3), float32=False),
    case("sqrtm", regular(3), complex=True),
    *[case(name, m(3, 3)) for name in ["cosm", "sinm", "coshm", "sinhm"]],
    *[case(name, lambda rng: 0.3 * rng.standard_normal((3, 3))) for name in ["tanm", "tanhm"]],
    case("fractional_matrix_power", regular(3), 0.4),
    case("fractional_matrix_power", regular(3), lambda rng: np.array(0.4), label=" by t", float32=False),
    case("expm_frechet", m(3, 3), m(3, 3), float32=False),
    # systems
    case("solve", regular(3), m(3, 2), complex=True),
    case("solve", regular(3), m(3)),
    case("solve", regular(3), m(3, 2), keywords={"transposed": True}),
    case("solve", regular(3), m(3, 2), keywords={"assume_a": "sym"}),
    case("solve", lambda rng: regular(3)(rng) + 3 * np.eye(3), m(3), keywords={"assume_a": "pos", "lower": True}),
    case("inv", regular(3), complex=True),
    case("det", regular(3), complex=True, float32=False),
    case("pinv", m(4, 3)),
    case("lstsq", m(4, 3), m(4), function=lambda a, b: linalg.lstsq(a, b)[0]),
    case("solve_triangular", regular(3), m(3, 2), complex=True),
    case("solve_triangular", regular(3), m(3), keywords={"lower": True, "trans": 1}),
    case("solve_triangular", regular(3), m(3), keywords={"unit_diagonal": True}),
    case("cho_solve", regular(3), m(3, 2), function=factored),
    case("lu_solve", m(3, 3), m(3, 2), function=by_lu),
    case("solve_banded", (1, 2), band(4, 5, 2), m(5)),
    case("solve_banded", (2, 0), band(3, 5, 0), m(5, 2), complex=True),
    case("solveh_banded", band(2, 5, 1), m(5)),
    case("solveh_banded", band(3, 5, 0), m(5, 2), keywords={"lower": True}),
    case("solve_sylvester", regular(3), regular(2), m(3, 2), complex=True),
    case("solve_continuous_lyapunov", regular(3), m(3, 3), complex=True),
    case(
        "solve_discrete_lyapunov", lambda rng: rng.standard_normal((3, 3)) * 0.3, m(3, 3), complex=True, float32=False
    ),
    *[
        case(name, m(3, 3), m(3, 2), m(3, 3), m(2, 2), function=riccati(name), float32=False)
        for name in ("solve_continuous_are", "solve_discrete_are")
    ],
    # structured matrices
    case("toeplitz", m(3)),
    case("toeplitz", m(3), m(4)),
    case("hankel", m(3)),
    case("hankel", m(3), m(4)),
    case("circulant", m(4)),
    case("companion", lambda rng: rng.uniform(1, 2, 4)),
    case("leslie", m(3), m(2)),
    case("block_diag", m(2, 3), m(2), m(1, 1)),
    case("khatri_rao", m(2, 3), m(4, 3)),
    *[case("convolution_matrix", m(3), 4, mode) for mode in ("full", "same", "valid")],
    case("convolution_matrix", m(5), 2, "same", label=" wide"),
    case("solve_toeplitz", lambda rng: np.append(4.0, rng.standard_normal(3)), m(4), float32=False),
    case("matmul_toeplitz", m(4), m(4, 2), float32=False),
    case("solve_circulant", lambda rng: np.append(4.0, rng.standard_normal(3)), m(4)),
    # decompositions
    of_hermitian("cholesky"),
    of_hermitian("cholesky", lower=True),
    case("lu", m(3, 3), complex=True),
    case("lu", m(4, 2)),
    case("lu", m(2, 4), keywords={"permute_l": True}),
    case("qr", m(4, 3), keywords={"mode": "economic"}),
    case("qr", m(3, 3), function=lambda a: linalg.qr(a, pivoting=True)[:2], label=" with pivots"),
    case("svd", m(4, 3), function=lambda a: linalg.svd(a, full_matrices=False)[1]),
    case("svdvals", m(4, 3)),
    case("eigh", regular(3), function=lambda a: up_to_sign("eigh")(a + np.swapaxes(a, 0, 1))),
    case("eigh", regular(3), regular(3), function=positive_pair, label=" of a pair"),
    of_hermitian("eigvalsh"),
    of_hermitian("eigvalsh", subset_by_index=[0, 1]),
    case(
        "eigh_tridiagonal",
        lambda rng: np.arange(4.0) * 3 + rng.random(4),
        m(3),
        function=up_to_sign("eigh_tridiagonal"),
    ),
    case("eigvalsh_tridiagonal", lambda rng: np.arange(4.0) * 3 + rng.random(4), m(3)),
    case("eigvals", regular(3), float32=False),
    case("eig", regular(3), function=lambda a: linalg.eig(a)[0], float32=False),
    case("polar", regular(3)),
    case("polar", m(2, 4), keywords={"side": "left"}),
    case("orthogonal_procrustes", m(5, 3), m(5, 3), float32=False),
    case("norm", m(3, 4)),
    case("norm", m(3, 4), keywords={"ord": "nuc"}),
    case("norm", m(3, 4), keywords={"ord": 1, "axis": 1}),
]
