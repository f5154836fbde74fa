"""Title and legend for pictures that Open3D draws, which can't write text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fusionkd.visualize.bev import BACKGROUND, QUIET, TEXT, WARNING, subtitle
from fusionkd.visualize.scene import BoxSet, Rgb, Scene

_HEAD_PX = 76
_FOOT_PX = 50
_MARGIN_PX = 22


@dataclass(frozen=True)
class Label:
    """A word in a picture.

    Attributes:
        text: The word.
        xy_px: Middle of its lower edge, from the picture's top left corner.
        rgb: Its colour in 0..1.
    """

    text: str
    xy_px: tuple[float, float]
    rgb: Rgb


def captioned(picture: NDArray[np.uint8], scene: Scene, *, labels: Sequence[Label] = ()) -> Image.Image:
    """A picture with labels in it, title and counts above it and the legend below.

    Args:
        picture: (height, width, 3) uint8 RGB.
        scene: What it shows.
        labels: Words to write into the picture.
    """
    height, width = picture.shape[:2]
    canvas = Image.new("RGB", (width, height + _HEAD_PX + _FOOT_PX), BACKGROUND)
    canvas.paste(Image.fromarray(picture), (0, _HEAD_PX))
    draw = ImageDraw.Draw(canvas)
    for label in labels:
        place = (label.xy_px[0], label.xy_px[1] + _HEAD_PX)
        box = draw.textbbox(place, label.text, font=_font(15), anchor="mb")
        draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill=BACKGROUND)
        draw.text(place, label.text, fill=_bytes(label.rgb), font=_font(15), anchor="mb")
    draw.text((_MARGIN_PX, 12), scene.title, fill=TEXT, font=_font(22, "bold"))
    draw.text((_MARGIN_PX, 44), subtitle(scene), fill=QUIET, font=_font(16))
    if scene.simulated:
        draw.text((width - _MARGIN_PX, 12), "SIMULATED DATA", fill=WARNING, font=_font(22, "bold"), anchor="ra")
    x = _MARGIN_PX
    for boxes in scene.box_sets:
        if boxes.weight != "faint":
            x = _write_entry(draw, boxes, x=x, y=height + _HEAD_PX + _FOOT_PX // 2)
    return canvas


def _write_entry(draw: ImageDraw.ImageDraw, boxes: BoxSet, *, x: int, y: int) -> int:
    colour = _bytes(boxes.colour_rgb)
    strong = boxes.weight == "strong"
    fill = _bytes(boxes.colour_rgb, 0.55) if strong else None
    draw.rectangle((x, y - 8, x + 26, y + 8), outline=colour, fill=fill, width=3 if strong else 2)
    text = f"{boxes.name} ({len(boxes.boxes)})"
    draw.text((x + 36, y), text, fill=TEXT, font=_font(16), anchor="lm")
    return x + 36 + round(draw.textlength(text, font=_font(16))) + 40


def _bytes(rgb: Rgb, share: float = 1.0) -> tuple[int, int, int]:
    red, green, blue = (round(255 * share * c) for c in rgb)
    return (red, green, blue)


@lru_cache(maxsize=4)
def _font(size: int, weight: str = "normal") -> ImageFont.FreeTypeFont:
    # Matplotlib brings its font along, so that pictures are the same on every machine.
    path = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight))
    return ImageFont.truetype(path, size)
