"""Streaming accuracy: ``python tools/streaming.py --checkpoint zoo:student --root DIR --measure 200``."""

import sys

from fusionkd.cli import guarded
from fusionkd.realtime.streaming_command import main

if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
