"""``fusionkd cache-teachers``: ask teachers once about every training frame and keep the answers."""

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from fusionkd.cli.training import FusionCLI, cli_settings
from fusionkd.errors import UserError
from fusionkd.tasks.caching import CacheFiller, Share
from fusionkd.tasks.evaluation import check_teachers
from fusionkd.teachers import CachedTeacher


class PartsCLI(FusionCLI):
    """Student, teachers, terms and data of a configuration, without a trainer, its logger and its callbacks."""

    def before_instantiate_classes(self) -> None:
        """Leave out what would write files or look for other processes."""
        self.config.trainer.logger = False
        self.config.trainer.callbacks = None

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """No trainer."""
        return None


class Process(NamedTuple):
    """Which of the processes of a launcher this is.

    Attributes:
        share: Of the work.
        local_rank: Number on this machine, which picks the GPU.
    """

    share: Share
    local_rank: int


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="fusionkd cache-teachers",
        description="Ask each CachedTeacher of a training configuration about every training frame that its cache "
        "doesn't hold yet. Under torchrun or srun each process takes its share; whatever stops one of them costs the "
        "frames that it hadn't reached, and the same command again asks about those.",
    )
    out.add_argument(
        "--config", action="append", required=True, help="as for tools/train.py; may be given several times"
    )
    out.add_argument("--verify", action="store_true", help="read the files that are there too; damaged ones come anew")
    out.add_argument("--device", help="where teachers compute (default: this process's GPU, or the CPU)")
    out.add_argument(
        "options", nargs="*", help="after --: options of tools/train.py fit, such as --data.init_args.root DIR"
    )
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, 1 if some frames have no answer now.

    Raises:
        UserError: If the configuration has no cached teacher, or something in it or in the data is wrong.
    """
    given = parser().parse_args(arguments)
    process = this_process(os.environ)
    cli = PartsCLI(
        **cli_settings(), args=[part for path in given.config for part in ("--config", path)] + given.options, run=False
    )
    task, data = cli.model, cli.datamodule
    cached = {name: one for name, one in task.faculty.teachers.items() if isinstance(one, CachedTeacher)}
    if not cached:
        raise UserError(
            f"No teacher in {' and '.join(given.config)} has a cache. Give it class_path: "
            f"fusionkd.teachers.CachedTeacher and the init_args checkpoint and cache; configs/distill/cached.yaml does."
        )
    if process.share.rank == 0:
        data.prepare_data()
    device = torch.device(given.device or default_device(process.local_rank))
    complete = True
    for name, teacher in cached.items():
        filler = CacheFiller(name, teacher, list(task.terms.items()), data=data)
        if teacher.check and task.check_frames and filler.missing(process.share):
            check_teachers({name: teacher}, data, decoder=task.decoder, frames=task.check_frames, device=device)
        filled = filler.fill(device, share=process.share, verify=given.verify)
        print(filled.sentence(), flush=True)
        complete = complete and filled.is_complete
    return 0 if complete else 1


def this_process(environment: Mapping[str, str]) -> Process:
    """Rank and number of processes as torchrun, SLURM, or whoever sets RANK and WORLD_SIZE says; else one process.

    Args:
        environment: The process's own.
    """
    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            try:
                found = kind()
            except RuntimeError as error:
                raise UserError(f"The launcher's settings can't be used: {error}") from None
            return Process(Share(found.global_rank(), found.world_size()), found.local_rank())
    rank, world_size = int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
    if not 0 <= rank < world_size:
        raise UserError(f"RANK must lie between 0 and WORLD_SIZE - 1, found RANK={rank} and WORLD_SIZE={world_size}.")
    return Process(Share(rank, world_size), int(environment.get("LOCAL_RANK", rank)))


def default_device(local_rank: int) -> str:
    """The GPU of a process, or the CPU where there is none."""
    return f"cuda:{local_rank % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
