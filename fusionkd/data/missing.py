"""What happens where no data is: a simulated world takes its place, said in plain words."""

import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from fusionkd.errors import UserError


def simulate(root: Path, version: str, world: Mapping[str, int | bool | float | str]) -> None:
    """Say in plain words that there is no nuScenes and write a simulated world in its place.

    Args:
        root: Folder to write.
        version: nuScenes version that the tables shall bear.
        world: Settings that differ from the default.

    Raises:
        UserError: If a setting is unknown or wrong, or the folder holds something else.
    """
    # Imported here because only a root without data needs the simulation.
    from fusionkd.simulation import WorldSettings, write_world

    known = {part.name for part in fields(WorldSettings)} - {"version"}
    unknown = sorted(set(world) - known)
    if unknown:
        raise UserError(f"world has no setting {', '.join(unknown)}; its settings are {', '.join(sorted(known))}.")
    settings = WorldSettings(**{**world, "version": version})  # type: ignore[arg-type]
    print(
        f"No nuScenes {version} was found at {root.resolve()}.\n"
        f"A SIMULATED world is written there now, once; every figure made on it is one of a simulation. "
        f"For real data see https://www.nuscenes.org/nuscenes#download.",
        file=sys.stderr,
        flush=True,
    )
    write_world(root, settings)
