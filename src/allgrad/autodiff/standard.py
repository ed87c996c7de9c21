"""What the array API standard asks of an array object beyond NumPy's operators: namespace, device, exchange of memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.operators import RULES


class Standard:
    """The array API's own attributes and methods, for `Tensor`; see data-apis.org/array-api."""

    __slots__ = ()

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """The module whose functions work on Tensors: `allgrad.numpy`."""
        plain: Any = np.zeros(0)
        plain.__array_namespace__(api_version=api_version)  # raises for versions that NumPy does not know
        return RULES["namespace"]

    @property
    def device(self) -> str:
        return "cpu"

    def to_device(self, device: str, /, *, stream: Any = None) -> Any:
        """This Tensor: the only device is "cpu"."""
        if device != "cpu" or stream is not None:
            raise ValueError(f"Tensors are on the device 'cpu', without streams; got {device!r}, stream={stream!r}.")
        return self

    def __dlpack__(
        self: Any, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        plain = self._plain("be exchanged by DLPack")
        if copy is not False:  # whoever takes it may write to it
            plain = plain.copy()
        return plain.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return np.zeros(0).__dlpack_device__()
