"""LightningCLI for fusionkd: configurations become a student, teachers, terms, data and a trainer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from fusionkd.cli.precision import suitable_precision
from fusionkd.data import NuScenesDataModule
from fusionkd.tasks import DistillationTask, silence_warnings
from fusionkd.tasks.tracking import plain_config
from fusionkd.teachers.checkpoints import read_checkpoint


class KeepConfig(SaveConfigCallback):
    """Writes the run's configuration beside its results, and hands it to the logger."""

    def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Hand the configuration to the logger; the file is written by Lightning."""
        if trainer.logger is not None:
            trainer.logger.log_hyperparams(plain_config(self.config))


class FusionCLI(LightningCLI):
    """LightningCLI with one grid for all and a student that knows how it is built."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Tie what must be equal."""
        parser.link_arguments("data.init_args.grid", "model.student.init_args.grid")

    def before_instantiate_classes(self) -> None:
        """Settle what Lightning would decide otherwise.

        Raises:
            UserError: If the checkpoint to go on with can't be read.
        """
        if not self.subcommand:
            return
        config = self.config[self.subcommand]
        config.trainer.precision = suitable_precision(config.trainer.precision, config.trainer.accelerator)
        # Checkpoints hold tensors and plain values; nothing in them is ever executed.
        config.weights_only = True
        if config.ckpt_path is not None and config.ckpt_path not in ("best", "last"):
            read_checkpoint(Path(config.ckpt_path))
        if self.subcommand in ("validate", "test"):
            # The task prints nuScenes' own table instead of a hundred figures in a column.
            config.verbose = False

    def instantiate_classes(self) -> None:
        """Build everything, then let the student keep its own description for checkpoints."""
        super().instantiate_classes()
        config = self.config[self.subcommand] if self.subcommand else self.config
        self.model.student.spec = plain_config(config.model.student)


def build_cli(arguments: Sequence[str] | None = None, *, run: bool = True) -> FusionCLI:
    """Parse a command line, build its objects, and run it unless told not to.

    Args:
        arguments: Without the program's name; None takes those of the process.
        run: With False there is no subcommand, and nothing runs: ``build_cli(["--config", FILE], run=False)`` gives
            tools the student and the data of a training configuration.

    Raises:
        UserError: If something in the configuration or the data is wrong.
        jsonargparse.ArgumentError: If an option or a configuration can't be parsed.
    """
    subcommands = ("fit", "validate", "test", "predict") if run else ()
    return FusionCLI(**cli_settings(subcommands), args=None if arguments is None else list(arguments), run=run)


def cli_settings(subcommands: Sequence[str] = ()) -> dict[str, Any]:
    """Arguments of ``FusionCLI`` that don't depend on the command line."""
    silence_warnings()
    # ArgumentError reaches the caller instead of printing fifty lines of usage.
    raising = {"exit_on_error": False}
    return {
        "model_class": DistillationTask,
        "datamodule_class": NuScenesDataModule,
        "subclass_mode_data": True,
        "seed_everything_default": 0,
        "auto_configure_optimizers": False,
        "parser_kwargs": {**raising, **dict.fromkeys(subcommands, raising)},
        "save_config_callback": KeepConfig,
        "save_config_kwargs": {"overwrite": True},
    }


def train(arguments: Sequence[str] | None = None) -> None:
    """What ``tools/train.py`` does."""
    build_cli(arguments)
