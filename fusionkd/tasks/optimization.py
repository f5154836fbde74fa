"""How the student's weights are updated."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from fusionkd.errors import UserError


@dataclass(frozen=True)
class OneCycle:
    """AdamW whose learning rate rises once and falls once (Smith and Topin, 2018).

    Attributes:
        lr: The highest learning rate.
        weight_decay: Of weights; biases and normalisation layers have none.
        warmup: Share of the steps in which the learning rate rises.
        final_div: The first learning rate divided by the last one.
    """

    lr: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.3
    final_div: float = 1e3

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise UserError(f"optimizer.lr must be positive, found {self.lr}.")
        if not 0 < self.warmup < 1:
            raise UserError(
                f"optimizer.warmup is a share of the run and must lie between 0 and 1, found {self.warmup}."
            )

    def build(self, module: nn.Module, *, steps: int) -> tuple[torch.optim.AdamW, OneCycleLR]:
        """Optimiser and schedule for the trainable parameters of a module.

        Args:
            module: Whose parameters.
            steps: Length of the run in optimiser steps.
        """
        trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trainable if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=self.lr)
        # OneCycleLR divides by the length of its first phase, which must hold at least one step.
        total = max(steps, 4)
        schedule = OneCycleLR(
            optimizer,
            max_lr=self.lr,
            total_steps=total,
            pct_start=max(self.warmup, 2 / total),
            final_div_factor=self.final_div,
        )
        return optimizer, schedule
