"""Train, validate or test: ``python tools/train.py fit --config configs/nuscenes_mini.yaml``."""

import sys

from fusionkd.cli import guarded, train

if __name__ == "__main__":
    sys.exit(guarded(train, sys.argv[1:]))
