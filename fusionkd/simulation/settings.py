"""What to simulate: the settings of a world."""

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from fusionkd.errors import UserError

Version = Literal["auto", "v1.0-mini", "v1.0-trainval"]
ClassMix = Literal["flat", "nuscenes"]

MINI_TRAIN: Final = (
    "scene-0061",
    "scene-0553",
    "scene-0655",
    "scene-0757",
    "scene-0796",
    "scene-1077",
    "scene-1094",
    "scene-1100",
)
MINI_VAL: Final = ("scene-0103", "scene-0916")
SMALLEST_WIDTH_PX: Final = 64
LARGEST_WIDTH_PX: Final = 1600


@dataclass(frozen=True)
class WorldSettings:
    """What to simulate. The same settings always give the same bytes.

    Attributes:
        scenes: How many scenes of 20 seconds. Ten bear the names of nuScenes mini.
        seed: Decides everything that is drawn.
        keyframes_per_scene: Annotated frames per scene, half a second apart.
        image_width_px: Width of the written images, 16:9; the calibration fits it. A multiple of 16.
        camera_sweeps: Also write the images between keyframes, at 12 Hz.
        version: nuScenes version to write; ``auto`` takes ``v1.0-mini`` for up to ten scenes, else ``v1.0-trainval``.
        val_scenes: How many of the scenes bear names of the validation split; None takes a fifth for
            ``v1.0-mini``, about 15 % for ``v1.0-trainval`` (150 of its 850), and none of a
            single scene.
        class_mix: ``flat`` makes all ten classes frequent enough to be learned from little; ``nuscenes`` has about
            the shares of real streets.
        look_alike: From 0 to 1: the share of trucks, buses, trailers and cycles whose outline doesn't tell the class,
            only their colours do, and how much street furniture has the outline of a person, a cone or a barrier.
        tables_only: Write the tables without any sensor file, for tests of scale; points and visibility are modelled.

    Raises:
        UserError: If a value can't be simulated.
    """

    scenes: int = 10
    seed: int = 0
    keyframes_per_scene: int = 40
    image_width_px: int = 800
    camera_sweeps: bool = False
    version: Version = "auto"
    val_scenes: int | None = None
    class_mix: ClassMix = "flat"
    look_alike: float = 0.5
    tables_only: bool = False

    def __post_init__(self) -> None:
        self._check_numbers()
        if not isinstance(self.tables_only, bool):
            raise UserError(f"tables_only must be true or false, found {self.tables_only!r}.")
        if self.version not in get_args(Version):
            raise UserError(f"version must be one of {', '.join(get_args(Version))}, found {self.version!r}.")
        if self.class_mix not in get_args(ClassMix):
            raise UserError(f"class_mix must be one of {', '.join(get_args(ClassMix))}, found {self.class_mix!r}.")
        mini = len(MINI_TRAIN) + len(MINI_VAL)
        if self.version == "auto":
            object.__setattr__(self, "version", "v1.0-mini" if self.scenes <= mini else "v1.0-trainval")
        if self.version == "v1.0-mini" and self.scenes > mini:
            raise UserError(
                f"v1.0-mini has names for {mini} scenes, found scenes={self.scenes}. "
                f"Ask for version v1.0-trainval or for {mini} scenes at most."
            )
        if self.val_scenes is None:
            share = 0.2 if self.version == "v1.0-mini" else 0.15
            unnamed = self.scenes - len(_split_names(self.version)[0])  # by the training split alone
            held_out = max(1, round(share * self.scenes), unnamed) if self.scenes > 1 else 0
            object.__setattr__(self, "val_scenes", held_out)
        self.scene_names()

    def _check_numbers(self) -> None:
        for name, low, high in (
            ("scenes", 1, 850),
            ("seed", 0, 2**31 - 1),
            ("keyframes_per_scene", 1, 45),
            ("image_width_px", SMALLEST_WIDTH_PX, LARGEST_WIDTH_PX),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise UserError(f"{name} must be a whole number from {low} to {high}, found {value!r}.")
        share = self.look_alike
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0.0 <= share <= 1.0:
            raise UserError(f"look_alike must be a number from 0 to 1, found {share!r}.")
        object.__setattr__(self, "look_alike", float(share))
        if self.image_width_px % 16:
            raise UserError(
                f"image_width_px must be a multiple of 16 so that 16:9 images have whole rows, found "
                f"{self.image_width_px}. The nearest is {16 * round(self.image_width_px / 16)}."
            )

    def scene_names(self) -> list[str]:
        """Names of the scenes: those of the training split first, then those of the validation split.

        Raises:
            UserError: If a split has fewer names than are asked for.
        """
        train, val = _split_names(self.version)
        held_out = self.val_scenes or 0
        if not 0 <= held_out <= self.scenes:
            raise UserError(f"val_scenes must be from 0 to scenes={self.scenes}, found {held_out}.")
        for split, names, wanted in (("training", train, self.scenes - held_out), ("validation", val, held_out)):
            if wanted > len(names):
                raise UserError(
                    f"The {split} split of {self.version} has {len(names)} names, found {wanted} wanted by "
                    f"scenes={self.scenes} and val_scenes={held_out}. Change val_scenes or the number of scenes."
                )
        return [*train[: self.scenes - held_out], *val[:held_out]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, to be written beside the data."""
        values = asdict(self)
        if not self.tables_only:
            del values["tables_only"]  # worlds written before there was such a thing are the same worlds
        return values


def _split_names(version: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if version == "v1.0-mini":
        return MINI_TRAIN, MINI_VAL
    # Imported here because the devkit draws in matplotlib and more, which only large worlds should wait for.
    from nuscenes.utils import splits

    return tuple(splits.train), tuple(splits.val)
