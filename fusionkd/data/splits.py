"""Which scenes belong to a split: nuScenes' own names, a splits.json beside the tables, or a plain list."""

import json
from collections.abc import Sequence
from functools import lru_cache

from fusionkd.data.index import NuScenesIndex
from fusionkd.errors import UserError

_VERSION_OF_SPLIT = {
    "mini_train": "mini",
    "mini_val": "mini",
    "train": "trainval",
    "val": "trainval",
    "train_detect": "trainval",
    "train_track": "trainval",
    "test": "test",
}


def scenes_of(index: NuScenesIndex, split: str | Sequence[str]) -> list[str]:
    """The scenes of a split that the data at hand has, in the scene table's order.

    Args:
        index: The data at hand.
        split: One of nuScenes' splits (``mini_train``, ``val`` ...), a name in the version's
            ``splits.json`` (``{"name": ["scene-0001", ...]}``, as the devkit reads it), or scene names.

    Raises:
        UserError: If there is no such split or scene, or none of its scenes is there.
    """
    if not isinstance(split, str):
        wanted = _known(index, split)
    elif split in _VERSION_OF_SPLIT:
        if not index.version.endswith(_VERSION_OF_SPLIT[split]):
            raise UserError(
                f"Split {split!r} belongs to nuScenes versions that end in {_VERSION_OF_SPLIT[split]!r}, but the "
                f"version is {index.version!r}. {_what_exists(index)}"
            )
        wanted = set(devkit_splits()[split])
    else:
        custom = _custom_splits(index)
        if split not in custom:
            raise UserError(f"There is no split {split!r} in {index.version}. {_what_exists(index)}")
        wanted = _known(index, custom[split])
    scenes = [name for name in index.scene_names if name in wanted]
    if not scenes:
        raise UserError(
            f"Split {split!r} is empty: none of its {len(wanted)} scenes is in {index.version} at {index.root}. "
            f"{_what_exists(index)}"
        )
    return scenes


def default_split(version: str, stage: str) -> str:
    """The split that nuScenes itself means for ``train``, ``val`` or ``test`` in a version.

    Raises:
        UserError: If the version has none, as a version of one's own.
    """
    if version.endswith("mini"):
        return "mini_train" if stage == "train" else "mini_val"
    if version.endswith("trainval"):
        return "train" if stage == "train" else "val"
    if version.endswith("test") and stage == "test":
        return "test"
    raise UserError(
        f"nuScenes has no {stage} split for version {version!r}; name one of your own with {stage}_split, "
        f"from splits.json or as a list of scenes."
    )


@lru_cache(maxsize=1)
def devkit_splits() -> dict[str, list[str]]:
    """The splits of nuScenes by name, as the official devkit has them."""
    # Imported here because the devkit takes two seconds to import.
    from nuscenes.utils.splits import create_splits_scenes

    return {name: list(scenes) for name, scenes in create_splits_scenes().items()}


def _known(index: NuScenesIndex, scenes: Sequence[str]) -> set[str]:
    unknown = sorted(set(scenes) - set(index.scene_names))
    if unknown:
        raise UserError(f"No scene {', '.join(unknown)} in {index.version} at {index.root}. {_what_exists(index)}")
    return set(scenes)


def _custom_splits(index: NuScenesIndex) -> dict[str, list[str]]:
    path = index.root / index.version / "splits.json"
    if not path.is_file():
        return {}
    try:
        splits = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} can't be read as JSON: {error}.") from None
    if not isinstance(splits, dict) or not all(isinstance(scenes, list) for scenes in splits.values()):
        raise UserError(f'{path} must hold lists of scene names by split, like {{"mine": ["scene-0061"]}}.')
    return splits


def _what_exists(index: NuScenesIndex) -> str:
    splits = [name for name, suffix in _VERSION_OF_SPLIT.items() if index.version.endswith(suffix)]
    splits += sorted(_custom_splits(index))
    names = index.scene_names
    return (
        f"Its splits are: {', '.join(splits) or 'none'}; "
        f"its {len(names)} scenes: {', '.join(names[:20])}{' ...' if len(names) > 20 else ''}."
    )
