"""An operation with custom derivatives: the logarithm of a sum of exponentials, stable for large inputs.

    python examples/custom_operation.py

The naive formula overflows. Subtracting the maximum first avoids that, and the derivative is known in closed form: the softmax.
`custom_vjp` declares it for reverse mode, `defjvp` for forward mode, and `check_grads` compares both with numerical
differentiation.
"""

import numpy as np

import allgrad as ag


@ag.custom_vjp(x=lambda g, ans, x: g * np.exp(x - ans))
def log_sum_exp(x):
    top = np.max(x)
    return top + np.log(np.sum(np.exp(x - top)))


log_sum_exp.defjvp(x=lambda t, ans, x: np.sum(t * np.exp(x - ans)))


def naive(x):
    return np.log(np.sum(np.exp(x)))


def main() -> None:
    small, large = np.array([0.1, 0.2, -0.3]), np.array([1000.0, 1001.0, 999.0])
    print("Both formulas agree for small inputs:", np.allclose(ag.grad(log_sum_exp)(small), ag.grad(naive)(small)))
    ag.check_grads(log_sum_exp, small, order=2)
    print("Both modes agree with numerical differentiation, to second order.")
    with np.errstate(over="ignore", invalid="ignore"):
        print("Naive gradient at 1000: ", ag.grad(naive)(large))
    print("Stable gradient at 1000:", ag.grad(log_sum_exp)(large))
    print("Hessian:\n", ag.hessian(log_sum_exp)(small))


if __name__ == "__main__":
    main()
