"""A batch on its way from a loader's worker: one block of shared memory instead of one per tensor.

The main process asks the worker for each block by itself, and waits until Python there has a moment to answer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fusionkd.data.frames import Batch

ALIGNMENT = 64
"""Bytes at whose multiples each tensor begins."""


@dataclass(frozen=True)
class PackedBatch:
    """The tensors of a batch one after another.

    Attributes:
        memory: All of them, (bytes,) uint8.
        shapes: The batch with tensors that have shape and type but no memory, in whose order they follow each other.
    """

    memory: Tensor
    shapes: Batch

    def pin_memory(self) -> "PackedBatch":
        """The same in page-locked memory."""
        return PackedBatch(self.memory.pin_memory(), self.shapes)

    def unpacked(self) -> Batch:
        """The batch, whose tensors are parts of the memory."""
        begin = 0

        def part(shape: Tensor) -> Tensor:
            nonlocal begin
            found = _part(self.memory, begin, shape)
            begin += _room(shape)
            return found

        return self.shapes.map(part)


def packed(batch: Batch) -> PackedBatch:
    """A batch copied into shared memory; what it holds is on the CPU."""
    tensors: list[Tensor] = []

    def shape(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

    shapes = batch.map(shape)
    size = sum(map(_room, tensors))
    memory = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(size))  # type: ignore[no-untyped-call]
    begin = 0
    for tensor in tensors:
        _part(memory, begin, tensor).copy_(tensor)
        begin += _room(tensor)
    return PackedBatch(memory, shapes)


def _part(memory: Tensor, begin: int, shape: Tensor) -> Tensor:
    return memory[begin : begin + shape.nbytes].view(shape.dtype).view(shape.shape)


def _room(tensor: Tensor) -> int:
    return -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
