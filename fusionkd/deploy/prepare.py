"""From sensor bytes to the arrays that a network reads: what training reads, of one frame and without torch."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.deploy.clock import NO_CLOCK, Clock
from fusionkd.deploy.raw import RawFrame
from fusionkd.deploy.spec import CameraSpec, DeploySpec
from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid, CameraRig, invert_affine
from fusionkd.preprocess.clouds import younger
from fusionkd.preprocess.frustum import frustum_cells, measured_cells
from fusionkd.preprocess.images import (
    base_from_stored,
    base_size_px,
    crop_top,
    decode_jpeg,
    normalise_images,
    scaled,
    warp,
)
from fusionkd.preprocess.sweeps import fuse_sweeps
from fusionkd.preprocess.threads import in_threads

Inputs = dict[str, NDArray[Any]]

RIG_CHECK_M = 40.0
"""Distance at which a frame's cameras are compared with a fixed rig."""

RIG_TOLERANCE = 0.1
"""Share of the image's width that ego motion between camera and LiDAR may move a point at that distance."""


def prepare(raw: RawFrame, spec: DeploySpec, clock: Clock = NO_CLOCK, *, threads: int = 1) -> Inputs:
    """The network's inputs for a frame.

    Stages: ``preprocess/sweeps``, ``preprocess/raster`` or ``preprocess/pillars``, ``preprocess/images``,
    ``preprocess/normalise``, ``preprocess/view``.

    Args:
        raw: The frame.
        spec: What the network reads.
        clock: Notes the stages.
        threads: That share the images; the result is the same.

    Returns:
        Arrays by name, as ``fusionkd.data.Batch`` of this one frame holds them: ``lidar_present`` (1,) bool and
        the LiDAR view's arrays; ``images`` (1, N, 3, H, W) float32, ``camera_present`` (1, N) bool; unless the
        network is made for a fixed rig, ``cells`` (1, N, D, h, w) int64: where the frustum points lie on the grid,
        shared between frames of the same rig and not to be written to; and where the network reads it, ``measured``
        (1, N, h, w) int64: where the newest sweep says that image features stand.

    Raises:
        UserError: If an image, the number of cameras or a fixed rig is another than the network reads.
    """
    inputs: Inputs = {}
    points = np.zeros((0, 5), np.float32)
    if spec.lidar is not None:
        points, inputs = _lidar(raw, spec, clock)
    if spec.camera is not None:
        inputs |= _cameras(raw, spec.camera, clock, threads)
        with clock.span("preprocess/view"):
            rig = network_rig(raw, spec.camera)
            if spec.camera.fixed_rig is None:
                inputs["cells"] = _cells_of(rig.tobytes(), spec.camera, spec.grid)
            else:
                _check_rig(rig.tobytes(), spec.camera)
            if spec.camera.measured_depth:
                inputs["measured"] = _measured(points, rig, spec.camera, spec.grid)
    # The masks are there even if a modality is not, since every network asks for both.
    inputs.setdefault("lidar_present", np.zeros(1, np.bool_))
    inputs.setdefault("camera_present", np.zeros((1, 1), np.bool_))
    return inputs


def network_rig(raw: RawFrame, camera: CameraSpec) -> NDArray[np.float32]:
    """``image_from_ego`` (N, 4, 4) of a frame's cameras for the network's images, in the precision of batches.

    Raises:
        UserError: If the images are too flat for the network's.
    """
    base = base_size_px(raw.stored_px, camera.size_px)
    image_aug = crop_top(base, camera.size_px) @ base_from_stored(raw.stored_px, base)
    aug = np.broadcast_to(image_aug, raw.intrinsics.shape)
    rig = CameraRig(raw.intrinsics, raw.ego_from_camera, aug, camera.size_px)
    return rig.image_from_ego.astype(np.float32)


def _measured(
    points: NDArray[np.float32], rig: NDArray[np.float32], camera: CameraSpec, grid: BevGrid
) -> NDArray[np.int64]:
    """(1, N, h, w), by the points of the frame's own sweep: what moves has left older ones behind."""
    newest = younger(points, 0.0)
    size_px, size = camera.size_px, camera.feature_size
    return measured_cells(newest, image_from_ego=rig, grid=grid, size_px=size_px, size=size)[None]


@lru_cache(maxsize=8)
def _cells_of(image_from_ego: bytes, camera: CameraSpec, grid: BevGrid) -> NDArray[np.int64]:
    matrices = np.frombuffer(image_from_ego, np.float32).reshape(-1, 4, 4)  # (N, 4, 4)
    return frustum_cells(matrices, camera.depth_m, grid=grid, size_px=camera.size_px, size=camera.feature_size)[None]


@lru_cache(maxsize=64)
def _check_rig(image_from_ego: bytes, camera: CameraSpec) -> None:
    """Refuse a rig that is another than the network's fixed one, ego motion between sensors aside."""
    found = np.frombuffer(image_from_ego, np.float32).reshape(-1, 4, 4).astype(np.float64)  # (N, 4, 4)
    height, width = camera.size_px
    ahead = np.array([width / 2 * RIG_CHECK_M, height / 2 * RIG_CHECK_M, RIG_CHECK_M, 1.0])
    # What the network's camera sees in its middle, in pixels of the frame's camera.
    seen = (found @ invert_affine(np.asarray(camera.fixed_rig)) @ ahead)[:, :3]
    with np.errstate(divide="ignore", invalid="ignore"):
        off_px = np.abs(seen[:, :2] / seen[:, 2:] - [width / 2, height / 2]).max(axis=1)
    wrong = (seen[:, 2] <= 0) | ~(off_px <= RIG_TOLERANCE * width)
    if wrong.any():
        names = ", ".join(np.asarray(camera.names)[wrong])
        raise UserError(
            f"The network was made for a fixed rig of cameras; {names} of this frame look elsewhere: what the "
            f"network's cameras see {RIG_CHECK_M:g} m ahead is more than {RIG_TOLERANCE:.0%} of the image away. Export "
            f"with this car's rig, or without --fixed-rig."
        )


def _lidar(raw: RawFrame, spec: DeploySpec, clock: Clock) -> tuple[NDArray[np.float32], Inputs]:
    """The fused sweeps (P, 5), newest first, and the view of them."""
    view = spec.lidar
    assert view is not None
    with clock.span("preprocess/sweeps"):
        # Sweeps that the view would leave out needn't be fused.
        oldest = np.inf if view.max_age_s is None else np.float32(view.max_age_s)
        used = [k for k in range(min(len(raw.sweeps), spec.num_sweeps)) if np.float32(raw.age_s[k]) <= oldest]
        points = fuse_sweeps(
            [np.frombuffer(raw.sweeps[k], np.float32).reshape(-1, 5) for k in used],  # (P, 5)
            key_from_sweep=raw.key_from_sweep[used],
            age_s=raw.age_s[used],
        )
    with clock.span(f"preprocess/{view.stage}"):
        arrays = view.collate([view.make(points)])
    return points, {**arrays, "lidar_present": np.array([len(raw.sweeps) > 0])}


def _cameras(raw: RawFrame, camera: CameraSpec, clock: Clock, threads: int) -> Inputs:
    if len(raw.images) != len(camera.names):
        raise UserError(
            f"Frame {raw.token} has {len(raw.images)} images; the network reads {len(camera.names)}: "
            f"{', '.join(camera.names)}. Give None for a camera that is lost."
        )
    with clock.span("preprocess/images"):
        present = np.array([image is not None for image in raw.images])
        pixels = np.zeros((len(raw.images), *camera.size_px, 3), np.uint8)
        given = np.flatnonzero(present).tolist()

        def decode(start: int, stop: int) -> None:
            for k in given[start:stop]:
                pixels[k] = _network_image(raw, k, camera)

        in_threads(decode, len(given), threads=threads)
    with clock.span("preprocess/normalise"):
        images = normalise_images(pixels, camera.mean, camera.std)
        images[~present] = 0
    return {"images": images[None], "camera_present": present[None]}


def _network_image(raw: RawFrame, k: int, camera: CameraSpec) -> NDArray[np.uint8]:
    image, name = raw.images[k], f"The image of {camera.names[k]} in frame {raw.token}"
    assert image is not None
    base = base_size_px(raw.stored_px, camera.size_px)
    if isinstance(image, bytes):
        whole = decode_jpeg(np.frombuffer(image, np.uint8), stored_px=raw.stored_px, base_px=base, name=name)
    elif image.shape == (*raw.stored_px, 3) and image.dtype == np.uint8:
        whole = scaled(image, base)
    else:
        raise UserError(
            f"{name} must be bytes of a JPEG file or uint8 of shape {(*raw.stored_px, 3)}, found {image.dtype} of "
            f"shape {image.shape}."
        )
    return warp(whole, crop_top(base, camera.size_px), camera.size_px)
