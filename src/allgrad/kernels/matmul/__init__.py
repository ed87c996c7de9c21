"""The matrix product of the numba kernels: one chain of fused multiply-adds per element, on every CPU and for every shape.

`tiles` says what fits into the registers of which CPU, `ir` writes the micro-kernel, `blocking` holds the loops around it, and
`product` is what the other packages call.
"""
