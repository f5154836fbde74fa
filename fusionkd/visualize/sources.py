"""Where a picture's frame and boxes come from: a data set, a trained model, a results file."""

from pathlib import Path

import torch

from fusionkd.data import Frame, NuScenesDataModule, NuScenesDataset, NuScenesIndex
from fusionkd.data.configured import configured_data
from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid, Boxes3D
from fusionkd.metrics import read_submission
from fusionkd.models import Decoder, FusionModel

PICTURE_WIDTH_PX = 800
"""Width of the camera images in pictures; networks often see smaller ones."""


def picture_frame(index: NuScenesIndex, token: str) -> Frame:
    """A frame for the eye: whole camera images and the keyframe's own sweep.

    Args:
        index: Of the data.
        token: Sample token, or sample_data token of a LiDAR sweep.

    Raises:
        UserError: If there is no such frame, or a file of it is missing or malformed.
    """
    record = index.record(token)
    sizes = index.images.size_px[[row for row in record.images if row >= 0]]
    height, width = sizes.min(axis=0).tolist() if len(sizes) else (9, 16)
    shown = min(PICTURE_WIDTH_PX, width)
    size_px = (round(height * shown / width), shown)
    return NuScenesDataset(index, [record], image_size_px=size_px, num_sweeps=1)[0]


def find_sample(index: NuScenesIndex, text: str) -> str:
    """The token that a user means.

    Args:
        index: Of the data.
        text: A token; the number of a keyframe in the sample table, from 0; or ``SCENE:NUMBER``, a scene's keyframe
            in time, from 0.

    Raises:
        UserError: If there is no such frame; the message says what there is.
    """
    if ":" in text:
        scene, _, number = text.rpartition(":")
        tokens = scene_tokens(index, scene)
        return tokens[_number(number, len(tokens), what=f"scene {scene}")]
    if text.isascii() and text.isdigit() and len(text) < 10:
        return index.sample_tokens[_number(text, len(index), what=f"{index.version} at {index.root}")]
    return index.record(text).token


def scene_tokens(index: NuScenesIndex, scene: str) -> list[str]:
    """Tokens of a scene's keyframes in time.

    Raises:
        UserError: If there is no such scene.
    """
    records = index.records([scene])
    return [record.token for record in sorted(records, key=lambda record: record.timestamp_us)]


def frame_name(index: NuScenesIndex, token: str) -> str:
    """A frame's name for a title: its scene and its number in it."""
    scene = index.record(token).scene
    tokens = scene_tokens(index, scene)
    return f"{scene}, keyframe {tokens.index(token)}" if token in tokens else f"{scene}, sweep {token[:8]}"


def open_data(
    root: str | None, version: str | None, *, model: FusionModel | None, config: Path | None
) -> NuScenesDataModule:
    """The data with the settings that a model was trained with.

    Args:
        root: Folder of the data; None takes the configuration's.
        version: Of nuScenes; None takes the configuration's.
        model: Who will read the data; without a configuration its grid is taken and all else is left as it is.
        config: The configuration of the model's run, of which the part ``data`` is read.

    Raises:
        UserError: If the configuration can't be read.
    """
    if config is not None:
        given = {key: value for key, value in (("root", root), ("version", version)) if value is not None}
        return configured_data(config, {**given, "cache_images_gb": 0})
    grid = BevGrid() if model is None else model.grid
    # One picture isn't worth a cache of all images.
    return NuScenesDataModule(root or "data/nuscenes", version or "v1.0-mini", grid=grid, cache_images_gb=0)


@torch.no_grad()
def predict(model: FusionModel, data: NuScenesDataModule, token: str, *, score_threshold: float) -> Boxes3D:
    """A model's boxes of one frame, in its ego frame."""
    output = model.eval()(data.batch([data.frame(token)]))
    return Decoder(score_threshold)(output)[0]


def boxes_from_results(path: Path, index: NuScenesIndex, token: str) -> Boxes3D:
    """One sample's boxes of a nuScenes results file, in the ego frame.

    Raises:
        UserError: If the file is malformed or has no results for the sample.
    """
    detections = read_submission(path).detections
    if token not in index.row_of_sample:
        raise UserError(f"Frame {token} is no keyframe; a results file only has boxes for keyframes.")
    if token not in detections.row_of:
        shared = [other for other in detections.tokens if other in index.row_of_sample]
        advice = f"Choose one of those, for example {shared[0]}." if shared else "It belongs to another data set."
        raise UserError(
            f"{path} has no results for sample {token}. It names {len(detections.tokens)} samples, {len(shared)} of "
            f"them in {index.version} at {index.root}. {advice}"
        )
    return detections.in_ego(token, index.global_from_ego(index.row_of_sample[token]))


def _number(text: str, count: int, *, what: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < count):
        raise UserError(f"There is no keyframe {text!r} in {what}: it has {count}, numbered 0 to {count - 1}.")
    return int(text)
