"""What simulating costs on one core: a LiDAR sweep, and a keyframe's six images before JPEG encoding.

python benchmarks/world_cost.py
"""

import argparse
import time

import numpy as np
from common import Row, use_one_thread, write_result

from fusionkd.geometry import CAMERAS
from fusionkd.simulation.scene import build_scene
from fusionkd.simulation.sensing import Film, take_image, take_sweep

SWEEP_TARGET_MS, KEYFRAME_TARGET_MS = 10.0, 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=12)
    given = parser.parse_args()
    use_one_thread()
    film = Film.drawn(np.random.default_rng(0))
    sweeps, keyframes = [], {800: [], 512: []}
    for seed in range(given.scenes + 1):
        scene = build_scene(np.random.default_rng(seed), duration_s=4.0, mix="flat")
        for time_s in (0.5, 1.0, 1.5):
            start = time.perf_counter()
            take_sweep(scene, time_s, np.random.default_rng(0))
            sweeps.append(time.perf_counter() - start)
            for width_px, seconds in keyframes.items():
                start = time.perf_counter()
                for channel in CAMERAS:
                    take_image(scene, channel, time_s, width_px=width_px, film=film, shift=(0, 0))
                seconds.append(time.perf_counter() - start)
    # The first scene compiles.
    rows = [Row("LiDAR sweep", 1e3 * float(np.median(sweeps[3:])), "ms", target=SWEEP_TARGET_MS, better="lower")]
    for width_px, seconds in keyframes.items():
        value = 1e3 * float(np.median(seconds[3:]))
        target = KEYFRAME_TARGET_MS if width_px == 800 else None
        rows.append(Row(f"six images {width_px} px wide", value, "ms", target=target, better="lower"))
    write_result("world_cost", rows, simulated=True, packages=("numba",))


if __name__ == "__main__":
    main()
