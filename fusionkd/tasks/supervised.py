"""A student learns from labels, and is judged by nuScenes' figures."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from fusionkd.data import Batch, NuScenesDataModule
from fusionkd.deploy import DeploySpec
from fusionkd.errors import UserError
from fusionkd.geometry import Boxes3D
from fusionkd.metrics import DetectionTruth, NuScenesDetection, format_table, write_submission
from fusionkd.models import CenterLoss, Decoder, FusionModel
from fusionkd.models.deploying import deploy_spec
from fusionkd.models.values import FusionOutput
from fusionkd.tasks.optimization import OneCycle
from fusionkd.teachers import load_trained
from fusionkd.teachers.checkpoints import DEPLOY_KEY, RECORD_KEY, STUDENT_KEY, check_weights, student_weights

SUBMISSION = "submission.json"


class SupervisedTask(pl.LightningModule):
    """Trains a model on labels alone; also how teachers are made.

    Args:
        student: The model.
        loss: Compares its output with annotations.
        decoder: Turns its output into boxes.
        optimizer: Learning rate and weight decay.
        warm_start: Parts of the student (``lidar``, ``camera.encoder``, ``head`` ...) that begin with the same
            part of a trained model: zoo:NAME, a .safetensors or a .ckpt file.
    """

    def __init__(
        self,
        student: FusionModel,
        loss: CenterLoss | None = None,
        decoder: Decoder | None = None,
        *,
        optimizer: OneCycle | None = None,
        warm_start: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        for part, checkpoint in (warm_start or {}).items():
            copy_part(student, part, checkpoint=checkpoint)
        self.loss = loss or CenterLoss()
        self.decoder = decoder or Decoder()
        self.optimizer = optimizer or OneCycle()
        self.metrics: dict[str, NuScenesDetection] = {}
        self.figures: dict[str, float] = {}
        """Figures of the last validation."""
        self.figures_step = -1
        """The step after which they were taken."""
        self.last_predictions: dict[str, Boxes3D] = {}
        """Boxes in the ego frame of the last validation or test, by sample token; this process's share."""
        self.step_losses: dict[str, Tensor] = {}
        """The losses of the step between its forward and its backward pass, for callbacks."""
        # Checkpoints are checked by on_load_checkpoint, which names what is wrong.
        self.strict_loading = False

    @property
    def data(self) -> NuScenesDataModule:
        """The run's data module."""
        module = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(module, NuScenesDataModule)
        return module

    @property
    def title(self) -> str:
        """What the student is called in the final table."""
        return "student"

    @property
    def judged(self) -> tuple[str, ...]:
        """Paths of the models in this task that learn and are judged: the student and its peers."""
        return ("student",)

    def company(self) -> dict[str, nn.Module]:
        """Who stands beside the student in the final table, by what they are called there; on the device."""
        return {}

    def setup(self, stage: str) -> None:
        """Make the metric from the annotations of the split that will be judged."""
        for split in ("test",) if stage == "test" else ("val",):
            truth = DetectionTruth.from_index(self.data.index, self.data.scenes("test" if split == "test" else "val"))
            self.metrics[split] = NuScenesDetection(truth)

    def forward(self, batch: Batch) -> FusionOutput:
        """The student's maps."""
        output: FusionOutput = self.student(batch)
        return output

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """One step on labels."""
        return self.total(self.losses(self(batch), batch), batch)

    def losses(self, output: FusionOutput, batch: Batch) -> dict[str, Tensor]:
        """Weighted losses by log name; they sum to what is minimised."""
        return {f"loss/{name}": value for name, value in self.loss(output, batch).items()}

    def total(self, losses: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The sum of the losses; each is logged under its own name."""
        total = torch.stack(list(losses.values())).sum()
        self.step_losses = dict(losses)
        logged = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log_dict(logged, batch_size=len(batch))
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=len(batch))
        return total

    def on_after_backward(self) -> None:
        """Let go of the step's graph."""
        self.step_losses = {}

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation's boxes."""
        self.last_predictions = {}

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Judge the student on a batch."""
        self._judge("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the figures of the validation split."""
        figures = self.metrics["val"].compute()
        self.metrics["val"].reset()
        if self.trainer.sanity_checking:
            return
        self.figures, self.figures_step = figures, self.global_step
        self._log_figures("val", figures)
        if self.trainer.state.fn == "validate" and self.trainer.is_global_zero:
            print(format_table(figures))

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Judge the student on a batch."""
        self._judge("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log the figures of the test split and write the boxes as a nuScenes results file."""
        metric = self.metrics["test"]
        figures, results = metric.compute(), metric.results()
        metric.reset()
        self._log_figures("test", figures)
        samples = metric.truth.tokens
        if not self.trainer.is_global_zero:
            return
        print(format_table(figures))
        if len(results.tokens) < len(samples):
            print(f"No {SUBMISSION} is written: {len(results.tokens)} of {len(samples)} samples were evaluated.")
            return
        path = Path(self.trainer.default_root_dir) / SUBMISSION
        write_submission(
            path,
            results,
            samples=samples,
            use_camera=self.student.camera is not None,
            use_lidar=self.student.lidar is not None,
        )
        print(f"Wrote the detections of {len(samples)} samples to {path}.")

    def predict_step(self, batch: Batch, batch_index: int) -> list[tuple[str, Boxes3D]]:
        """Boxes in the ego frame, by sample token."""
        return list(zip(batch.token, self.decoder(self(batch))))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with one cycle of the learning rate."""
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer, schedule = self.optimizer.build(self, steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add how the student is built and what it reached, so that the checkpoint stands alone."""
        if self.student.spec is not None:
            checkpoint[STUDENT_KEY] = json.dumps(self.student.spec)
        # Parts of the user's own may have no description; tools/export.py says so then.
        with suppress(UserError):
            checkpoint[DEPLOY_KEY] = self._deploy_spec().to_json()
        if self.figures:
            record = {"figures": self.figures, "simulated": self.data.is_simulated, "step": self.figures_step}
            checkpoint[RECORD_KEY] = json.dumps(record)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the student's weights name by name.

        Raises:
            UserError: If they don't fit the student exactly.
        """
        check_weights(self.student, student_weights(checkpoint), source="the checkpoint")

    def _deploy_spec(self) -> DeploySpec:
        return deploy_spec(
            self.student,
            views=self.data.collator.views,
            image_size_px=self.data.image_size_px,
            num_sweeps=self.data.num_sweeps,
            decoder=self.decoder,
        )

    def _judge(self, split: str, batch: Batch) -> None:
        boxes = self.decoder(self(batch))
        self.metrics[split].update(batch.token, boxes, batch.global_from_ego)
        self.last_predictions.update(zip(batch.token, boxes))

    def _log_figures(self, split: str, figures: Mapping[str, float]) -> None:
        # The metric has gathered all processes' boxes already: the figures are the same everywhere.
        self.log_dict({f"{split}/{name}": value for name, value in figures.items()})


def copy_part(student: FusionModel, part: str, *, checkpoint: str) -> None:
    """Give a part of a student the weights of the same part of a trained model.

    Args:
        student: Who begins with them.
        part: Dotted path of the part.
        checkpoint: zoo:NAME, a .safetensors or a .ckpt file.

    Raises:
        UserError: If either model lacks the part, or the weights don't fit exactly.
    """
    trained, _ = load_trained(checkpoint)
    target = part_of(student, part, owner="the student", asked="warm_start")
    weights = part_of(trained, part, owner=checkpoint, asked="warm_start").state_dict()
    check_weights(target, weights, source=f"'{part}' in {checkpoint}")
    target.load_state_dict(weights)


def part_of(model: FusionModel, part: str, *, owner: str, asked: str) -> nn.Module:
    """A part of a model by its dotted path.

    Args:
        model: The model.
        part: Path, such as ``camera.encoder``.
        owner: What the model is called in the message.
        asked: Who names the part.

    Raises:
        UserError: If there is no such part.
    """
    try:
        return model.get_submodule(part)
    except AttributeError:
        known = ", ".join(name for name, _ in model.named_children())
        raise UserError(f"{asked} names '{part}', which {owner} doesn't have; it has {known}.") from None
