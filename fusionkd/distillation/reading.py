"""Which part of a teacher's answer terms can read: what a cache keeps of it."""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkd.distillation.base import LEAST_BOX_SCORE, LEAST_SCORE, MOST_BOXES, TAPS, Term, TermBatch, class_mapping
from fusionkd.distillation.locations import annotated_centres, boxes_at, heatmap_peaks, relabel
from fusionkd.distillation.masks import gaussian_foreground, resample_nearest, teacher_foreground
from fusionkd.distillation.relation import nine_points
from fusionkd.distillation.resample import same_cells
from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models.values import FusionOutput
from fusionkd.teachers.cache_store import Extent

_MARGIN = 0.9
"""Of the least score, so that what is interpolated or rounded above it is there."""

_MOST_PEAKS = 500


def extents_of(terms: Iterable[tuple[str, Term]], teacher: str) -> dict[str, list[Extent]]:
    """By tap of a teacher, where terms read it; heatmap and boxes are always among them.

    Args:
        terms: Terms by name.
        teacher: Name of the teacher.

    Raises:
        UserError: If a term reads what no cache keeps.
    """
    found: dict[str, set[Extent]] = {"heatmap": {"everywhere"}, "box_regression": {"objects"}}
    for name, term in terms:
        if teacher not in term.teachers:
            continue
        for tap, extent in term.reads().items():
            if tap not in TAPS:
                raise UserError(
                    f"Term '{name}' reads the module '{tap}' of teacher '{teacher}'; a cache keeps {', '.join(TAPS)} "
                    f"alone. Use a FrozenTeacher here, or another tap."
                )
            if tap == "box_regression" and extent == "everywhere":
                raise UserError(
                    f"Term '{name}' reads boxes of teacher '{teacher}' that score less than {LEAST_SCORE}, or in every "
                    f"cell; a cache doesn't keep them. Raise the term's threshold, or use a FrozenTeacher here."
                )
            found.setdefault(tap, set()).add(extent)
    return {tap: sorted(extents) for tap, extents in found.items()}


def kept_places(output: FusionOutput, batch: TermBatch, *, classes: Sequence[str]) -> Tensor:
    """Where the regression of an answer about one frame is read, (tasks, rows, columns) bool.

    Args:
        output: The answer, its heatmap as terms will see it.
        batch: The frame.
        classes: What its annotations' labels count.
    """
    tasks = torch.tensor(output.task_of_class, device=output.heatmap.device)
    kept = torch.zeros_like(output.box_regression[0, :, 0], dtype=torch.bool)
    mapping = torch.tensor(class_mapping(tuple(classes), output.classes), device=tasks.device)
    centres = relabel(annotated_centres(batch.gt_boxes.float(), batch.gt_label, output.grid), mapping)
    peaks = heatmap_peaks(output.heatmap, threshold=_MARGIN * LEAST_SCORE, count=_MOST_PEAKS)
    for places in (peaks, centres):
        chosen = places.weight[0] > 0
        kept[tasks[places.label[0, chosen]], places.row[0, chosen], places.column[0, chosen]] = True
    return kept


def kept_cells(
    output: FusionOutput, batch: TermBatch, extents: Mapping[str, Sequence[Extent]], *, grid: BevGrid
) -> dict[str, dict[str, Tensor]]:
    """Where features of an answer about one frame are read, by tap and name of ``LEVELS`` (rows, columns) bool.

    Args:
        output: The answer, its heatmap as terms will see it.
        batch: The frame.
        extents: Of ``extents_of``; taps that aren't features are left out.
        grid: The student's.
    """
    labelled = bool(batch.labelled[0])
    by_truth, by_teacher = annotated_cells(batch, output.grid, grid=grid), teacher_cells(output)
    boxes = annotated_boxes(batch) if labelled else _boxes_of(output, LEAST_BOX_SCORE, MOST_BOXES)
    cells: dict[Extent, Tensor] = {
        "boxes": cells_around(nine_points(boxes), output.grid),
        "truth": by_truth if labelled else by_teacher,
        "objects": by_truth | by_teacher,
        "everywhere": torch.ones_like(by_teacher),
    }
    if not same_cells(grid, output.grid):
        # A cell of the other grid lies between several of these.
        cells = {name: F.max_pool2d(mask[None].float(), 3, stride=1, padding=1)[0] > 0 for name, mask in cells.items()}
    nothing = torch.zeros_like(by_teacher)
    kept = {}
    for tap in (tap for tap in extents if tap.endswith("bev")):
        fine = cells["boxes"] if "boxes" in extents[tap] else nothing
        rest = [cells[extent] for extent in extents[tap] if extent != "boxes"]
        kept[tap] = {"fine": fine, "coarse": torch.stack([nothing, *rest]).any(dim=0) & ~fine}
    return kept


def annotated_cells(batch: TermBatch, target: BevGrid, *, grid: BevGrid) -> Tensor:
    """Cells around a frame's annotated boxes, (rows, columns) bool.

    Args:
        batch: One frame.
        target: Whose cells.
        grid: The student's, on which the Gaussians are as wide as a term makes them.
    """
    gaussian = gaussian_foreground(batch.gt_boxes.float(), batch.gt_label, grid) > 0
    return resample_nearest(gaussian, source=grid, target=target)[0, 0]


def annotated_boxes(batch: TermBatch) -> Tensor:
    """A frame's annotated boxes on the ground, (N, 5)."""
    return batch.gt_boxes[0, batch.gt_label[0] >= 0][:, [0, 1, 3, 4, 6]].float()


def teacher_cells(output: FusionOutput) -> Tensor:
    """Cells where a teacher sees anything, (rows, columns) bool."""
    return teacher_foreground(output.heatmap.float().sigmoid(), threshold=_MARGIN * LEAST_SCORE)[0, 0] > 0


def _boxes_of(output: FusionOutput, least_score: float, count: int) -> Tensor:
    """A teacher's best boxes on the ground, (N, 5)."""
    peaks = heatmap_peaks(output.heatmap, threshold=_MARGIN * least_score, count=count)
    return boxes_at(output, peaks)[0, peaks.weight[0] > 0]


def cells_around(points: Tensor, grid: BevGrid) -> Tensor:
    """The four cells between whose centres each position (..., 2) lies, (rows, columns) bool."""
    low = points.new_tensor([grid.x_min_m, grid.y_min_m])
    first = torch.floor((points.reshape(-1, 2) - low) / grid.cell_m - 0.5).long()
    mask = torch.zeros(grid.shape, dtype=torch.bool, device=points.device)
    for right in (0, 1):
        for up in (0, 1):
            column, row = first[:, 0] + right, first[:, 1] + up
            inside = (column >= 0) & (column < grid.columns) & (row >= 0) & (row < grid.rows)
            mask[row[inside], column[inside]] = True
    return mask
