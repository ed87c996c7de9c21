"""`scipy.linalg` with derivatives: the same names and signatures, for arrays and Tensors."""

from typing import Any as _Any

import scipy.linalg as _scipy_linalg

from allgrad.scipy.linalg.decompositions import cho_factor as cho_factor
from allgrad.scipy.linalg.decompositions import cholesky as cholesky
from allgrad.scipy.linalg.decompositions import eig as eig
from allgrad.scipy.linalg.decompositions import eigh as eigh
from allgrad.scipy.linalg.decompositions import eigh_tridiagonal as eigh_tridiagonal
from allgrad.scipy.linalg.decompositions import eigvals as eigvals
from allgrad.scipy.linalg.decompositions import eigvalsh as eigvalsh
from allgrad.scipy.linalg.decompositions import eigvalsh_tridiagonal as eigvalsh_tridiagonal
from allgrad.scipy.linalg.decompositions import hessenberg as hessenberg
from allgrad.scipy.linalg.decompositions import lu as lu
from allgrad.scipy.linalg.decompositions import lu_factor as lu_factor
from allgrad.scipy.linalg.decompositions import norm as norm
from allgrad.scipy.linalg.decompositions import null_space as null_space
from allgrad.scipy.linalg.decompositions import orth as orth
from allgrad.scipy.linalg.decompositions import orthogonal_procrustes as orthogonal_procrustes
from allgrad.scipy.linalg.decompositions import polar as polar
from allgrad.scipy.linalg.decompositions import qr as qr
from allgrad.scipy.linalg.decompositions import schur as schur
from allgrad.scipy.linalg.decompositions import svd as svd
from allgrad.scipy.linalg.decompositions import svdvals as svdvals
from allgrad.scipy.linalg.matrix_functions import coshm as coshm
from allgrad.scipy.linalg.matrix_functions import cosm as cosm
from allgrad.scipy.linalg.matrix_functions import expm as expm
from allgrad.scipy.linalg.matrix_functions import expm_frechet as expm_frechet
from allgrad.scipy.linalg.matrix_functions import fractional_matrix_power as fractional_matrix_power
from allgrad.scipy.linalg.matrix_functions import logm as logm
from allgrad.scipy.linalg.matrix_functions import sinhm as sinhm
from allgrad.scipy.linalg.matrix_functions import sinm as sinm
from allgrad.scipy.linalg.matrix_functions import sqrtm as sqrtm
from allgrad.scipy.linalg.matrix_functions import tanhm as tanhm
from allgrad.scipy.linalg.matrix_functions import tanm as tanm
from allgrad.scipy.linalg.riccati import solve_continuous_are as solve_continuous_are
from allgrad.scipy.linalg.riccati import solve_discrete_are as solve_discrete_are
from allgrad.scipy.linalg.solvers import cho_solve as cho_solve
from allgrad.scipy.linalg.solvers import det as det
from allgrad.scipy.linalg.solvers import inv as inv
from allgrad.scipy.linalg.solvers import lstsq as lstsq
from allgrad.scipy.linalg.solvers import lu_solve as lu_solve
from allgrad.scipy.linalg.solvers import pinv as pinv
from allgrad.scipy.linalg.solvers import solve as solve
from allgrad.scipy.linalg.solvers import solve_banded as solve_banded
from allgrad.scipy.linalg.solvers import solve_continuous_lyapunov as solve_continuous_lyapunov
from allgrad.scipy.linalg.solvers import solve_discrete_lyapunov as solve_discrete_lyapunov
from allgrad.scipy.linalg.solvers import solve_sylvester as solve_sylvester
from allgrad.scipy.linalg.solvers import solve_triangular as solve_triangular
from allgrad.scipy.linalg.solvers import solveh_banded as solveh_banded
from allgrad.scipy.linalg.structured import block_diag as block_diag
from allgrad.scipy.linalg.structured import circulant as circulant
from allgrad.scipy.linalg.structured import companion as companion
from allgrad.scipy.linalg.structured import convolution_matrix as convolution_matrix
from allgrad.scipy.linalg.structured import hankel as hankel
from allgrad.scipy.linalg.structured import khatri_rao as khatri_rao
from allgrad.scipy.linalg.structured import leslie as leslie
from allgrad.scipy.linalg.structured import matmul_toeplitz as matmul_toeplitz
from allgrad.scipy.linalg.structured import solve_circulant as solve_circulant
from allgrad.scipy.linalg.structured import solve_toeplitz as solve_toeplitz
from allgrad.scipy.linalg.structured import toeplitz as toeplitz


def __getattr__(name: str) -> _Any:
    return getattr(_scipy_linalg, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_scipy_linalg)})
