"""Trained models, and what is known of the data that they were trained on."""

from dataclasses import dataclass
from pathlib import Path

from fusionkd.data.configured import config_beside, configured_data
from fusionkd.data.datamodule import default_views
from fusionkd.deploy import DeploySpec
from fusionkd.errors import UserError
from fusionkd.models import FusionModel
from fusionkd.models.deploying import deploy_spec
from fusionkd.teachers import load_trained
from fusionkd.teachers.checkpoints import Record
from fusionkd.teachers.frozen import ZOO


@dataclass(frozen=True)
class Trained:
    """A model to export.

    Attributes:
        checkpoint: Where it comes from.
        model: In eval mode, on the CPU.
        spec: What it reads and how its answers become boxes.
        record: What it is known to reach.
        config: The configuration of its training, or None where there is none.
    """

    checkpoint: str
    model: FusionModel
    spec: DeploySpec
    record: Record
    config: Path | None


def open_trained(checkpoint: str, config: Path | None = None) -> Trained:
    """A trained model with its description.

    What the configuration says comes first, given or found beside the checkpoint; then what the checkpoint
    recorded; shipped weights that recorded nothing were trained with the data module's defaults.

    Args:
        checkpoint: zoo:NAME, a .safetensors or a .ckpt file.
        config: config.yaml of its run.

    Raises:
        UserError: If a file can't be read, or nothing says what the model reads.
    """
    model, record = load_trained(checkpoint)
    config = config or config_beside(checkpoint)
    if config is not None:
        data = configured_data(config, {"cache_images_gb": 0})
        views, size_px, sweeps = data.collator.views, data.image_size_px, data.num_sweeps
        spec = deploy_spec(model, views=views, image_size_px=size_px, num_sweeps=sweeps)
    elif record.deploy is not None:
        spec = record.deploy
    elif checkpoint.startswith(ZOO):
        spec = deploy_spec(model, views=default_views(model.grid), image_size_px=(96, 256), num_sweeps=10)
    else:
        raise UserError(
            f"{checkpoint} doesn't record what it reads (image size, sweeps, arguments of its LiDAR view), and no "
            f"config.yaml lies beside it. Give the configuration of its training: --config FILE."
        )
    return Trained(checkpoint, model, spec, record, config)


def spec_of(checkpoint: str, config: Path | None = None) -> DeploySpec:
    """The description of a trained model; arguments and errors are those of ``open_trained``."""
    return open_trained(checkpoint, config).spec
