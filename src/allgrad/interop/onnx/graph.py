"""An ONNX graph while it is made: nodes, constants and names."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["ML", "OPSET", "GraphBuilder"]

OPSET = 17
"""The version of ONNX's operators that files ask for."""

ML = "ai.onnx.ml"
ML_OPSET = 3
_IR = 8
_TYPES = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int64): 7, np.dtype(np.float64): 11}
_STRING = 8


class GraphBuilder:
    """Collects nodes; a value in the graph is known by its name, which is what the methods take and return.

    Example:
        >>> graph = GraphBuilder()
        >>> graph.op("Relu", graph.input("x", np.float32, ["rows", 3]))
        'Relu'
        >>> graph.op("Relu", "x")
        'Relu_1'
    """

    def __init__(self) -> None:
        self.inputs: list[tuple[str, int, list[Any]]] = []
        self.outputs: list[tuple[str, int, list[Any]]] = []
        self._nodes: list[tuple[str, list[str], str, str, dict[str, Any]]] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._used: dict[str, int] = {}
        self._path = ""

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> str:
        """A new input of the file. `dtype` is a NumPy dtype, or str; a text in `shape` names a dimension of any length."""
        self._used[name] = 1
        self.inputs.append((name, _type(dtype), list(shape)))
        return name

    def output(self, name: str, value: str, dtype: Any, shape: Sequence[int | str]) -> None:
        """A new output of the file: `value`, under another name."""
        self._nodes.append(("Identity", [value], name, "", {}))
        self._used[name] = 1
        self.outputs.append((name, _type(dtype), list(shape)))

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The first output of a new node."""
        name = self._unused(f"{self._path}{kind}")
        self._nodes.append((kind, list(inputs), name, domain, attributes))
        return name

    def constant(self, array: Any, name: str = "constant") -> str:
        """A constant; equal ones are stored once."""
        value = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._known:
            self._known[key] = self._unused(f"{self._path}{name}")
            self._constants[self._known[key]] = value
        return self._known[key]

    def number(self, value: float, dtype: Any = np.float32) -> str:
        """A constant without axes."""
        return self.constant(np.array(value, dtype), "number")

    def integers(self, *values: int) -> str:
        """A vector of int64, such as a shape or a list of axes."""
        return self.constant(np.array(values, np.int64), "integers")

    def cast(self, value: str, dtype: Any) -> str:
        return self.op("Cast", value, to=_type(dtype))

    def reshape(self, value: str, *shape: int) -> str:
        """0 keeps a length, and -1 is what is left."""
        return self.op("Reshape", value, self.integers(*shape))

    def transpose(self, value: str, *axes: int) -> str:
        return self.op("Transpose", value, perm=list(axes))

    def length(self, value: str, axis: int) -> str:
        """The length of an axis, as an int64 without axes."""
        return self.op("Gather", self.op("Shape", value), self.number(axis, np.int64), axis=0)

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """A context in which new names begin with that of a layer."""
        before, self._path = self._path, f"{self._path}{name}/"
        try:
            yield
        finally:
            self._path = before

    def model(self, metadata: dict[str, str]) -> Any:
        """The finished `onnx.ModelProto`."""
        import onnx
        from onnx import helper, numpy_helper

        def described(values: list[tuple[str, int, list[Any]]]) -> list[Any]:
            return [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in values]

        nodes = [
            helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes)
            for kind, inputs, name, domain, attributes in self._nodes
        ]
        constants = [numpy_helper.from_array(array, name) for name, array in self._constants.items()]
        graph = helper.make_graph(nodes, "allgrad", described(self.inputs), described(self.outputs), constants)
        versions = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        model = helper.make_model(graph, opset_imports=versions, producer_name="allgrad", ir_version=_IR)
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _unused(self, name: str) -> str:
        count = self._used.get(name, 0)
        self._used[name] = count + 1
        return name if not count else f"{name}_{count}"


def _type(dtype: Any) -> int:
    return _STRING if dtype is str else _TYPES[np.dtype(dtype)]
