"""`scipy.integrate` with derivatives: the same names and signatures, for arrays and Tensors."""

from typing import Any as _Any

import scipy.integrate as _scipy_integrate

from allgrad.scipy.integrate.ode import odeint as odeint
from allgrad.scipy.integrate.ode import solve_ivp as solve_ivp
from allgrad.scipy.integrate.quadrature import QuadratureError as QuadratureError
from allgrad.scipy.integrate.quadrature import dblquad as dblquad
from allgrad.scipy.integrate.quadrature import quad as quad
from allgrad.scipy.integrate.quadrature import quad_vec as quad_vec
from allgrad.scipy.integrate.sampled import cumulative_simpson as cumulative_simpson
from allgrad.scipy.integrate.sampled import cumulative_trapezoid as cumulative_trapezoid
from allgrad.scipy.integrate.sampled import fixed_quad as fixed_quad
from allgrad.scipy.integrate.sampled import romb as romb
from allgrad.scipy.integrate.sampled import simpson as simpson
from allgrad.scipy.integrate.sampled import trapezoid as trapezoid


def __getattr__(name: str) -> _Any:
    return getattr(_scipy_integrate, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_scipy_integrate)})
