"""Automatic differentiation of NumPy code: the tape, its transforms and its tools."""

from allgrad.autodiff.check import check_grads as check_grads
from allgrad.autodiff.check import numerical_grad as numerical_grad
from allgrad.autodiff.custom import custom_jvp as custom_jvp
from allgrad.autodiff.custom import custom_vjp as custom_vjp
from allgrad.autodiff.engine import FinalGradients as FinalGradients
from allgrad.autodiff.fused import Fused as Fused
from allgrad.autodiff.graph import Graph as Graph
from allgrad.autodiff.modes import detect_anomaly as detect_anomaly
from allgrad.autodiff.modes import no_grad as no_grad
from allgrad.autodiff.primitive import JOINTLY_LINEAR as JOINTLY_LINEAR
from allgrad.autodiff.primitive import LINEAR as LINEAR
from allgrad.autodiff.primitive import Primitive as Primitive
from allgrad.autodiff.primitive import Rule as Rule
from allgrad.autodiff.recompute import checkpoint as checkpoint
from allgrad.autodiff.recompute import on_recompute as on_recompute
from allgrad.autodiff.tensor import RULES as RULES
from allgrad.autodiff.tensor import Tensor as Tensor
from allgrad.autodiff.tensor import tensor as tensor
from allgrad.autodiff.transforms import derivative as derivative
from allgrad.autodiff.transforms import grad as grad
from allgrad.autodiff.transforms import hessian as hessian
from allgrad.autodiff.transforms import hvp as hvp
from allgrad.autodiff.transforms import jacobian as jacobian
from allgrad.autodiff.transforms import jvp as jvp
from allgrad.autodiff.transforms import value_and_grad as value_and_grad
from allgrad.autodiff.transforms import vjp as vjp
