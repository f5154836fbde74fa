"""Weights and Biases: online where a key is configured, else in files that can be sent later."""

import netrc
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only


class Tracker(WandbLogger):
    """Lightning's W&B logger that decides by itself whether it can be online, and says so in one line.

    Args:
        project: W&B project.
        name: Name of the run; None lets W&B choose.
        save_dir: Folder of the run's files.
        offline: True or False decides; None is online where a key is configured.
    """

    def __init__(
        self,
        project: str = "fusionkd",
        name: str | None = None,
        save_dir: str = "runs",
        offline: bool | None = None,
    ) -> None:
        choice = not key_is_configured() if offline is None else offline
        Path(save_dir).mkdir(parents=True, exist_ok=True)
        # W&B's own banner would say in ten lines what announce() says in one.
        os.environ.setdefault("WANDB_SILENT", "true")
        # log_model together with offline is refused by Lightning.
        super().__init__(project=project, name=name, save_dir=save_dir, offline=choice, log_model=False)
        # Lightning still passes what W&B has dropped and warns about.
        self._wandb_init.pop("anonymous", None)
        announce(choice, save_dir)


def key_is_configured() -> bool:
    """Whether W&B would find a key: in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


@rank_zero_only
def announce(offline: bool, save_dir: str) -> None:
    """Say in one line where the run is tracked."""
    if offline:
        print(f"W&B: offline, no key is configured. Send a run later: wandb sync {save_dir}/wandb/offline-run-*")
    else:
        print("W&B: online.")


def plain_config(config: Any) -> Any:
    """A parsed configuration as plain values that a logger can keep."""
    if hasattr(config, "as_dict"):
        return plain_config(config.as_dict())
    if isinstance(config, dict):
        return {str(key): plain_config(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [plain_config(value) for value in config]
    return config if isinstance(config, str | int | float | bool) or config is None else str(config)
