"""The bird's-eye view of a scene, drawn by matplotlib without a display."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from fusionkd.geometry import DETECTION_CLASSES, Boxes3D
from fusionkd.visualize.scene import BoxSet, Scene, Weight, summary
from fusionkd.visualize.verdict import MATCH_DISTANCE_M

BACKGROUND = "#0e1116"
TEXT = "#e8eaed"
QUIET = "#8b929c"
WARNING = "#ffd166"

RANGE_M = 52.0
"""The view reaches this far from the car in every direction."""

RING_RADII_M = (10, 20, 30, 40, 50)
"""Radii of the circles around the car."""

MOVING_MPS = 0.5
"""Slower boxes get no arrow."""

LINE_PT: dict[Weight, float] = {"faint": 0.7, "normal": 1.3, "strong": 1.6}
OPACITY: dict[Weight, float] = {"faint": 0.55, "normal": 1.0, "strong": 1.0}
_FILL = 0.45
_CIRCLED_M = 3.0
_SHORT = {"construction_vehicle": "constr.", "pedestrian": "ped.", "traffic_cone": "cone", "motorcycle": "motorc."}


def save_bev(path: str | Path, scene: Scene) -> None:
    """Write the bird's-eye view of a scene as a picture; the suffix decides the format."""
    save_figure(path, bev_figure(scene))


def save_figure(path: str | Path, figure: Figure) -> None:
    """Write a figure; its folder is made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor=figure.get_facecolor())


def bev_figure(scene: Scene) -> Figure:
    """The bird's-eye view with title, legend and counts, 1000 x 1120 pixels."""
    figure = new_figure(10.0, 11.2)
    axes = figure.add_axes((0.055, 0.103, 0.93, 0.93 * 10.0 / 11.2))
    draw_bev(axes, scene)
    write_title(figure, scene, top=0.988)
    figure.legend(
        handles=legend_handles(scene),
        loc="lower center",
        bbox_to_anchor=(0.5, 0.004),
        ncols=4,
        frameon=False,
        labelcolor=TEXT,
        fontsize=9,
    )
    return figure


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty dark figure at 100 dots per inch that needs no display."""
    figure = Figure(figsize=(width_in, height_in), dpi=100, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    return figure


def write_title(figure: Figure, scene: Scene, *, top: float) -> None:
    """Title, counts, and that the data is simulated where it is."""
    height_px = figure.get_figheight() * figure.dpi
    figure.text(0.02, top, scene.title, color=TEXT, fontsize=14, fontweight="bold", va="top")
    figure.text(0.02, top - 26 / height_px, subtitle(scene), color=QUIET, fontsize=11, va="top")
    if scene.simulated:
        figure.text(0.98, top, "SIMULATED DATA", color=WARNING, fontsize=14, fontweight="bold", va="top", ha="right")


def subtitle(scene: Scene) -> str:
    """The counts, and by what rule they were made."""
    threshold = "" if scene.score_threshold is None else f" (scores from {scene.score_threshold:g})"
    rule = f"; a match is of the same class within {MATCH_DISTANCE_M:g} m" if scene.is_judged else ""
    return summary(scene) + threshold + rule


def draw_bev(axes: Axes, scene: Scene) -> None:
    """Draw a scene from above: the car drives up, left is left."""
    axes.set_facecolor(BACKGROUND)
    axes.set_aspect("equal")
    axes.set_xlim(RANGE_M, -RANGE_M)
    axes.set_ylim(-RANGE_M, RANGE_M)
    axes.tick_params(colors=QUIET, labelsize=8, length=3)
    axes.set_xticks(range(-40, 41, 20), [f"{abs(y)}" for y in range(-40, 41, 20)])
    axes.set_yticks(range(-40, 41, 20))
    for spine in axes.spines.values():
        spine.set_color("#30363d")
    axes.set_xlabel("m to the left and right", color=QUIET, fontsize=8, labelpad=2)
    axes.set_ylabel("m ahead", color=QUIET, fontsize=8, labelpad=0)
    axes.imshow(
        point_image(scene, size_px=round(axes.get_window_extent().width)),
        extent=(RANGE_M, -RANGE_M, -RANGE_M, RANGE_M),
        origin="lower",
        interpolation="nearest",
        zorder=1,
    )
    _draw_rings(axes)
    _draw_ego(axes, scene.ego)
    for order, boxes in enumerate(scene.box_sets):
        _draw_boxes(axes, boxes, zorder=4 + order)


def point_image(scene: Scene, *, size_px: int) -> NDArray[np.float32]:
    """Points from above, one pixel each, the highest on top.

    Args:
        scene: Its points are drawn.
        size_px: Width and height of the view; with as many pixels as the axes have, none is scaled away.

    Returns:
        (size_px, size_px, 4) RGBA in 0..1; rows from behind to ahead, columns from left to right.
    """
    image = np.zeros((size_px, size_px, 4), dtype=np.float32)
    # From low to high, so that what is seen is what lies on top.
    order = np.argsort(scene.points_m[:, 2], kind="stable")
    cell = np.floor((scene.points_m[order, :2] + RANGE_M) * (size_px / (2 * RANGE_M))).astype(np.int64)
    inside = np.all((cell >= 0) & (cell < size_px), axis=1)
    row, column = cell[inside, 0], size_px - 1 - cell[inside, 1]
    image[row, column, :3] = scene.point_rgb[order][inside]
    image[row, column, 3] = 1
    return image


def legend_handles(scene: Scene) -> list[Patch | Line2D]:
    """What the legend shows: each set of boxes with its number, then the marks."""
    handles: list[Patch | Line2D] = [
        Patch(
            facecolor=(*boxes.colour_rgb, _FILL if boxes.weight == "strong" else 0.0),
            edgecolor=(*boxes.colour_rgb, OPACITY[boxes.weight]),
            linewidth=LINE_PT[boxes.weight],
            label=f"{boxes.name} ({len(boxes.boxes)})",
        )
        for boxes in sorted(scene.box_sets, key=lambda boxes: boxes.weight == "faint")
    ]
    handles.append(Line2D([], [], color=TEXT, linewidth=1.3, label="stroke: heading"))
    handles.append(
        Line2D([], [], color=TEXT, linewidth=1.3, marker=">", markersize=6, label="arrow: way of the next second")
    )
    return handles


def short_name(label: int) -> str:
    """A class's name, short enough to stand beside a box."""
    name = DETECTION_CLASSES[label]
    return _SHORT.get(name, name)


def uncrowded(places: NDArray[np.floating[Any]], *, width: float, height: float) -> NDArray[np.bool_]:
    """Which labels to write so that none lies on an earlier one.

    Args:
        places: (N, 2).
        width: Of a label, in the units of the places.
        height: Of a label.

    Returns:
        (N,) bool.
    """
    keep = np.zeros(len(places), dtype=np.bool_)
    for i, place in enumerate(places):
        gap = np.abs(places[:i][keep[:i]] - place)
        keep[i] = not np.any((gap[:, 0] < width) & (gap[:, 1] < height))
    return keep


def _draw_rings(axes: Axes) -> None:
    angle = np.linspace(0, 2 * np.pi, 181)
    for radius in RING_RADII_M:
        axes.plot(radius * np.cos(angle), radius * np.sin(angle), color="#5b6572", linewidth=0.5, alpha=0.6, zorder=2)
        axes.annotate(
            f"{radius} m",
            (-radius * np.sin(np.pi / 4), radius * np.cos(np.pi / 4)),
            color=QUIET,
            fontsize=7,
            ha="center",
            va="center",
            zorder=2,
        )


def _draw_ego(axes: Axes, ego: Boxes3D) -> None:
    corners = _seen_from_above(ego.corners()[:, :4])
    axes.add_collection(PolyCollection(list(corners), facecolors="#ffffff", edgecolors="none", alpha=0.9, zorder=3))
    nose, tail = corners[0, [0, 3]].mean(axis=0), corners[0, [1, 2]]
    arrow = np.stack([nose - (0, 0.5), *(tail * (0.6, 1) + (0, 1.4))])
    axes.add_collection(PolyCollection([arrow], facecolors=BACKGROUND, edgecolors="none", zorder=3))


def _draw_boxes(axes: Axes, boxes: BoxSet, *, zorder: int) -> None:
    if len(boxes.boxes) == 0:
        return
    strong = boxes.weight == "strong"
    corners = boxes.boxes.corners().astype(np.float64)
    outline = _seen_from_above(corners[:, :4])
    colour, opacity = boxes.colour_rgb, OPACITY[boxes.weight]
    axes.add_collection(
        PolyCollection(
            list(outline),
            facecolors=[(*colour, _FILL if strong else 0.0)],
            edgecolors=[(*colour, opacity)],
            linewidths=LINE_PT[boxes.weight],
            zorder=zorder,
        )
    )
    lines = heading_lines(boxes.boxes)
    axes.add_collection(
        LineCollection(list(lines), colors=[(*colour, opacity)], linewidths=LINE_PT[boxes.weight], zorder=zorder)
    )
    if boxes.weight != "faint":
        _draw_velocities(axes, boxes, zorder=zorder)
    if strong:
        _mark(axes, boxes, zorder=zorder)


def heading_lines(boxes: Boxes3D) -> NDArray[np.float64]:
    """From each centre past the front, (N, 2, 2) in (y, x) metres; long enough to be seen on small boxes."""
    heading = np.stack([np.cos(boxes.yaw_rad), np.sin(boxes.yaw_rad)], axis=1)
    reach = boxes.lwh_m[:, :1] / 2 + 0.6
    ends = np.stack([boxes.xyz_m[:, :2], boxes.xyz_m[:, :2] + reach * heading], axis=1)
    return np.asarray(ends[..., ::-1], dtype=np.float64)


def _draw_velocities(axes: Axes, boxes: BoxSet, *, zorder: int) -> None:
    speed = np.linalg.norm(boxes.boxes.velocity_mps, axis=1)
    moving = boxes.boxes.select(speed > MOVING_MPS)
    if len(moving):
        axes.quiver(
            *moving.xyz_m[:, 1::-1].T,
            *moving.velocity_mps[:, ::-1].T,
            color=[boxes.colour_rgb],
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.0016,
            headwidth=5,
            zorder=zorder,
        )


def _mark(axes: Axes, boxes: BoxSet, *, zorder: int) -> None:
    """Name boxes that need a look, and circle the small ones: a pedestrian alone is six pixels wide."""
    b = boxes.boxes
    radius = np.hypot(b.lwh_m[:, 0], b.lwh_m[:, 1]) / 2 + 0.9
    angle = np.linspace(0, 2 * np.pi, 41)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rings = (b.xyz_m[:, None, 1::-1] + radius[:, None, None] * circle)[radius < _CIRCLED_M]
    axes.add_collection(LineCollection(list(rings), colors=[(*boxes.colour_rgb, 0.9)], linewidths=0.8, zorder=zorder))
    # Predictions are named above and annotations below, because they often lie on each other.
    side = 1 if boxes.is_prediction else -1
    places = b.xyz_m[:, 1::-1] + np.minimum(0.75 * radius, 2.2)[:, None] * (-1, side)
    room = uncrowded(places, width=3.0, height=1.3) & (np.abs(places) < RANGE_M - 2).all(axis=1)
    for i in np.flatnonzero(room):
        axes.annotate(
            short_name(int(b.label[i])),
            tuple(places[i]),
            color=boxes.colour_rgb,
            fontsize=7,
            va="bottom" if boxes.is_prediction else "top",
            zorder=10,
        )


def _seen_from_above(points_m: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(y, x) of (..., >= 2): the axes of the picture, of which the first runs from right to left."""
    return np.asarray(points_m[..., 1::-1], dtype=np.float64)
