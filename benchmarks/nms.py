"""Circle and rotated NMS beside plain loops over NumPy rows and shapely polygons, on one thread, in turns.

python benchmarks/nms.py
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import shapely
import shapely.affinity
from common import Row, compare, use_one_thread, write_result
from numpy.typing import NDArray

from fusionkd.geometry.nms import circle_nms, rotated_nms

RADIUS_M, IOU = 2.0, 0.2


def loop(order: NDArray[np.int64], conflict: Callable[[int, int], bool]) -> list[int]:
    """Indices kept, best first."""
    kept: list[int] = []
    for i in order.tolist():
        if not any(conflict(i, j) for j in kept):
            kept.append(i)
    return kept


def polygon(box: NDArray[np.float64]) -> Any:
    flat = shapely.box(-box[2] / 2, -box[3] / 2, box[2] / 2, box[3] / 2)
    turned = shapely.affinity.rotate(flat, box[4], origin=(0, 0), use_radians=True)
    return shapely.affinity.translate(turned, box[0], box[1])


def rows_for(count: int, rounds: int) -> list[Row]:
    """Both kinds for so many boxes."""
    rng = np.random.default_rng(count)
    sides = [rng.uniform(-50, 50, (count, 2)), rng.uniform(0.5, 5, (count, 2)), rng.uniform(-3, 3, (count, 1))]
    boxes, score = np.concatenate(sides, axis=1), rng.permutation(count) / count
    order = np.argsort(-score, kind="stable")

    def near(i: int, j: int) -> bool:
        return bool(np.hypot(*(boxes[i, :2] - boxes[j, :2])) <= RADIUS_M)

    def by_shapely() -> list[int]:
        polygons = [polygon(box) for box in boxes]

        def overlap(i: int, j: int) -> bool:
            shared = polygons[i].intersection(polygons[j]).area
            return bool(shared / (polygons[i].area + polygons[j].area - shared) > IOU)

        return loop(order, overlap)

    pairs: tuple[tuple[str, Callable[[], Any], Callable[[], Any], str], ...] = (
        ("circle", lambda: circle_nms(boxes[:, :2], score, radius_m=RADIUS_M), lambda: loop(order, near), "a loop"),
        ("rotated", lambda: rotated_nms(boxes, score, iou=IOU), by_shapely, "a loop over shapely polygons"),
    )
    rows = []
    for name, ours, peer, peer_name in pairs:
        np.testing.assert_array_equal(ours(), peer())
        what = f"{name} NMS of {count} boxes"
        rows.append(compare(what, ours, peer, peer_name=peer_name, rounds=rounds, target=50.0))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="calls of each side per row (default 9)")
    rounds = parser.parse_args().rounds
    use_one_thread()
    rows = [row for count in (100, 500) for row in rows_for(count, rounds)]
    write_result("nms", rows, simulated=True, packages=("numba", "shapely"))


if __name__ == "__main__":
    main()
