"""Train the shipped teachers again: ``python tools/train_teachers.py [--only lidar]``."""

import sys

from fusionkd.cli import guarded
from fusionkd.cli.teachers import main

if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
