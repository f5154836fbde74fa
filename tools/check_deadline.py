"""Is it in time? ``python tools/check_deadline.py --config configs/deadlines/cpu_ci.yaml --checkpoint zoo:student``."""

import sys

from fusionkd.realtime.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
