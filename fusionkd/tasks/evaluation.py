"""Models judged on frames, outside of Lightning's own loops."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from lightning.pytorch.utilities import rank_zero_only

from fusionkd.data import Batch, NuScenesDataModule
from fusionkd.errors import UserError
from fusionkd.metrics import DetectionTruth, NuScenesDetection
from fusionkd.models import Decoder
from fusionkd.teachers import Teacher, far_off, weighted_box_fusion


def evaluate_models(
    models: Mapping[str, torch.nn.Module],
    batches: Iterable[Batch],
    truth: DetectionTruth,
    *,
    decoder: Decoder,
    device: torch.device,
    context: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, dict[str, float]]:
    """Figures of several models, in one pass over the data.

    Args:
        models: The models by name; they are left in the mode they are in.
        batches: Frames without augmentation.
        truth: Annotations of at least these frames.
        decoder: Turns outputs into boxes.
        device: Where the models are.
        context: Makes what is entered around each forward pass, for example mixed precision.

    Returns:
        Figures by model.
    """
    metrics = {name: NuScenesDetection(truth) for name in models}
    with torch.no_grad():
        for batch in batches:
            moved = batch.to(device)
            for name, model in models.items():
                with context():
                    output = model(moved)
                metrics[name].update(batch.token, decoder(output), batch.global_from_ego)
    return {name: metric.compute() for name, metric in metrics.items()}


def evaluate_ensemble(
    models: Sequence[torch.nn.Module],
    batches: Iterable[Batch],
    truth: DetectionTruth,
    *,
    decoder: Decoder,
    device: torch.device,
) -> dict[str, float]:
    """Figures of several models' boxes, made one set by ``weighted_box_fusion``.

    Args:
        models: In eval mode, on the device, of one class list.
        batches: Frames without augmentation.
        truth: Annotations of at least these frames.
        decoder: Turns each model's outputs into boxes.
        device: Where the models are.
    """
    metric = NuScenesDetection(truth)
    with torch.no_grad():
        for batch in batches:
            moved = batch.to(device)
            found = [decoder(model(moved)) for model in models]
            metric.update(batch.token, [weighted_box_fusion(sets) for sets in zip(*found)], batch.global_from_ego)
    return metric.compute()


def check_teachers(
    teachers: Mapping[str, Teacher],
    data: NuScenesDataModule,
    *,
    decoder: Decoder,
    frames: int,
    device: torch.device,
) -> None:
    """Compare teachers with their records on a few validation frames before they teach.

    Args:
        teachers: The teachers by name, on the device.
        data: The run's data.
        decoder: Turns outputs into boxes.
        frames: Number of frames, spread over the validation split.
        device: Where the teachers are.

    Raises:
        UserError: If a teacher is far below its record on data of the same kind.
    """
    recorded = {name: teacher for name, teacher in teachers.items() if teacher.record.figures}
    for name in teachers.keys() - recorded.keys():
        say(f"Teacher '{name}' carries no recorded figures, so nothing can be compared before it teaches.")
    alike = {name: teacher for name, teacher in recorded.items() if teacher.record.simulated == data.is_simulated}
    others = sorted(recorded.keys() - alike.keys())
    if others:
        here, there = ("simulated", "real") if data.is_simulated else ("real", "simulated")
        say(
            f"This data is {here}; the figures of teacher {', '.join(others)} were recorded on {there} data and "
            f"can't be compared with scores here."
        )
    if not alike:
        return
    truth = DetectionTruth.from_index(data.index, data.scenes("val"))
    figures = evaluate_models(alike, _spread(data, frames), truth, decoder=decoder, device=device)
    for name, teacher in alike.items():
        expected, found = teacher.record.figures["mAP"], figures[name]["mAP"]
        if far_off(found, expected):
            raise UserError(
                f"Teacher '{name}' ({teacher.checkpoint}) reaches mAP {found:.3f} on {frames} validation frames, its "
                f"record says {expected:.3f}. A teacher that fails can't teach: check its input (image size, "
                f"lidar_views, grid), or set its init_args.check to false to go on."
            )


@rank_zero_only
def say(text: str) -> None:
    """Print a line, in the first process alone."""
    print(text, flush=True)


def _spread(data: NuScenesDataModule, frames: int) -> Iterator[Batch]:
    records = data.records("val")
    chosen = sorted({round(step * (len(records) - 1) / max(frames - 1, 1)) for step in range(frames)})
    dataset = data.dataset([records[row] for row in chosen])
    for item in range(len(dataset)):
        yield data.batch([dataset[item]])
