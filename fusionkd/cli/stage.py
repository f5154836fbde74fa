"""The training of one stage, in a process that ends when the cascade does: ``python -m fusionkd.cli.stage PARENT ...``.

Without this a killed cascade would leave its training running, and a second one would train in the same folder.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

from fusionkd.cli.dispatch import guarded
from fusionkd.cli.training import train

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Let the kernel kill this process when the process that started it ends, and end now if it has ended already.

    Where the kernel can't (it isn't Linux), the lock of the cascade's folder still keeps a second cascade away.

    Args:
        parent: Its process id.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Processes that Lightning starts for more devices are children of the stage's first one.
    if "LOCAL_RANK" not in os.environ and os.getppid() != parent:
        sys.exit(1)


def main(arguments: Sequence[str]) -> int:
    """Train; returns the exit status.

    Args:
        arguments: Process id of the cascade, then those of the training command.
    """
    end_with(int(arguments[0]))
    return guarded(train, arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
