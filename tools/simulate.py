"""Write a simulated driving world as a nuScenes v1.0 dataset.

    python tools/simulate.py --out data/simulated --scenes 10 --seed 0

The official devkit and this project's datamodule read it like nuScenes itself.
"""

import sys

if __name__ == "__main__":
    # Imported here, since the world's processes load this file again and have no use for torch.
    from fusionkd.cli import guarded
    from fusionkd.simulation.command import main

    sys.exit(guarded(main, sys.argv[1:]))
