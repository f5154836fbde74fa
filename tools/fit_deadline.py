"""Which students would be in time: ``python tools/fit_deadline.py --config configs/nuscenes_mini.yaml ...``."""

import sys

from fusionkd.cli import guarded
from fusionkd.realtime.sizing_command import main

if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
