"""Does a LiDAR teacher that has only ever seen the simulated world find real cars?

    python benchmarks/reality_check.py --real ../shared/data/nuscenes-real

The score from which a box counts is chosen on simulated validation frames alone (largest F1 for cars), with as few
sweeps as the real frames have. Then the recall of real cars: centre within 2 m, within 30 m of the car, at least five
LiDAR points. The frames' BEV pictures are left in ``runs/reality_check``; they show real data and belong in no
repository. Two or a few frames prove little: the count stands beside the share.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import RESULTS, Row, use_one_thread, write_result
from numpy.typing import NDArray

from fusionkd.data import Frame, NuScenesDataModule, PillarView
from fusionkd.geometry import DETECTION_CLASSES, BevGrid, Boxes3D
from fusionkd.models import Decoder, FusionModel
from fusionkd.preprocess import count_points_in_boxes
from fusionkd.teachers import load_trained
from fusionkd.visualize import save_bev_figure

CAR = DETECTION_CLASSES.index("car")
RANGE_M, REACH_M, MIN_POINTS = 30.0, 2.0, 5
GRID = BevGrid(x_min_m=-51.2, x_max_m=51.2, y_min_m=-51.2, y_max_m=51.2, cell_m=0.8)
TARGET = 0.5


@dataclass(frozen=True)
class Cars:
    """Cars of some frames that should be found, and answers.

    Attributes:
        best: Per real car, the best score of an answer within reach, 0 for none.
        score: Of every answer.
    """

    best: NDArray[np.float64]
    score: NDArray[np.float64]

    def f1(self, threshold: float) -> float:
        """Harmonic mean of recall and precision, the cars that were reached counted as right answers."""
        hits = float((self.best >= threshold).sum())
        return 2 * hits / max(len(self.best) + float((self.score >= threshold).sum()), 1.0)


def opened(root: Path, version: str, *, scenes: list[str] | None, num_sweeps: int) -> NuScenesDataModule:
    """The frames of a data set as the shipped LiDAR teacher reads them."""
    views = {"pillars": PillarView(grid=GRID.with_cell(0.4), mix_ages=True)}
    data = NuScenesDataModule(
        str(root),
        version=version,
        train_split=scenes,
        val_split=scenes,
        grid=GRID,
        lidar_views=views,
        num_sweeps=num_sweeps,
    )
    data.prepare_data()
    return data


def cars_of(frame: Frame, found: Boxes3D) -> Cars:
    """What one frame has and what was answered."""
    truth = frame.boxes
    assert truth is not None
    newest = frame.points[frame.points[:, 4] <= frame.points[:, 4].min() + 1e-3]
    counts = count_points_in_boxes(newest, truth.to_array())
    near = (truth.label == CAR) & (np.hypot(truth.xyz_m[:, 0], truth.xyz_m[:, 1]) < RANGE_M)
    wanted = truth.xyz_m[near & (counts >= MIN_POINTS), :2]
    answered = found.select((found.label == CAR) & (np.hypot(found.xyz_m[:, 0], found.xyz_m[:, 1]) < RANGE_M))
    far = np.linalg.norm(wanted[:, None] - answered.xyz_m[None, :, :2], axis=2)  # (cars, answers)
    best = np.where(far < REACH_M, answered.score, 0.0).max(axis=1, initial=0.0)
    return Cars(best.astype(np.float64), answered.score.astype(np.float64))


@torch.no_grad()
def ask(model: FusionModel, data: NuScenesDataModule, *, frames: int, pictures: Path | None = None) -> Cars:
    """The model's answers to validation frames, spread evenly."""
    records = data.records("val")
    chosen = [records[int(i)] for i in np.linspace(0, len(records) - 1, min(frames, len(records))).round()]
    dataset, decoder, parts = data.dataset(chosen), Decoder(score_threshold=0.03), []
    for item in range(len(dataset)):
        frame = dataset[item]
        found = decoder(model(data.batch([frame])))[0]
        parts.append(cars_of(frame, found))
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            kept = found.select(found.score >= 0.2)
            title = f"{frame.scene}, a teacher trained on simulated data alone"
            save_bev_figure(
                pictures / f"{frame.scene}.png", frame, predictions=kept, title=title, simulated=data.is_simulated
            )
    return Cars(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("best", "score")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder with real frames in nuScenes' layout")
    parser.add_argument("--version", default="v1.0-mini", help="of the real frames")
    parser.add_argument("--scenes", nargs="+", default=["scene-0061", "scene-0103"], help="of the real frames")
    parser.add_argument(
        "--simulated", type=Path, default=Path("data/simulated-teachers"), help="to choose the score on"
    )
    parser.add_argument("--checkpoint", default="zoo:lidar")
    parser.add_argument("--frames", type=int, default=64, help="simulated ones")
    parser.add_argument("--sweeps", type=int, default=1, help="that the real frames have")
    given = parser.parse_args()
    use_one_thread()
    model = load_trained(given.checkpoint)[0].eval()
    simulated = ask(
        model, opened(given.simulated, "v1.0-trainval", scenes=None, num_sweeps=given.sweeps), frames=given.frames
    )
    thresholds = np.arange(0.05, 0.95, 0.01)
    threshold = float(thresholds[np.argmax([simulated.f1(t) for t in thresholds])])
    with tempfile.TemporaryDirectory() as folder:
        # The index of a data set is kept beside it; a data set that isn't ours is left as it is.
        beside = Path(folder) / "real"
        beside.mkdir()
        for path in given.real.iterdir():
            if not path.name.startswith("."):
                (beside / path.name).symlink_to(path.resolve())
        data = opened(beside, given.version, scenes=given.scenes, num_sweeps=given.sweeps)
        pictures = RESULTS.parent.parent / "runs" / "reality_check"
        real = ask(model, data, frames=len(data.records("val")), pictures=pictures)
    share = float((real.best >= threshold).mean())
    counted = f"{int((real.best >= threshold).sum())} of {len(real.best)} real cars, {given.sweeps} sweep"
    rows = [
        Row("score from which a box counts, chosen on simulated frames", threshold, ""),
        Row("recall of simulated cars", float((simulated.best >= threshold).mean()), "", better="higher"),
        Row(f"recall of real cars: {counted}", share, "", target=TARGET),
        Row(
            "answers per real car", float((real.score >= threshold).sum()) / max(len(real.best), 1), "", better="lower"
        ),
    ]
    write_result("reality_check", rows, simulated=False, packages=("torch",))
    print(f"pictures: {pictures}")


if __name__ == "__main__":
    main()
