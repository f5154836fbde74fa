"""What teachers and students give away about the data they were trained on.

Two attacks guess who was in the training set: the loss threshold (Yeom et al., 2018) and the likelihood ratio with
shadow models (LiRA; Carlini et al., 2022). An AUC of 0.5 is a guess. Two subjects:

- *digits* (real): the private images are a random half of 997. A teacher learns from them with their labels; students
  learn either from the same images or, without any label, from 600 other ones that the teacher answered. Sixteen such
  pipelines are trained on sixteen halves; each is attacked in turn with the others as its shadows, which know all
  about it but its half. Intervals are over the attacked models.
- *detector* (simulated): the shipped models, by their loss on labels per frame, on the teachers' own training scenes
  against its validation scenes. The student learned from teachers in another world. Intervals know that frames of a
  scene are alike.

    python benchmarks/privacy.py
    python benchmarks/privacy.py --no-detector
    python benchmarks/privacy.py --student runs/label_free/student.ckpt     # instead of zoo:student
"""

import argparse
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from common import Row, t_interval, use_one_thread, write_result
from digits_training import Bench, Images, Recipe, Split, digits
from numpy.typing import NDArray
from torch import nn

from fusionkd.cli.teachers import WORLD
from fusionkd.cli.training import build_cli
from fusionkd.distillation import logit_kl
from fusionkd.errors import UserError
from fusionkd.metrics import (
    MembershipLeak,
    likelihood_ratio_scores,
    logit_confidence,
    loss_scores,
    membership_leak,
)
from fusionkd.models import CenterLoss, LossWeights, load_model
from fusionkd.simulation import write_world
from fusionkd.teachers import load_trained, zoo_path

REPOSITORY = Path(__file__).resolve().parent.parent
SHADOWS = 16
RECIPE = Recipe(lr=0.03, shifts=False)
FINDS = "members found where 1 % of others are accused"


@dataclass(frozen=True)
class Pipeline:
    """What models that stand on one half of the private images say about all of them.

    Attributes:
        member: (N,) bool, the half.
        confidence: By model, (N,) ``logit_confidence``.
    """

    member: NDArray[np.bool_]
    confidence: Mapping[str, NDArray[np.float64]]


def halves(count: int, models: int) -> NDArray[np.bool_]:
    """(models, count): each image in exactly half of the models' training sets (Carlini et al., section VI)."""
    rng = np.random.default_rng(0)
    return np.asarray(rng.permuted(np.tile(np.arange(models)[:, None] < models // 2, count), axis=0))


def pipeline(job: tuple[int, NDArray[np.bool_], int]) -> Pipeline:
    """Train a teacher on a half of the private images, and its students."""
    seed, member, steps = job
    use_one_thread()
    recipe = Recipe(RECIPE.lr, RECIPE.shifts, steps)
    every = digits()[1]
    public, private = every[torch.arange(600)], every[torch.arange(600, len(every))]
    own = private[torch.from_numpy(member)]
    shared = Bench(Split(own, own, private), seed, recipe)
    teacher = shared.taught("teacher")
    apart = Bench(Split(own, public, private), seed, recipe)
    models = {
        f"teacher, {size(teacher)} parameters": teacher,
        "student on the same images and labels, no teacher": shared.taught("control"),
        "student on the same images, labels and teacher": shared.follow(teacher, lambda s, t, _: logit_kl(s, t)),
        "student on other images, teacher, no label": apart.follow(teacher, lambda s, t, _: logit_kl(s, t), labels=0.0),
    }
    return Pipeline(member, {name: confidence(model, private) for name, model in models.items()})


def size(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def confidence(model: nn.Module, images: Images) -> NDArray[np.float64]:
    """What a model thinks of the images' right classes, (N,)."""
    return logit_confidence(model.eval()(images.pixels).numpy(), images.label.numpy())


def attacked(pipelines: list[Pipeline], model: str) -> dict[str, list[MembershipLeak]]:
    """Each pipeline's model under both attacks, the others being the shadows."""
    leaks: dict[str, list[MembershipLeak]] = {"loss threshold": [], "shadow models (LiRA)": []}
    said = np.stack([each.confidence[model] for each in pipelines])
    member = np.stack([each.member for each in pipelines])
    for row in range(len(pipelines)):
        others = np.arange(len(pipelines)) != row
        # The cross entropy is log(1 + exp(-confidence)), which sorts images alike.
        scores = {
            "loss threshold": loss_scores(np.logaddexp(0.0, -said[row])),
            "shadow models (LiRA)": likelihood_ratio_scores(said[row], said[others], member[others]),
        }
        for attack, score in scores.items():
            leaks[attack].append(membership_leak(score[member[row]], score[~member[row]]))
    return leaks


def digit_rows(run: Callable[..., object], *, models: int, steps: int) -> list[Row]:
    """The audit of the digits."""
    membership = halves(len(digits()[1]) - 600, models)
    pipelines: list[Pipeline] = list(run(pipeline, [(k, membership[k], steps) for k in range(models)]))
    rows = []
    for model in pipelines[0].confidence:
        for attack, leaks in attacked(pipelines, model).items():
            what = f"digits: {model}: {attack}"
            areas = np.array([leak.auc for leak in leaks])
            found = np.array([100 * leak.true_positive_rate for leak in leaks])
            rows.append(Row(f"{what}, AUC", float(areas.mean()), "", better="lower", interval=t_interval(areas)))
            rows.append(Row(f"{what}, {FINDS}", float(found.mean()), "%", better="lower", interval=t_interval(found)))
    return rows


def detector_losses(
    models: Mapping[str, nn.Module], root: Path, every: int
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """By split and model, the loss on labels of each frame; ``scene`` names the frames' scenes."""
    arguments = ["--config", str(REPOSITORY / "configs" / "nuscenes_mini.yaml"), "--trainer.logger", "false"]
    arguments += ["--data.init_args.root", str(root), "--data.init_args.version", WORLD.version]
    arguments += ["--data.init_args.labelled_scenes", "null", "--data.init_args.unlabelled_scenes", "null"]
    arguments += ["--data.init_args.unlabelled_per_batch", "null", "--data.init_args.num_workers", "0"]
    data = build_cli([*arguments, "--trainer.accelerator", "cpu"], run=False).datamodule
    data.prepare_data()
    data.setup("fit")
    # The depth's target is the LiDAR's, not a label.
    criterion = CenterLoss(LossWeights(depth=0.0))
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for split in ("train", "val"):
        records = data.records(split)[:: every if split == "train" else 1]
        dataset = data.dataset(records)
        losses: dict[str, list[float]] = {name: [] for name in models}
        for row in range(len(records)):
            batch = data.batch([dataset[row]])
            for name, model in models.items():
                with torch.no_grad():
                    losses[name].append(float(sum(criterion(model(batch), batch).values())))
        found[split] = {name: np.array(values) for name, values in losses.items()}
        found[split]["scene"] = np.array([record.scene for record in records])
    return found


def check_world(root: Path) -> None:
    """See that the teachers were trained on this very world.

    Raises:
        UserError: If not: its training scenes would be no members.
    """
    here = json.loads((root / "simulated.json").read_text())
    _, card = load_model(zoo_path("fused"))
    there = card["data"]["world"]
    differ = {key for key in ("settings", "world_revision") if key in there and here.get(key) != there[key]}
    if differ:
        raise UserError(
            f"{root} isn't the world that zoo:fused was trained on ({', '.join(sorted(differ))} differ): its scenes "
            f"are no members. Train the teachers again (tools/train_teachers.py), or give --no-detector."
        )


def detector_rows(root: Path, *, student: str, every: int) -> list[Row]:
    """The audit of the simulated detector."""
    if not (root / WORLD.version).is_dir():
        write_world(root, WORLD)
    check_world(root)
    names = {f"teacher zoo:{name}": f"zoo:{name}" for name in ("lidar", "camera", "fused")} | {
        f"student {student}": student
    }
    models: dict[str, nn.Module] = {name: load_trained(source)[0].eval() for name, source in names.items()}
    found = detector_losses(models, root, every)
    rows = []
    for name in models:
        scores = {split: loss_scores(values[name]) for split, values in found.items()}
        leak = membership_leak(
            scores["train"],
            scores["val"],
            member_groups=found["train"]["scene"],
            other_groups=found["val"]["scene"],
        )
        what = f"detector (simulated): {name}: loss threshold"
        rows.append(Row(f"{what}, AUC", leak.auc, "", better="lower", interval=leak.interval))
        rows.append(Row(f"{what}, {FINDS}", 100 * leak.true_positive_rate, "%", better="lower"))
    return rows


def main() -> None:
    """Attack, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=SHADOWS, help="pipelines of digits, each a target and a shadow")
    parser.add_argument("--steps", type=int, default=RECIPE.steps, help="of each training on digits")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--no-detector", action="store_true", help="digits alone")
    parser.add_argument("--root", type=Path, default=REPOSITORY / "data" / "simulated-teachers", help="teachers' world")
    parser.add_argument("--student", default="zoo:student", help="the detector's student")
    parser.add_argument("--every", type=int, default=4, help="of the training frames, one in so many")
    given = parser.parse_args()
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        rows = digit_rows(pool.map, models=given.models, steps=given.steps)
    if not given.no_detector:
        use_one_thread()
        rows += detector_rows(given.root, student=given.student, every=given.every)
    write_result("privacy", rows, simulated=not given.no_detector, packages=("torch", "scikit-learn"))


if __name__ == "__main__":
    main()
