"""The command line: ``fusionkd train fit --config FILE`` and its neighbours."""

import os

# Read when PyTorch is imported: threads that wait must sleep, or a busy machine slows down ninefold.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from fusionkd.cli.dispatch import COMMANDS, guarded, main, message_for_user
from fusionkd.cli.training import FusionCLI, build_cli, train

__all__ = ["COMMANDS", "FusionCLI", "build_cli", "guarded", "main", "message_for_user", "train"]
