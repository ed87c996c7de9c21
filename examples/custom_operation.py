"""An operation with derivatives of one's own: the logarithm of the sum of exponentials, stable for large inputs.

    python examples/custom_operation.py

Written naively it overflows; with the maximum taken out it works, and its derivative, the softmax, is known in closed form.
`custom_vjp` declares that; `defjvp` adds forward mode; `check_grads` compares both with each other and with differences.
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
    print("the same where both work:", np.allclose(ag.grad(log_sum_exp)(small), ag.grad(naive)(small)))
    ag.check_grads(log_sum_exp, small, order=2)
    print("both modes agree with numerical differentiation, to second order")
    with np.errstate(over="ignore", invalid="ignore"):
        print("naive gradient at 1000:", ag.grad(naive)(large))
    print("ours:                  ", ag.grad(log_sum_exp)(large))
    print("Hessian:\n", ag.hessian(log_sum_exp)(small))


if __name__ == "__main__":
    main()
