"""The matrix product of the numba kernels: one chain of fused multiply-adds per element, on every CPU and for every shape.

`tiles` says what fits into the registers of which CPU, `strip` writes the micro-kernel, `column` the kernel for a column that is
left over, and `packing` the moves that feed them, all with what `llvm` has. `blocking` holds the loops around them, and `product`
is what the other packages call.
"""
