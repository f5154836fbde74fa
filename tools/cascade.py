"""Trainings one after the other: ``python tools/cascade.py --config configs/distill/progressive.yaml``."""

import sys

from fusionkd.cli import guarded
from fusionkd.cli.cascade import main

if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
