"""Draw a frame: ``python tools/visualize.py --root DIR --sample scene-0103:0 --checkpoint FILE --save scene.png``."""

import sys

from fusionkd.cli import guarded
from fusionkd.visualize.command import main

if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
