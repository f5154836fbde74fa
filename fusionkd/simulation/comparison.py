"""How like two worlds are: statistics of points, boxes and images side by side, the largest difference first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.simulation.comparison_frames import Keyframe, Root
from fusionkd.simulation.comparison_ledger import Difference, Ledger
from fusionkd.simulation.comparison_pictures import save_lidar_pair, save_surround_pair
from fusionkd.simulation.comparison_statistics import add_boxes, add_image, add_points


@dataclass(frozen=True)
class Comparison:
    """What two worlds have in common and what not.

    Attributes:
        differences: The largest distance first.
        keyframes: Of the real and the simulated root.
        skipped: What could not be compared, in sentences.
    """

    differences: tuple[Difference, ...]
    keyframes: tuple[int, int]
    skipped: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "about": "A simulated world beside real frames; figures of the second column are simulated.",
            "keyframes": {"real": self.keyframes[0], "simulated": self.keyframes[1]},
            "mean_distance": round(float(np.mean([d.distance for d in self.differences])), 4),
            "skipped": list(self.skipped),
            "differences": [difference.as_dict() for difference in self.differences],
        }


def compare(real: Root, simulated: Root) -> Comparison:
    """Compare all keyframes of two roots.

    Raises:
        UserError: If a root has nothing to compare.
    """
    ledgers, counts = [], []
    for root in (real, simulated):
        ledger, count = _measure(root.keyframes())
        if count == 0:
            raise UserError(f"{root.path} has no keyframe that may be compared.")
        ledgers.append(ledger)
        counts.append(count)
    differences, lonely = ledgers[0].against(ledgers[1])
    if not differences:
        raise UserError(f"{real.path} and {simulated.path} have nothing in common: no points, boxes or images in both.")
    skipped = [f"{root.path.name}: {text}" for root in (real, simulated) for text in root.skipped]
    skipped += [f"{name}: only one root has data for it" for name in lonely]
    return Comparison(tuple(differences), (counts[0], counts[1]), tuple(skipped))


def _measure(keyframes: Iterator[Keyframe]) -> tuple[Ledger, int]:
    ledger, count = Ledger(), 0
    for keyframe in keyframes:
        count += 1
        if keyframe.points is not None:
            add_points(ledger, keyframe.points)
        if keyframe.boxes is not None:
            add_boxes(ledger, keyframe.boxes)
        for path in keyframe.images.values():
            add_image(ledger, read_image(path))
    return ledger, count


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file as (H, W, 3) uint8 RGB.

    Raises:
        UserError: If it can't be decoded.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"Image {path} can't be decoded.")
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8)[..., ::-1])


def save_pictures(
    folder: Path, real: Root, simulated: Root, *, count: int, say: Callable[[str], None] = print
) -> list[Path]:
    """Pairs of keyframes as pictures: the LiDAR from above and the six cameras, real beside simulated.

    Args:
        folder: Where the PNG files go.
        real: One root.
        simulated: The other; a shorter one starts again.
        count: Pairs of each kind; the keyframes are spread evenly.
        say: Told of each file.
    """
    chosen = [_spread(list(root.keyframes()), count) for root in (real, simulated)]
    if not chosen[0] or not chosen[1]:
        return []
    written = []
    for number, (a, b) in enumerate(zip_longest(*chosen)):
        first = a or chosen[0][number % len(chosen[0])]
        second = b or chosen[1][number % len(chosen[1])]
        if first.points is not None and second.points is not None:
            written.append(folder / f"lidar-{number}.png")
            save_lidar_pair(written[-1], (first.name, first.points), (second.name, second.points))
            say(f"Wrote {written[-1]}.")
        if first.images and second.images:
            written.append(folder / f"cameras-{number}.png")
            images = [{c: read_image(path) for c, path in frame.images.items()} for frame in (first, second)]
            save_surround_pair(written[-1], (first.name, images[0]), (second.name, images[1]))
            say(f"Wrote {written[-1]}.")
    return written


def _spread(frames: list[Keyframe], count: int) -> list[Keyframe]:
    return [frames[int(i)] for i in np.unique(np.linspace(0, len(frames) - 1, count).round())] if frames else []
