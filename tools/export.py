"""Export a model: ``python tools/export.py --checkpoint zoo:student --format onnx --precision int8 --root DATA``."""

import sys

from fusionkd.cli import guarded
from fusionkd.export.command import main

if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
