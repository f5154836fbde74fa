"""The bird's-eye view with the six cameras and the boxes in their images around it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

from fusionkd.data import Frame
from fusionkd.geometry import CAMERAS, DETECTION_CLASSES, Boxes3D
from fusionkd.visualize.bev import (
    OPACITY,
    QUIET,
    TEXT,
    draw_bev,
    legend_handles,
    new_figure,
    save_figure,
    short_name,
    uncrowded,
    write_title,
)
from fusionkd.visualize.projection import box_segments, in_image, project_segments
from fusionkd.visualize.scene import SCORE_THRESHOLD, BoxSet, Scene, scene_from_frame, tally

_WIDTH_IN = 16.0
_GAP_IN = 0.08
_TITLE_IN = 0.72
_BEV_IN = 9.8
_BEV_LEFT_IN = 3.2
_PLATE = {"facecolor": (0, 0, 0, 0.55), "linewidth": 0, "pad": 1.5}
_LINE_PT = {"faint": 0.5, "normal": 1.0, "strong": 1.9}


def save_bev_figure(
    path: str | Path,
    frame: Frame,
    *,
    predictions: Boxes3D | None,
    title: str,
    simulated: bool,
    score_threshold: float = SCORE_THRESHOLD,
) -> None:
    """Write a picture of a frame from above, with the six cameras and the boxes in their images around it.

    Args:
        path: Where to; the suffix decides the format.
        frame: Points, images and, where it has them, annotations.
        predictions: Boxes in the frame's ego frame, or None.
        title: One line for the top of the picture.
        simulated: Whether the data is simulated, which the picture then says.
        score_threshold: Predictions below this score are left out.
    """
    scene = scene_from_frame(frame, predictions, title=title, simulated=simulated, score_threshold=score_threshold)
    save_surround(path, scene, frame)


def save_surround(path: str | Path, scene: Scene, frame: Frame) -> None:
    """Write the figure of a scene and the frame's images; the suffix decides the format."""
    save_figure(path, surround_figure(scene, frame))


def surround_figure(scene: Scene, frame: Frame) -> Figure:
    """The figure of ``save_bev_figure``, 1600 pixels wide.

    Args:
        scene: What was found in the frame.
        frame: Its images and cameras.
    """
    image_w = (_WIDTH_IN - 4 * _GAP_IN) / 3
    image_h = image_w * frame.images.shape[1] / frame.images.shape[2]
    height = _TITLE_IN + 2 * image_h + _BEV_IN + 5 * _GAP_IN
    figure = new_figure(_WIDTH_IN, height)
    write_title(figure, scene, top=1 - 0.12 / height)
    for camera in range(len(CAMERAS)):
        row, column = divmod(camera, 3)
        bottom = _GAP_IN if row else height - _TITLE_IN - image_h
        place = (_GAP_IN + column * (image_w + _GAP_IN), bottom, image_w, image_h)
        axes = figure.add_axes(_share(place, height))
        _draw_camera(axes, scene, frame, camera=camera)
    bev_bottom = image_h + 2 * _GAP_IN + 0.42
    side = _BEV_IN - 0.5
    draw_bev(figure.add_axes(_share((_BEV_LEFT_IN, bev_bottom, side, side), height)), scene)
    top = (bev_bottom + side) / height
    _write_legend(figure, scene, top=top)
    _write_tally(figure, scene, top=top)
    return figure


def _share(place_in: tuple[float, float, float, float], height_in: float) -> tuple[float, float, float, float]:
    left, bottom, width, height = place_in
    return (left / _WIDTH_IN, bottom / height_in, width / _WIDTH_IN, height / height_in)


def _draw_camera(axes: Axes, scene: Scene, frame: Frame, *, camera: int) -> None:
    height, width = frame.images.shape[1:3]
    axes.imshow(frame.images[camera], extent=(0, width, height, 0), interpolation="antialiased", aspect="auto")
    for boxes in scene.box_sets:
        _draw_projected(axes, boxes, frame, camera=camera)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    axes.text(
        0.012,
        0.965,
        CAMERAS[camera][4:].replace("_", " ").lower(),
        transform=axes.transAxes,
        va="top",
        color=TEXT,
        bbox=_PLATE,
    )


def _draw_projected(axes: Axes, boxes: BoxSet, frame: Frame, *, camera: int) -> None:
    pixels = project_segments(frame.rig, camera, box_segments(boxes.boxes))
    seen = in_image(pixels, frame.rig.size_px)
    segments = pixels[seen].reshape(-1, 2, 2)
    segments = segments[np.isfinite(segments).all(axis=(1, 2))]
    width = _LINE_PT[boxes.weight]
    lines = LineCollection(list(segments), colors=[(*boxes.colour_rgb, OPACITY[boxes.weight])], linewidths=width)
    # A dark rim keeps the lines apart from whatever the image holds.
    lines.set_path_effects([Stroke(linewidth=width + 1.2, foreground=(0, 0, 0, 0.55)), Normal()])
    axes.add_collection(lines)
    if boxes.weight == "strong":
        _name_boxes(axes, replace(boxes, boxes=boxes.boxes.select(seen)), pixels[seen])


def _name_boxes(axes: Axes, boxes: BoxSet, pixels: NDArray[np.float64]) -> None:
    width, height = axes.get_images()[0].get_extent()[1:3]
    low, high = np.nanmin(pixels, axis=(1, 2)), np.nanmax(pixels, axis=(1, 2))  # (N, 2)
    middle = (np.maximum(low, 0) + np.minimum(high, (width, height))) / 2
    # Predictions are named above and annotations below, because they often lie on each other.
    edge = low[:, 1] if boxes.is_prediction else high[:, 1]
    beside = np.where((edge > 0.08 * height) & (edge < 0.92 * height), edge, middle[:, 1])
    places = np.stack([np.clip(middle[:, 0], 0.04 * width, 0.96 * width), beside], axis=1)
    for i in np.flatnonzero(uncrowded(places, width=0.06 * width, height=0.06 * height)):
        axes.text(
            float(places[i, 0]),
            float(places[i, 1]),
            short_name(int(boxes.boxes.label[i])),
            color=boxes.colour_rgb,
            fontsize=8,
            ha="center",
            va="bottom" if boxes.is_prediction else "top",
            bbox=_PLATE,
        )


def _write_legend(figure: Figure, scene: Scene, *, top: float) -> None:
    figure.legend(
        handles=legend_handles(scene),
        loc="upper left",
        bbox_to_anchor=(0.008, top),
        frameon=False,
        labelcolor=TEXT,
        fontsize=10.5,
        labelspacing=0.9,
    )


def _write_tally(figure: Figure, scene: Scene, *, top: float) -> None:
    """Found, missed and invented per class, to the right of the view."""
    if not scene.is_judged:
        return
    counts = tally(scene)
    line = 0.24 / figure.get_figheight()
    left, columns = 0.795, (0.906, 0.946, 0.995)
    for x, name in zip(columns, ("found", "missed", "invented")):
        figure.text(x, top, name, color=QUIET, fontsize=10, ha="right", va="top")
    for row, label in enumerate([*np.flatnonzero(counts.sum(axis=1)).tolist(), -1], 1):
        name = "all" if label < 0 else DETECTION_CLASSES[label].replace("_", " ")
        numbers = counts.sum(axis=0) if label < 0 else counts[label]
        y = top - row * line
        figure.text(left, y, name, color=TEXT, fontsize=10.5, va="top", fontweight="bold" if label < 0 else "normal")
        for x, number in zip(columns, numbers.tolist()):
            figure.text(x, y, str(number or "-"), color=TEXT, fontsize=10.5, ha="right", va="top")
