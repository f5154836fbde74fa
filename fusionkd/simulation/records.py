"""Rows of the nuScenes tables: tokens, fixed tables and the chains of one scene."""

import hashlib
from typing import Any, Final

from fusionkd.geometry import CAMERAS
from fusionkd.simulation.catalogue import ATTRIBUTES, CATEGORIES
from fusionkd.simulation.rig import LIDAR, MOUNTINGS
from fusionkd.simulation.settings import WorldSettings

Record = dict[str, Any]
Tables = dict[str, list[Record]]

TABLES: Final = (
    "category",
    "attribute",
    "visibility",
    "instance",
    "sensor",
    "calibrated_sensor",
    "ego_pose",
    "log",
    "scene",
    "sample",
    "sample_data",
    "sample_annotation",
    "map",
)
"""The 13 tables of nuScenes v1.0."""

VISIBILITIES: Final = (
    ("1", "v0-40", 0, 40),
    ("2", "v40-60", 40, 60),
    ("3", "v60-80", 60, 80),
    ("4", "v80-100", 80, 100),
)


def token(seed: int, *parts: object) -> str:
    """32 hexadecimal digits for a thing of a world."""
    text = "/".join(str(part) for part in ("fusionkd", seed, *parts))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def fixed_tables(seed: int) -> Tables:
    """Tables that don't depend on the scenes."""
    return {
        "category": [
            {"token": token(seed, "category", name), "name": name, "description": text} for name, text in CATEGORIES
        ],
        "attribute": [
            {"token": token(seed, "attribute", name), "name": name, "description": f"{text} (simulated)"}
            for name, text in ATTRIBUTES
        ],
        "visibility": [
            {"token": number, "level": level, "description": f"visibility of whole object is between {low} and {high}%"}
            for number, level, low, high in VISIBILITIES
        ],
        "sensor": [
            {
                "token": token(seed, "sensor", channel),
                "channel": channel,
                "modality": "lidar" if channel == LIDAR else "camera",
            }
            for channel in MOUNTINGS
        ],
    }


def calibrations(settings: WorldSettings, scene: str) -> list[Record]:
    """The rig of one scene; the camera matrices fit the written images."""
    return [
        {
            "token": token(settings.seed, scene, "calibration", channel),
            "sensor_token": token(settings.seed, "sensor", channel),
            "translation": list(mounting.translation_m),
            "rotation": list(mounting.rotation_wxyz),
            "camera_intrinsic": mounting.matrix_px(settings.image_width_px).tolist() if channel in CAMERAS else [],
        }
        for channel, mounting in MOUNTINGS.items()
    ]


def link(records: list[Record]) -> None:
    """Close the prev and next links of records that follow each other."""
    for i, record in enumerate(records):
        record["prev"] = records[i - 1]["token"] if i else ""
        record["next"] = records[i + 1]["token"] if i + 1 < len(records) else ""


def visibility_token(visible_px: int, covered_px: int) -> str:
    """Level of the share of an object's pixels that the cameras see; the lowest where none looks at it."""
    share = visible_px / covered_px if covered_px else 0.0
    return "1" if share < 0.4 else "2" if share < 0.6 else "3" if share < 0.8 else "4"
