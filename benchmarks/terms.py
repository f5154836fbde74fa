"""What each term of distillation costs per training step, beside the student's own step.

The student and the teachers are those of ``configs/nuscenes_mini.yaml``, on a batch of a small simulated world.
The student's own step is its forward pass, the losses on labels and their backward pass. A term's cost is its
forward and backward pass down to the student's maps; the teachers have answered before. ``ratio`` says how often
the term fits into the student's step.

    python benchmarks/terms.py
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import torch
from common import compare, use_one_thread, write_result
from torch import Tensor

from fusionkd import distillation
from fusionkd.cli.training import build_cli
from fusionkd.data import Batch
from fusionkd.distillation import Term
from fusionkd.models.values import FusionOutput
from fusionkd.simulation import WorldSettings, write_world
from fusionkd.tasks import DistillationTask

REPOSITORY = Path(__file__).resolve().parent.parent
BASES = ("Term", "FeatureTerm", "SeveralTeachers")
WORLD = WorldSettings(scenes=2, keyframes_per_scene=4, image_width_px=512, seed=11, version="v1.0-trainval")


def every_term() -> dict[str, Callable[[], Term]]:
    """Each exported term with its default options, taught by the fused teacher."""
    exported = {name: getattr(distillation, name) for name in distillation.__all__}
    kinds = {name: kind for name, kind in exported.items() if isinstance(kind, type) and issubclass(kind, Term)}
    return {name: partial(kind, "fused") for name, kind in kinds.items() if name not in BASES}


def detached(output: FusionOutput) -> FusionOutput:
    """The same maps as leaves that take gradients."""
    maps = {
        field.name: getattr(output, field.name).detach().float().requires_grad_()
        for field in fields(output)
        if isinstance(getattr(output, field.name), Tensor)
    }
    return replace(output, **maps)


def term_step(term: Term, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: Batch) -> None:
    """A term's forward and backward pass."""
    torch.autograd.backward(term(student, teachers, batch))


def student_step(task: DistillationTask, batch: Batch) -> None:
    """The student's forward pass, its losses on labels and their backward pass."""
    losses = task.losses(task.student(batch), batch)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="calls of each side per row")
    given = parser.parse_args()
    use_one_thread()
    with tempfile.TemporaryDirectory(prefix="simulated-") as folder:
        root = Path(folder) / "world"
        write_world(root, WORLD)
        arguments = ["--config", str(REPOSITORY / "configs" / "nuscenes_mini.yaml")]
        arguments += ["--data.init_args.root", str(root), "--data.init_args.version", WORLD.version]
        arguments += ["--data.init_args.labelled_scenes", "null", "--data.init_args.unlabelled_scenes", "null"]
        arguments += ["--data.init_args.unlabelled_per_batch", "null", "--data.init_args.num_workers", "0"]
        arguments += ["--trainer.logger", "false"]
        cli = build_cli(arguments, run=False)
        task, data = cli.model, cli.datamodule
        data.prepare_data()
        data.setup("fit")
        dataset = data.dataset(data.records("train"))
        batch = data.batch([dataset[item] for item in range(4)])
        # Two of four frames unlabelled, as in the main job.
        batch = replace(batch, labelled=torch.tensor([True, True, False, False]))
        with torch.no_grad():
            answers = task.faculty.outputs(batch)
        task.student.train()
        output = detached(task.student(batch))
        rows = []
        for name, make in every_term().items():
            term = make()
            term.prepare(name, output, answers)
            rows.append(
                compare(
                    f"{name}, forward and backward, batch of 4",
                    partial(term_step, term, output, answers, batch),
                    partial(student_step, task, batch),
                    peer_name="the student's own step",
                    rounds=given.rounds,
                )
            )
    write_result("terms", rows, simulated=True)


if __name__ == "__main__":
    main()
