"""What brings student features to a teacher's size."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn


class Adapters(nn.Module):
    """A 1x1 convolution per teacher, from the student's channels to the teacher's (FitNets, ICLR 2015).

    Args:
        student_channels: Channels in.
        teacher_channels: Channels out, by teacher.
    """

    def __init__(self, student_channels: int, teacher_channels: Mapping[str, int]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleDict(
            {name: nn.Conv2d(student_channels, channels, kernel_size=1) for name, channels in teacher_channels.items()}
        )

    def forward(self, features: Tensor, teacher: str) -> Tensor:
        """Student features (B, C, rows, columns) with the channels of one teacher."""
        adapted: Tensor = self.convolutions[teacher](features)
        return adapted

    def at(self, features: Tensor, teacher: str) -> Tensor:
        """The same of single cells, (K, C): the adapter knows no neighbours."""
        convolution = self.convolutions[teacher]
        assert isinstance(convolution, nn.Conv2d)
        return F.linear(features, convolution.weight[:, :, 0, 0], convolution.bias)
