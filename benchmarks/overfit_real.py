"""Whether a student can learn real frames at all: it overfits the two real nuScenes keyframes.

Trained and judged on the same two frames, which says that sensors, calibration, targets, losses,
decoding and metric fit together on real input; it says nothing about other frames. Judged are boxes
with at least five LiDAR points within 40 m, over the classes present.

    python benchmarks/overfit_real.py --root ../shared/data/nuscenes-real
"""

import argparse
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from common import Row, write_result

from fusionkd.cli.training import train
from fusionkd.data import NuScenesDataModule
from fusionkd.metrics import Detections, DetectionSettings, DetectionTruth, evaluate
from fusionkd.models import Decoder
from fusionkd.teachers import load_student
from fusionkd.visualize import save_bev_figure

SCENES = ["scene-0061", "scene-0103"]
RANGE_M = 40.0
MIN_POINTS = 5


def fit(root: Path, folder: Path, steps: int) -> None:
    """Train the default student on the two frames, labels only."""
    train(
        [
            "fit",
            *("--config", "configs/nuscenes_mini.yaml", "--config", "configs/students/control_mini.yaml"),
            *("--data.init_args.root", str(root), "--data.init_args.if_missing", "raise"),
            *("--data.init_args.labelled_scenes", str(SCENES), "--data.init_args.train_split", str(SCENES)),
            *("--data.init_args.val_split", str(SCENES), "--data.init_args.min_box_points", str(MIN_POINTS)),
            *("--data.init_args.batch_size", "2", "--data.init_args.num_workers", "0"),
            *("--model.student.init_args.modality_dropout", "null"),
            *("--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(steps)),
            *("--trainer.default_root_dir", str(folder), "--trainer.logger", "false"),
        ]
    )


def judge(root: Path, folder: Path) -> dict[str, float]:
    """Figures on the two frames, and a picture of each."""
    data = NuScenesDataModule(str(root), train_split=SCENES, val_split=SCENES)
    data.prepare_data()
    model, decoder = load_student(folder / "student.ckpt"), Decoder(score_threshold=0.1)
    tokens = list(data.index.sample_tokens)
    frames = [data.frame(token) for token in tokens]
    with torch.no_grad():
        boxes = decoder(model(data.batch(frames)))
    for frame, found in zip(frames, boxes):
        save_bev_figure(
            folder / f"{frame.scene}.png", frame, predictions=found, title=f"{frame.scene}, overfitted", simulated=False
        )
    truth = DetectionTruth.from_index(data.index, SCENES)
    detections = Detections.from_ego(tokens, boxes, np.stack([frame.global_from_ego for frame in frames]))
    settings = DetectionSettings(min_points=MIN_POINTS, class_range_m=(RANGE_M,) * len(data.classes))
    figures = evaluate(truth, detections, settings=settings)
    present = {
        name: float(figures.class_ap[label]) for label, name in enumerate(data.classes) if figures.positives[label]
    }
    return {"mAP over the classes present": figures.mean_ap_present} | {
        f"AP {name}": ap for name, ap in present.items()
    }


def main() -> None:
    """Fit, judge and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder with the two real keyframes")
    parser.add_argument("--folder", type=Path, default=Path("runs/overfit_real"), help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=600)
    given = parser.parse_args()
    pl.seed_everything(0)
    fit(given.root, given.folder, given.steps)
    figures = judge(given.root, given.folder)
    rows = [Row(name, value, "", target=0.9 if name.startswith("mAP") else None) for name, value in figures.items()]
    write_result("overfit_real", rows, simulated=False)


if __name__ == "__main__":
    main()
