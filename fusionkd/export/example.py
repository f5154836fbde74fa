"""A made-up frame of any description: what exporters trace, and tests run."""

import numpy as np
from numpy.typing import NDArray

from fusionkd.deploy import CameraSpec, DeploySpec, RawFrame
from fusionkd.geometry import rigid_from_yaw


def example_raw(spec: DeploySpec, *, points: int = 5000, seed: int = 0) -> RawFrame:
    """One sweep of random points and images of noise, from level cameras that look all around.

    Args:
        spec: Who will read it.
        points: LiDAR points.
        seed: Of the numbers.
    """
    generator = np.random.default_rng(seed)
    grid = spec.grid
    low = [grid.x_min_m, grid.y_min_m, max(grid.z_min_m, -2.0), 0, 0]
    cloud = generator.uniform(low, [grid.x_max_m, grid.y_max_m, min(grid.z_max_m, 2.0), 255, 31], (points, 5))
    cameras = 0 if spec.camera is None else len(spec.camera.names)
    size_px = (1, 1) if spec.camera is None else spec.camera.size_px
    return RawFrame(
        token=f"made up {seed}",
        sweeps=(cloud.astype(np.float32).tobytes(),),
        key_from_sweep=np.eye(4)[None],
        age_s=np.zeros(1),
        images=tuple(generator.integers(0, 256, (*size_px, 3), dtype=np.uint8) for _ in range(cameras)),
        intrinsics=np.tile(_intrinsics(size_px), (cameras, 1, 1)),
        ego_from_camera=_ring(spec.camera),
        stored_px=size_px,
    )


def _intrinsics(size_px: tuple[int, int]) -> NDArray[np.float64]:
    height, width = size_px
    return np.array([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])


def _ring(camera: CameraSpec | None) -> NDArray[np.float64]:
    """(N, 4, 4) ego_from_camera of level cameras 1.5 m high."""
    if camera is None:
        return np.zeros((0, 4, 4))
    forward_from_camera = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    turns = [rigid_from_yaw(k * 2 * np.pi / len(camera.names), (0, 0, 1.5)) for k in range(len(camera.names))]
    ring: NDArray[np.float64] = np.stack(turns) @ forward_from_camera
    return ring
