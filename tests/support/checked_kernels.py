"""Compiled loops that check their arrays, for tests in this process: what is called directly would read and write elsewhere.

`check_arrays` makes every loop that is compiled afterwards refuse an array of another dtype, number of dimensions or layout than
its signature says, and a read-only one that it would write. Loops over any strides look for themselves whether it is aligned.
"""

import importlib.util


def check_arrays() -> None:
    if importlib.util.find_spec("numba") is None:
        return
    import numpy as np
    from numba import types
    from numba.np.numpy_support import as_dtype

    from allgrad.kernels import jit

    unchecked = jit._entry_point

    def entry_point(function, signature, **options):
        entry = unchecked(function, signature, **options)
        arrays = [(i, as_dtype(t.dtype), t) for i, t in enumerate(signature) if isinstance(t, types.Array)]

        def checked(*arguments):
            for i, dtype, kind in arrays:
                x = arguments[i]
                fits = isinstance(x, np.ndarray) and (x.dtype, x.ndim) == (dtype, kind.ndim)
                fits = fits and (kind.layout != "C" or (x.flags.c_contiguous and x.flags.aligned))
                fits = fits and (x.flags.writeable or not kind.mutable)
                if not fits:
                    given = f"{x.dtype}{x.shape} {x.strides} {x.flags}" if isinstance(x, np.ndarray) else repr(x)
                    raise AssertionError(f"{function.__qualname__}: argument {i} must be {kind}. Got {given}")
            return entry(*arguments)

        return checked

    jit._entry_point = entry_point
