"""From sensor bytes to the arrays that a network reads: what training reads, of one frame and without torch."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.deploy.clock import NO_CLOCK, Clock
from fusionkd.deploy.raw import RawFrame
from fusionkd.deploy.spec import CameraSpec, DeploySpec
from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid, CameraRig
from fusionkd.preprocess.frustum import frustum_cells
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

Inputs = dict[str, NDArray[Any]]


def prepare(raw: RawFrame, spec: DeploySpec, clock: Clock = NO_CLOCK) -> Inputs:
    """The network's inputs for a frame.

    Stages: ``preprocess/sweeps``, ``preprocess/raster`` or ``preprocess/pillars``, ``images/decode``,
    ``images/normalise``, ``preprocess/view``.

    Args:
        raw: The frame.
        spec: What the network reads.
        clock: Notes the stages.

    Returns:
        Arrays by name, as ``fusionkd.data.Batch`` of this one frame holds them: ``lidar_present`` (1,) bool and
        the LiDAR view's arrays; ``images`` (1, N, 3, H, W) float32, ``camera_present`` (1, N) bool and ``cells``
        (1, N, D, h, w) int64, which are shared between frames of the same rig and must not be written to.

    Raises:
        UserError: If an image or the number of cameras is another than the network reads.
    """
    inputs: Inputs = {}
    if spec.lidar is not None:
        inputs |= _lidar(raw, spec, clock)
    if spec.camera is not None:
        inputs |= _cameras(raw, spec.camera, clock)
        with clock.span("preprocess/view"):
            inputs["cells"] = view_cells(raw, spec.camera, grid=spec.grid)
    # The masks are there even if a modality is not, since every network asks for both.
    inputs.setdefault("lidar_present", np.zeros(1, np.bool_))
    inputs.setdefault("camera_present", np.zeros((1, 1), np.bool_))
    return inputs


def view_cells(raw: RawFrame, camera: CameraSpec, *, grid: BevGrid) -> NDArray[np.int64]:
    """Where the cameras' frustum points lie on the grid, (1, N, D, h, w); kept for the last few rigs.

    Raises:
        UserError: If the images are too flat for the network's.
    """
    base = base_size_px(raw.stored_px, camera.size_px)
    image_aug = crop_top(base, camera.size_px) @ base_from_stored(raw.stored_px, base)
    aug = np.broadcast_to(image_aug, raw.intrinsics.shape)
    rig = CameraRig(raw.intrinsics, raw.ego_from_camera, aug, camera.size_px)
    # Single precision, as batches hold it, so that both see the same cells.
    return _cells_of(rig.image_from_ego.astype(np.float32).tobytes(), camera, grid)


@lru_cache(maxsize=8)
def _cells_of(image_from_ego: bytes, camera: CameraSpec, grid: BevGrid) -> NDArray[np.int64]:
    matrices = np.frombuffer(image_from_ego, np.float32).reshape(-1, 4, 4)  # (N, 4, 4)
    return frustum_cells(matrices, camera.depth_m, grid=grid, size_px=camera.size_px, size=camera.feature_size)[None]


def _lidar(raw: RawFrame, spec: DeploySpec, clock: Clock) -> Inputs:
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
    return {**arrays, "lidar_present": np.array([len(raw.sweeps) > 0])}


def _cameras(raw: RawFrame, camera: CameraSpec, clock: Clock) -> Inputs:
    if len(raw.images) != len(camera.names):
        raise UserError(
            f"Frame {raw.token} has {len(raw.images)} images; the network reads {len(camera.names)}: "
            f"{', '.join(camera.names)}. Give None for a camera that is lost."
        )
    with clock.span("images/decode"):
        present = np.array([image is not None for image in raw.images])
        pixels = np.zeros((len(raw.images), *camera.size_px, 3), np.uint8)
        for k in np.flatnonzero(present):
            pixels[k] = _network_image(raw, int(k), camera)
    with clock.span("images/normalise"):
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
