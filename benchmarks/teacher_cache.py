"""What a teacher cache costs and keeps: an epoch's time, bytes per frame, and the direction of the gradient.

On a small simulated world, with the student, the terms and the shipped teachers of ``configs/nuscenes_mini.yaml``.

- Time: epochs of the same student on the same batches with no teachers, with two cached and with two live teachers, in
  turns, loading included. Labels come from the same frames in all three.
- Size: what is kept of a frame against the maps that the same terms read, whole and in half precision.
- Gradient: its cosine over all weights of the student, with cached against live answers of all teachers.

    python benchmarks/teacher_cache.py --rounds 7
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row, bootstrap_interval, use_one_thread, write_result
from torch import Tensor

from fusionkd.cli.training import build_cli
from fusionkd.data import Batch, NuScenesDataModule
from fusionkd.distillation import BoxResponse, DetectionPseudoLabel, FeatureMimic, HeatmapResponse, ObjectRelation, Term
from fusionkd.distillation.reading import extents_of
from fusionkd.models.values import FusionOutput
from fusionkd.simulation import WorldSettings, write_world
from fusionkd.tasks import DistillationTask, Faculty
from fusionkd.tasks.caching import CacheFiller, pack_answer
from fusionkd.teachers import CachedTeacher, FrozenTeacher, load_trained
from fusionkd.teachers.cache_pack import Form
from fusionkd.teachers.cache_store import CacheRoom, CacheStore, Subject

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIG = REPOSITORY / "configs" / "nuscenes_mini.yaml"
NAMES = ("lidar", "camera", "fused")
PAIR = ("lidar", "fused")
LEAST_COSINE, LEAST_SMALLER, MOST_SLOWER = 0.999, 40.0, 1.10


def main_job(root: Path, version: str, *options: str) -> tuple[DistillationTask, NuScenesDataModule]:
    """The main job's task and data on a world of two scenes, one of them labelled."""
    arguments = ["--config", str(CONFIG), "--data.init_args.root", str(root), "--data.init_args.version", version]
    arguments += ["--data.init_args.train_split", "[scene-0061, scene-0103]", "--trainer.logger", "false", *options]
    cli = build_cli(arguments, run=False)
    cli.datamodule.prepare_data()
    return cli.model, cli.datamodule


def cached_teachers(
    names: Sequence[str], terms: Sequence[tuple[str, Term]], data: NuScenesDataModule, folder: Path
) -> dict[str, FrozenTeacher]:
    """Teachers whose answers about all training frames are on the disk."""
    teachers: dict[str, FrozenTeacher] = {}
    for name in names:
        teacher = CachedTeacher(f"zoo:{name}", str(folder))
        CacheFiller(name, teacher, terms, data=data).fill(torch.device("cpu"))
        teachers[name] = teacher
    return teachers


class Arm:
    """One way to train, whose epochs are timed.

    Args:
        teachers: None at all for labels alone.
        terms: What they teach.
        task: For the student and its losses.
        data: For batches.
    """

    def __init__(
        self, teachers: Mapping[str, FrozenTeacher], terms: Mapping[str, Term], *, task: DistillationTask, data: Any
    ) -> None:
        self.faculty = Faculty(teachers)
        self.terms = terms
        self.task = task
        self.loader = data.train_dataloader()
        self.optimizer = torch.optim.AdamW(task.student.parameters(), lr=1e-4)

    def epoch(self) -> None:
        """Every batch once."""
        self.task.student.train()
        for batch in self.loader:
            output = self.task.student(batch)
            losses = list(self.task.losses(output, batch).values())
            answers = self.faculty.outputs(batch)
            losses += [term(output, answers, batch) for term in self.terms.values()]
            self.optimizer.zero_grad()
            torch.autograd.backward(torch.stack(losses).sum())
            self.optimizer.step()


def in_turns(arms: Mapping[str, Callable[[], None]], *, rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each arm in each round; who goes first changes."""
    for run in arms.values():
        run()
    names = list(arms)
    seconds = {name: np.empty(rounds) for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            begun = time.perf_counter()
            arms[name]()
            seconds[name][number] = time.perf_counter() - begun
    return seconds


def pair_terms() -> dict[str, Term]:
    """The main job's terms of two teachers."""
    pair = list(PAIR)
    return {
        "labels": DetectionPseudoLabel(pair),
        "heatmap": HeatmapResponse(pair, 0.5, merge="mean"),
        "box": BoxResponse("fused", 0.25),
        "bev": FeatureMimic("fused", 0.5, mask="ground_truth"),
        "relation": ObjectRelation("lidar", 0.25),
    }


def time_rows(root: Path, version: str, folder: Path, *, rounds: int, workers: int) -> list[Row]:
    """An epoch with two cached teachers against one with none and one with two live ones."""
    options = ["--data.init_args.num_workers", str(workers)]
    task, data = main_job(root, version, *options)
    terms = pair_terms()
    cached = cached_teachers(PAIR, list(terms.items()), data, folder)
    live = {name: FrozenTeacher(f"zoo:{name}") for name in PAIR}
    prepare(terms, task, data, live)
    arms = {
        "none": Arm({}, {}, task=task, data=data),
        "cached": Arm(cached, terms, task=task, data=data),
        "live": Arm(live, terms, task=task, data=data),
    }
    seconds = in_turns({name: arm.epoch for name, arm in arms.items()}, rounds=rounds)
    slower, faster = seconds["cached"] / seconds["none"], seconds["live"] / seconds["cached"]
    batch = next(iter(arms["none"].loader))
    reading = timed(lambda: arms["cached"].faculty.outputs(batch), rounds=20) / len(batch)
    step = float(np.median(seconds["none"])) / (len(arms["none"].loader) * len(batch))
    what = "an epoch with two cached teachers"
    return [
        Row(f"{what}, times one with no teachers", float(np.median(slower)), "times", target=MOST_SLOWER,
            better="lower", interval=bootstrap_interval(slower)),
        Row(f"{what}: how often it fits into one with two live teachers", float(np.median(faster)), "times",
            interval=bootstrap_interval(faster)),
        Row("reading two teachers' answers, per frame", float(np.median(reading)) * 1e3, "ms",
            "all of a frame's share of an epoch with no teachers", step * 1e3, better="lower"),
    ]  # fmt: skip


def timed(call: Callable[[], object], *, rounds: int) -> np.ndarray:
    """Seconds of each of some calls after a first one."""
    call()
    seconds = np.empty(rounds)
    for number in range(rounds):
        begun = time.perf_counter()
        call()
        seconds[number] = time.perf_counter() - begun
    return seconds


def prepare(
    terms: Mapping[str, Term], task: DistillationTask, data: NuScenesDataModule, live: Mapping[str, FrozenTeacher]
) -> None:
    """Make the terms' parts, with gradient-free answers about one frame."""
    batch = data.batch([data.dataset(data.records("train")[:1])[0]])
    torch.manual_seed(0)
    with torch.no_grad():
        output = task.student.eval()(batch)
        answers = {name: teacher(batch) for name, teacher in live.items()}
    records = {name: teacher.record.figures for name, teacher in live.items()}
    for name, term in terms.items():
        term.prepare(name, output, answers, records=records)


def settings() -> dict[str, tuple[str, dict[str, Term]]]:
    """What a cache is asked to hold, by description: the teacher and the terms that read it."""
    lidar, fused = "lidar", "fused"
    heat_box = {"a": HeatmapResponse("camera"), "b": BoxResponse("camera")}
    return {
        "heatmap and boxes (camera teacher of the main job)": ("camera", heat_box),
        "and features of boxes for relations (its LiDAR teacher)": (
            lidar,
            {"a": HeatmapResponse(lidar), "b": ObjectRelation(lidar)},
        ),
        "and features around objects (its fused teacher)": (
            fused,
            {"a": HeatmapResponse(fused), "b": BoxResponse(fused), "c": FeatureMimic(fused)},
        ),
        "and features at every cell (fused teacher, mask none)": (fused, {"a": FeatureMimic(fused, mask="none")}),
    }


def size_rows(batches: Sequence[Batch], data: NuScenesDataModule, folder: Path) -> list[Row]:
    """Bytes of a frame's file in several settings, with and without annotations."""
    rows = []
    for what, (name, terms) in settings().items():
        teacher, extents = FrozenTeacher(f"zoo:{name}"), extents_of(terms.items(), name)
        for labelled in (True, False):
            sizes, dense = [], 0
            for batch in batches:
                shown = batch if labelled else without_labels(batch)
                output = teacher(shown)
                form = Form.of(output)
                store = CacheStore.make(folder / "sizes", Subject({"name": name}, {}, extents), form)
                arrays = pack_answer(output, shown, extents, data=data)
                sizes.append(store.write(shown.token[0], arrays, labelled=labelled, room=CacheRoom(folder, 10.0)))
                dense = form.dense_bytes(extents)
            ratios = dense / np.array(sizes)
            kind = "labelled" if labelled else "unlabelled"
            rows.append(
                Row(f"{what}, {kind} frame", float(np.mean(sizes)) / 1e3, "kB", "dense half precision", dense / 1e3,
                    dense / float(np.mean(sizes)), LEAST_SMALLER, "lower", bootstrap_interval(ratios))
            )  # fmt: skip
    return rows


def gradient_rows(root: Path, version: str, folder: Path, batches: Sequence[Batch]) -> list[Row]:
    """Cosines of the student's gradient, each term alone and all together, untrained and trained."""
    task, data = main_job(root, version, "--data.init_args.num_workers", "0")
    terms = {name: term for name, term in task.terms.items() if isinstance(term, Term)}
    cached = cached_teachers(NAMES, list(terms.items()), data, folder)
    live = {name: FrozenTeacher(f"zoo:{name}") for name in NAMES}
    trained = load_trained("zoo:student")[0].state_dict()
    rows = []
    for when in ("untrained", "trained"):
        if when == "trained":
            task.student.load_state_dict(trained)
        prepare(terms, task, data, live)
        cosines: dict[str, list[float]] = {}
        for batch in (shown for whole in batches for shown in (whole, without_labels(whole))):
            both = [gradients(task, terms, Faculty(teachers).outputs(batch), batch) for teachers in (live, cached)]
            for name in [*terms, "all terms"]:
                one, other = (side[name] for side in both)
                if float(one.norm()) > 0:
                    cosines.setdefault(name, []).append(float(torch.cosine_similarity(one, other, dim=0)))
        rows += [
            Row(f"gradient's cosine, {name}, {when} student, worst of {len(found)} frames", min(found), "cosine",
                target=LEAST_COSINE)
            for name, found in cosines.items()
        ]  # fmt: skip
    return rows


def gradients(
    task: DistillationTask, terms: Mapping[str, Term], answers: Mapping[str, FusionOutput], batch: Batch
) -> dict[str, Tensor]:
    """The student's gradient of each term and of their sum."""
    output = task.student.eval()(batch)
    weights = list(task.student.parameters())
    found = {}
    for name, term in terms.items():
        parts = torch.autograd.grad(term(output, answers, batch), weights, retain_graph=True, allow_unused=True)
        flat = [torch.zeros_like(w).flatten() if g is None else g.flatten() for w, g in zip(weights, parts)]
        found[name] = torch.cat(flat).double()
    return found | {"all terms": torch.stack(list(found.values())).sum(dim=0)}


def without_labels(batch: Batch) -> Batch:
    """The same frames, unlabelled."""
    return replace(batch, labelled=torch.zeros_like(batch.labelled), gt_label=torch.full_like(batch.gt_label, -1))


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each kind")
    parser.add_argument("--keyframes", type=int, default=16, help="per scene; there are two")
    parser.add_argument("--frames", type=int, default=8, help="frames whose size and gradient are looked at")
    parser.add_argument("--workers", type=int, default=1, help="loader processes")
    given = parser.parse_args()
    use_one_thread()
    with tempfile.TemporaryDirectory(prefix="simulated-") as name:
        folder, root = Path(name), Path(name) / "world"
        world = WorldSettings(scenes=2, keyframes_per_scene=given.keyframes, image_width_px=512, seed=11)
        write_world(root, world)
        _, data = main_job(root, world.version, "--data.init_args.num_workers", "0")
        records = [replace(record, labelled=True) for record in data.records("train")]
        chosen = [records[i] for i in np.linspace(0, len(records) - 1, given.frames).astype(int)]
        batches = [data.batch([frame]) for frame in data.dataset(chosen)]
        rows = time_rows(root, world.version, folder / "time", rounds=given.rounds, workers=given.workers)
        rows += size_rows(batches, data, folder)
        rows += gradient_rows(root, world.version, folder / "gradients", batches)
    write_result("teacher_cache", rows, simulated=True, packages=("torch", "safetensors"))


if __name__ == "__main__":
    main()
