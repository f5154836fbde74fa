"""A graph whose convolutions, and what runs between them, compute in half precision."""

from collections.abc import Collection
from typing import Any

import numpy as np

CONVOLUTIONS = ("Conv", "ConvTranspose")

BETWEEN = ("Relu", "Add", "Mul", "MaxPool", "Concat", "Split", "Slice", "Reshape", "Transpose", "Unsqueeze", "Squeeze")
"""Operators that go on in half precision where all that they read is in half precision."""


def halve(proto: Any, body: Collection[str]) -> Any:
    """A copy of a model with part of it in half precision; inputs and outputs stay as they are.

    Args:
        proto: An ``onnx.ModelProto``.
        body: Names of the nodes that may change; its convolutions do, other nodes as ``BETWEEN`` says.
    """
    import onnx

    out = onnx.shape_inference.infer_shapes(proto)
    writer = _Writer(out.graph)
    for node in out.graph.node:
        if node.name in body and writer.fits(node):
            writer.add_half(node)
        else:
            writer.add_full(node)
    for value in out.graph.output:
        writer.need_full(value.name)
    del out.graph.node[:]
    out.graph.node.extend(writer.nodes)
    read = {name for node in writer.nodes for name in node.input}
    kept = [weight for weight in out.graph.initializer if weight.name in read]
    del out.graph.initializer[:]
    out.graph.initializer.extend([*kept, *writer.weights.values()])
    del out.graph.value_info[:]
    return out


class _Writer:
    """Writes nodes in order, with a cast wherever a value is read in another precision than it was made."""

    def __init__(self, graph: Any) -> None:
        import onnx

        self._onnx = onnx
        single = onnx.TensorProto.FLOAT
        values = (*graph.value_info, *graph.input, *graph.output)
        self._constants = {weight.name: weight for weight in graph.initializer}
        self._floats = {value.name for value in values if value.type.tensor_type.elem_type == single}
        self._floats |= {name for name, weight in self._constants.items() if weight.data_type == single}
        self._half: dict[str, str] = {}
        """Names of values in half precision, by their own."""
        self._full = {value.name for value in graph.input} | self._constants.keys()
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}

    def fits(self, node: Any) -> bool:
        """Whether a node is to compute in half precision."""
        if node.op_type in CONVOLUTIONS:
            return True
        made = [name for name in node.input if name in self._floats and name not in self._constants]
        return node.op_type in BETWEEN and bool(made) and all(name in self._half for name in made)

    def add_half(self, node: Any) -> None:
        for position, name in enumerate(node.input):
            if name in self._floats:
                node.input[position] = self._halved(name)
        for position, name in enumerate(node.output):
            self._half[name] = node.output[position] = f"{name}_half"
        self.nodes.append(node)

    def add_full(self, node: Any) -> None:
        for name in node.input:
            self.need_full(name)
        self._full.update(node.output)
        self.nodes.append(node)

    def need_full(self, name: str) -> None:
        """See that a value is there in its own precision."""
        if name in self._half and name not in self._full:
            self._cast(self._half[name], name, self._onnx.TensorProto.FLOAT)
            self._full.add(name)

    def _halved(self, name: str) -> str:
        if name not in self._half:
            self._half[name] = f"{name}_half"
            if name in self._constants:
                array = self._onnx.numpy_helper.to_array(self._constants[name]).astype(np.float16)
                self.weights[name] = self._onnx.numpy_helper.from_array(array, self._half[name])
            else:
                self._cast(name, self._half[name], self._onnx.TensorProto.FLOAT16)
        return self._half[name]

    def _cast(self, source: str, target: str, kind: int) -> None:
        self.nodes.append(self._onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=kind))
