"""The nuScenes detection metric as a torchmetrics ``Metric``."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from fusionkd.errors import UserError
from fusionkd.geometry import Boxes3D
from fusionkd.metrics.detection import Missing, evaluate
from fusionkd.metrics.detections import BOX_RECORD, Detections, global_records
from fusionkd.metrics.settings import DETECTION_CVPR_2019, DetectionSettings
from fusionkd.metrics.truth import DetectionTruth

_POSE_TOLERANCE_M = 0.1
_NOTHING = {
    "seen": torch.empty(0, 2, dtype=torch.int64),
    "packed": torch.empty(0, BOX_RECORD.itemsize, dtype=torch.uint8),
}


class NuScenesDetection(Metric):
    """MAP, NDS and the errors of true positives, equal to those of nuscenes-devkit's ``DetectionEval``.

    ``update`` takes boxes as the models' decoders give them, in each sample's ego frame. Under DDP every process
    gathers the boxes of all, whatever their number; a sample that several processes saw (``DistributedSampler``
    repeats some to give each process equally many) counts once. The figures are those of one process, bit for bit.

    By default the samples seen since the last ``reset`` are judged, against their own annotations alone. So
    Lightning's sanity check and ``limit_val_batches`` give honest figures of a part of the split, and
    ``missing="error"`` is for runs that must cover all of it.

    Args:
        truth: Annotations of at least the samples that ``update`` will name.
        missing: What samples of the truth without results mean, see ``evaluate``.
        settings: Ranges, thresholds and weights.
        kwargs: Passed on to ``torchmetrics.Metric``.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    seen: list[Tensor]
    packed: list[Tensor]

    def __init__(
        self,
        truth: DetectionTruth,
        *,
        missing: Missing = "ignore",
        settings: DetectionSettings = DETECTION_CVPR_2019,
        **kwargs: Any,
    ) -> None:
        # Without torchmetrics' cache: a process that saw nothing new would answer from it, and the others would
        # wait for its part for ever.
        super().__init__(**{"compute_with_cache": False, **kwargs})
        if missing not in ("error", "empty", "ignore"):
            raise UserError(f'NuScenesDetection: missing must be "error", "empty" or "ignore", found {missing!r}.')
        self.truth = truth
        self.missing: Missing = missing
        self.settings = settings
        # Samples seen: index in the truth and number of boxes, (B, 2) int64 per update.
        self.add_state("seen", default=[], dist_reduce_fx="cat")
        # Those boxes as the bytes of BOX_RECORD, (n, bytes) uint8: no device lacks the type, and nothing is rounded.
        self.add_state("packed", default=[], dist_reduce_fx="cat")

    def update(self, tokens: Sequence[str], boxes: Sequence[Boxes3D], global_from_ego: ArrayLike | Tensor) -> None:
        """Take in the detections of B samples.

        Of each sample the ``max_boxes_per_sample`` best are kept.

        Args:
            tokens: Sample tokens.
            boxes: Detections in the ego frame at the LiDAR keyframe's time, per sample.
            global_from_ego: Poses of that frame, (B, 4, 4).

        Raises:
            UserError: If a sample isn't in the truth, its pose is another one or a box isn't finite.
        """
        poses = global_from_ego.detach().cpu().numpy() if isinstance(global_from_ego, Tensor) else global_from_ego
        poses = np.asarray(poses, dtype=np.float64)
        if not len(tokens) == len(boxes) or poses.shape != (len(tokens), 4, 4):
            raise ValueError(
                f"NuScenesDetection.update needs as many tokens as sets of boxes and (4, 4) poses, found "
                f"{len(tokens)} tokens, {len(boxes)} sets of boxes and poses of shape {poses.shape}."
            )
        rows = [self._row(token, pose) for token, pose in zip(tokens, poses)]
        limit = self.settings.max_boxes_per_sample
        records = [_best(global_records(b, pose), limit) for b, pose in zip(boxes, poses)]
        counts = [len(r) for r in records]
        for token, of_sample in zip(tokens, records):
            # Made for its checks: a box that isn't finite is named here, not at the end of the epoch.
            Detections.from_records([token], np.array([0, len(of_sample)]), of_sample)
        joined = np.concatenate([np.empty(0, BOX_RECORD), *records])
        # The states stay on the CPU, where they are needed: a whole split's boxes would only fill a GPU.
        self.seen.append(torch.tensor([rows, counts], dtype=torch.int64).T)
        self.packed.append(torch.from_numpy(joined.view(np.uint8).reshape(-1, BOX_RECORD.itemsize)))

    def compute(self) -> dict[str, float]:
        """The figures of all processes' samples by name, see ``NuScenesFigures.to_dict``.

        Raises:
            UserError: If no sample was seen, or ``missing`` is ``error`` and some weren't.
        """
        figures = evaluate(self.truth, self._gathered(), settings=self.settings, missing=self.missing)
        return figures.to_dict()

    def results(self) -> Detections:
        """The detections of all processes' samples, in the truth's order: what ``write_submission`` takes.

        Under DDP every process must call this.
        """
        with self.sync_context(
            dist_sync_fn=self.dist_sync_fn,
            should_sync=self._to_sync,
            should_unsync=self._should_unsync,
            distributed_available=self.distributed_available_fn,
        ):
            return self._gathered()

    def _row(self, token: str, pose: NDArray[np.float64]) -> int:
        if token not in self.truth.row_of:
            raise UserError(
                f"Sample {token!r} is not among the {len(self.truth)} samples of the truth. Is the metric's truth "
                f"of the same split as the data, and is the frame a keyframe?"
            )
        row = self.truth.row_of[token]
        offset_m = float(np.linalg.norm(pose[:2, 3] - self.truth.ego_xyz_m[row, :2]))
        if not offset_m < _POSE_TOLERANCE_M:
            raise UserError(
                f"The pose given for sample {token} lies {offset_m:.2f} m from the car's position in the truth; "
                f"boxes must be in the ego frame at the LiDAR keyframe's time, with that frame's pose."
            )
        return row

    def _gathered(self) -> Detections:
        """The boxes in the states, each sample once, in the truth's order."""
        seen = _joined(self.seen, _NOTHING["seen"]).numpy()
        packed = _joined(self.packed, _NOTHING["packed"]).numpy()
        records = np.ascontiguousarray(packed).view(BOX_RECORD)[:, 0]
        begin = np.cumsum(seen[:, 1]) - seen[:, 1]
        # `unique` sorts by sample and names the first occurrence of each.
        rows, first = np.unique(seen[:, 0], return_index=True)
        counts = seen[first, 1]
        start = np.concatenate([[0], np.cumsum(counts)])
        order = np.arange(start[-1]) + np.repeat(begin[first] - start[:-1], counts)
        return Detections.from_records([self.truth.tokens[row] for row in rows], start, records[order])

    def _sync_dist(self, dist_sync_fn: Callable[..., Any] = gather_all_tensors, process_group: Any = None) -> None:
        # A process that saw nothing must bring empty tensors of the right type and width: torchmetrics would
        # send one-dimensional floats for its empty list, and the gathering of the others would break or hang.
        device = _gathering_device(self.device, process_group or self.process_group)
        for name, nothing in _NOTHING.items():
            setattr(self, name, [_joined(getattr(self, name), nothing).to(device)])
        super()._sync_dist(dist_sync_fn, process_group)


def _gathering_device(own: torch.device, process_group: Any) -> torch.device:
    """Where tensors must lie to be gathered: NCCL takes none from the CPU, where a metric in a plain dict stays."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if own.type == "cpu" and distributed and torch.distributed.get_backend(process_group) == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return own


def _joined(state: list[Tensor] | Tensor, nothing: Tensor) -> Tensor:
    """A state as one tensor on the CPU: the list of one process, or what was gathered."""
    parts = [state] if isinstance(state, Tensor) else state
    return torch.cat([nothing, *(part.cpu() for part in parts)])


def _best(records: NDArray[np.void], most: int) -> NDArray[np.void]:
    """The best-scored boxes in their order; of equal scores the earlier ones."""
    if len(records) <= most:
        return records
    return records[np.sort(np.argsort(-records["score"], kind="stable")[:most])]
