"""The nuScenes figures of whole pipelines, sensor bytes to boxes: what a precision or a fixed rig costs."""

from collections.abc import Mapping, Sequence

import torch

from fusionkd.data import FrameRecord, NuScenesDataset
from fusionkd.deploy import Pipeline
from fusionkd.export.raw import raw_frame
from fusionkd.metrics import DetectionTruth, NuScenesDetection


def evaluate_pipelines(
    pipelines: Mapping[str, Pipeline], dataset: NuScenesDataset, records: Sequence[FrameRecord]
) -> dict[str, dict[str, float]]:
    """Figures of several pipelines on the same frames.

    Args:
        pipelines: By name.
        dataset: Whose index holds the frames.
        records: All keyframes of some scenes.

    Returns:
        nuScenes' figures by pipeline.

    Raises:
        UserError: If a sensor file can't be read.
    """
    index = dataset.index
    truth = DetectionTruth.from_index(index, sorted({record.scene for record in records}))
    metrics = {name: NuScenesDetection(truth) for name in pipelines}
    for record in records:
        raw = raw_frame(dataset, record)
        pose = torch.from_numpy(index.sweeps.global_from_ego(record.sweep))[None]  # (1, 4, 4)
        for name, pipeline in pipelines.items():
            metrics[name].update([record.token], [pipeline(raw)], pose)
    return {name: metric.compute() for name, metric in metrics.items()}
