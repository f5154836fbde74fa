"""What perfect classes, centres, velocities or headings would add to each model, and where each beats the others.

    python benchmarks/oracle.py                     # a world of 28 scenes that no model saw, written if absent
    python benchmarks/oracle.py --root DIR --version v1.0-mini --checkpoints zoo:lidar runs/student.ckpt --frames 40

Three result files: ``oracle`` (gains in mAP and NDS), ``oracle_classes`` (AP per class, with perfect classes and with
perfect centres beside it) and ``oracle_conditions`` (mean AP by light and weather, by distance; recall by visibility).
Light and weather are read from the scenes' descriptions; the world's seed is one that draws every weather at least
twice, which the few validation scenes of the teachers' world don't.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from common import Row, use_one_thread, write_result

from fusionkd.data import NuScenesDataModule, NuScenesDataset
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.metrics import Detections, DetectionTruth, evaluate, figures_by_distance
from fusionkd.metrics.oracle import QUESTIONS, meant, with_truth
from fusionkd.models import Decoder
from fusionkd.simulation import WorldSettings, write_world
from fusionkd.teachers import load_trained
from fusionkd.visualize.sources import open_data

CHECKPOINTS = ("zoo:lidar", "zoo:camera", "zoo:fused", "zoo:student")
CONDITIONS = {
    "night": lambda text: "night" in text,
    "rain": lambda text: "rain" in text,
    "glare": lambda text: "glare" in text,
    "haze": lambda text: "haze" in text,
    "dry day": lambda text: not any(word in text for word in ("night", "rain", "glare", "haze")),
}
HELD_OUT_ROOT = Path("data/simulated-held-out")
HELD_OUT = WorldSettings(
    scenes=29, val_scenes=28, seed=5011, keyframes_per_scene=8, image_width_px=512, version="v1.0-trainval"
)
VISIBILITY = {"1": "0-40 %", "2": "40-60 %", "3": "60-80 %", "4": "80-100 %"}
EDGES_M = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)


def asked(description: str | None, *, root: str, version: str, checkpoints: Sequence[str]) -> argparse.Namespace:
    """The command line of a benchmark that judges models on validation frames, with its defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(root))
    parser.add_argument("--version", default=version)
    parser.add_argument("--checkpoints", nargs="+", default=list(checkpoints))
    parser.add_argument("--config", type=Path, default=Path("configs/nuscenes_mini.yaml"), help="for the data settings")
    parser.add_argument("--frames", type=int, help="so many validation frames (default: all)")
    return parser.parse_args()


def opened(given: argparse.Namespace) -> NuScenesDataModule:
    """The data that the command line names."""
    use_one_thread()
    return open_data(str(given.root), given.version, model=None, config=given.config)


def validation_frames(data: NuScenesDataModule, frames: int | None) -> NuScenesDataset:
    """All validation frames, or so many of them, spread evenly."""
    records = data.records("val")
    if frames is not None and frames < len(records):
        records = [records[int(i)] for i in np.linspace(0, len(records) - 1, frames).round()]
    return data.dataset(records)


@torch.no_grad()
def detect(checkpoints: list[str], data: NuScenesDataModule, frames: int | None) -> dict[str, Detections]:
    """Each model's boxes of the validation frames, or of so many of them, spread evenly."""
    models = {name: load_trained(name)[0].eval() for name in checkpoints}
    decoder, boxes, poses, tokens = Decoder(), {name: [] for name in models}, [], []
    dataset = validation_frames(data, frames)
    for item in range(len(dataset)):
        batch = data.batch([dataset[item]])
        tokens += batch.token
        poses += list(np.asarray(batch.global_from_ego))
        for name, model in models.items():
            boxes[name] += decoder(model(batch))
    return {name: Detections.from_ego(tokens, found, np.stack(poses)) for name, found in boxes.items()}


def short(name: str) -> str:
    return name.removeprefix("zoo:") if name.startswith("zoo:") else Path(name).stem


def gain_rows(truth: DetectionTruth, found: dict[str, Detections]) -> list[Row]:
    rows = []
    for name, detections in found.items():
        plain = evaluate(truth, detections, missing="ignore")
        rows.append(Row(f"{short(name)}: mAP", 100 * plain.mean_ap, "points"))
        rows.append(Row(f"{short(name)}: NDS", 100 * plain.nds, "points"))
        for question in QUESTIONS:
            better = evaluate(truth, with_truth(truth, detections, question), missing="ignore")
            what = f"{short(name)} with every {question} right: gain in"
            rows.append(Row(f"{what} mAP", 100 * (better.mean_ap - plain.mean_ap), "points"))
            rows.append(Row(f"{what} NDS", 100 * (better.nds - plain.nds), "points"))
    return rows


def class_rows(truth: DetectionTruth, found: dict[str, Detections]) -> list[Row]:
    rows = []
    for name, detections in found.items():
        plain = evaluate(truth, detections, missing="ignore").class_ap
        for question in ("class", "centre"):
            better = evaluate(truth, with_truth(truth, detections, question), missing="ignore").class_ap
            for label, kind in enumerate(DETECTION_CLASSES):
                what = f"{short(name)}, {kind}: AP with every {question} right"
                rows.append(Row(what, 100 * better[label], "points", "as it is", 100 * plain[label]))
    return rows


def condition_rows(truth: DetectionTruth, found: dict[str, Detections], described: dict[str, str]) -> list[Row]:
    rows = []
    for condition, fits in CONDITIONS.items():
        tokens = {token for token, text in described.items() if fits(text.lower())}
        for name, detections in found.items():
            kept = [token for token in detections.tokens if token in tokens]
            own = detections.shown_at(kept, kept)
            if own.tokens:
                value = evaluate(truth, own, missing="ignore").mean_ap_present
                what = f"{condition} ({len(own.tokens)} frames), {short(name)}: mean AP of present classes"
                rows.append(Row(what, 100 * value, "points"))
    for name, detections in found.items():
        for span, figures in figures_by_distance(truth, detections, edges_m=EDGES_M, missing="ignore").items():
            value = 100 * figures.mean_ap_present
            rows.append(Row(f"{span}, {short(name)}: mean AP of present classes", value, "points"))
    return rows


def visibility_rows(truth: DetectionTruth, found: dict[str, Detections], level: np.ndarray) -> list[Row]:
    """Recall by visibility among the detections above each model's best score (largest F1)."""
    rows = []
    for name, detections in found.items():
        row = meant(truth, detections, of_same_class=True, reach_m=2.0)
        order = np.argsort(-detections.score, kind="stable")
        judged = np.isin(truth.sample, [truth.row_of[token] for token in detections.tokens]) & (truth.num_points > 0)
        hits = np.cumsum((row[order] >= 0) & judged[row[order]])
        best = int(np.argmax(2 * hits / (np.arange(1, len(hits) + 1) + judged.sum()))) if len(hits) else -1
        hit = np.zeros(len(truth.label), bool)
        chosen = row[order[: best + 1]]
        hit[chosen[chosen >= 0]] = True
        for key, words in VISIBILITY.items():
            of_level = judged & (level == int(key))
            if of_level.any():
                rows.append(Row(f"visible {words}, {short(name)}: recall", 100 * hit[of_level].mean(), "%"))
    return rows


def visibility_of(root: Path, version: str, truth: DetectionTruth) -> np.ndarray:
    """Level of each annotation of the truth, 0 where unknown; found by sample and place."""
    out = np.zeros(len(truth.label), np.int64)
    rows = {}
    for annotation in json.loads((root / version / "sample_annotation.json").read_text()):
        key = (annotation["sample_token"], *np.round(annotation["translation"], 3).tolist())
        rows[key] = int(annotation["visibility_token"] or 0)
    for i, (sample, xyz) in enumerate(zip(truth.sample, truth.xyz_m, strict=True)):
        out[i] = rows.get((truth.tokens[sample], *np.round(xyz, 3).tolist()), 0)
    return out


def main() -> None:
    given = asked(__doc__, root=str(HELD_OUT_ROOT), version=HELD_OUT.version, checkpoints=CHECKPOINTS)
    if given.root == HELD_OUT_ROOT:
        write_world(HELD_OUT_ROOT, HELD_OUT)
    data = opened(given)
    found = detect(given.checkpoints, data, given.frames)
    truth = DetectionTruth.from_index(data.index, data.scenes("val"))
    descriptions = [text.decode() for text in data.index.scenes.description]
    described = {
        token: descriptions[scene]
        for token, scene in zip(data.index.sample_tokens, data.index.samples.scene, strict=True)
    }
    level = visibility_of(given.root, given.version, truth)
    simulated = data.is_simulated
    write_result("oracle", gain_rows(truth, found), simulated=simulated, packages=("torch",))
    write_result("oracle_classes", class_rows(truth, found), simulated=simulated, packages=("torch",))
    conditions = condition_rows(truth, found, described) + visibility_rows(truth, found, level)
    write_result("oracle_conditions", conditions, simulated=simulated, packages=("torch",))


if __name__ == "__main__":
    main()
