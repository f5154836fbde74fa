"""The data of a training run, from the configuration that the run left behind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from fusionkd.data.datamodule import NuScenesDataModule
from fusionkd.errors import UserError


def config_beside(checkpoint: str | Path) -> Path | None:
    """The configuration that ``tools/train.py`` left with a checkpoint, if it did."""
    folder = Path(checkpoint).parent
    found = [path for path in (folder / "config.yaml", folder.parent / "config.yaml") if path.is_file()]
    return found[0] if found and Path(checkpoint).is_file() else None


def configured_data(config: Path, given: Mapping[str, Any]) -> NuScenesDataModule:
    """The data module of a configuration, of which the part ``data`` is read.

    Args:
        config: A YAML file as ``tools/train.py`` reads and writes it.
        given: Arguments that replace the configuration's.

    Raises:
        UserError: If the file can't be read or has no such part.
    """
    settings = _data_settings(config)
    settings["init_args"] = {**settings.get("init_args", {}), **given}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(NuScenesDataModule, "data")
    try:
        data = parser.instantiate_classes(parser.parse_object({"data": settings})).data
    except Exception as error:  # jsonargparse passes on whatever a constructor raises
        raise UserError(f"The data settings in {config} can't be used: {error}") from None
    assert isinstance(data, NuScenesDataModule)
    return data


def _data_settings(config: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(config.read_text())
    except FileNotFoundError:
        raise UserError(f"There is no configuration {config}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{config} can't be read as YAML: {error}") from None
    settings = content.get("data") if isinstance(content, dict) else None
    if not isinstance(settings, dict) or not isinstance(settings.get("init_args", {}), dict):
        raise UserError(f"{config} has no part 'data' with init_args; give the config.yaml of a training run.")
    return {"class_path": "fusionkd.data.NuScenesDataModule", **settings}
