"""Keep teachers' answers about all training frames: ``python tools/cache_teachers.py --config FILE``."""

import sys

from fusionkd.cli import guarded
from fusionkd.cli.cache_teachers import main

if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
