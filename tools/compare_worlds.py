"""A simulated world beside real frames: ``python tools/compare_worlds.py --real DIR --simulated DIR --out DIR``."""

import sys

from fusionkd.cli import guarded
from fusionkd.simulation.comparison_command import main

if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
