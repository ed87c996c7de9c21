"""Automatic differentiation of NumPy code: the tape, its transforms and its tools."""

from allgrad.autodiff.check import check_grads, numerical_grad
from allgrad.autodiff.containers import ravel
from allgrad.autodiff.custom import custom_jvp, custom_vjp
from allgrad.autodiff.derivatives import derivative, hessian, hvp, jacobian
from allgrad.autodiff.engine import FinalGradients
from allgrad.autodiff.fused import Fused
from allgrad.autodiff.graph import Graph
from allgrad.autodiff.implicit import custom_root
from allgrad.autodiff.modes import detect_anomaly, no_grad
from allgrad.autodiff.primitive import Primitive
from allgrad.autodiff.recompute import checkpoint, on_recompute
from allgrad.autodiff.rule import LINEAR, Rule
from allgrad.autodiff.tensor import RULES, Tensor, tensor
from allgrad.autodiff.transforms import grad, jvp, value_and_grad, vjp

__all__ = [
    "LINEAR",
    "RULES",
    "FinalGradients",
    "Fused",
    "Graph",
    "Primitive",
    "Rule",
    "Tensor",
    "check_grads",
    "checkpoint",
    "custom_jvp",
    "custom_root",
    "custom_vjp",
    "derivative",
    "detect_anomaly",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "no_grad",
    "numerical_grad",
    "on_recompute",
    "ravel",
    "tensor",
    "value_and_grad",
    "vjp",
]
