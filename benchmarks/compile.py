"""What compiling costs: the first process on a machine, and every later one.

    python benchmarks/compile.py

Each figure is that of a new process whose Numba cache is empty (the first) or filled (a later one).
"""

import os
import subprocess
import sys
import tempfile

from common import Row, write_result

SCRIPT = """
import time
start = time.perf_counter()
from fusionkd.preprocess.warmup import compile_kernels
imported = time.perf_counter() - start
print(imported, compile_kernels())
"""


def seconds(cache: str) -> tuple[float, float]:
    """Seconds for imports, and for compiling or loading all kernels, of a new process."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    imported, compiled = map(float, run.stdout.split()[-2:])
    return imported, compiled


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        _, first = seconds(cache)
        imported, later = min(seconds(cache) for _ in range(3))
    rows = [
        Row("all kernels of preprocessing, first process on a machine", first, "s", better="lower"),
        Row("all kernels of preprocessing, any later process", later, "s", better="lower"),
        Row("imports before them", imported, "s", better="lower"),
    ]
    write_result("compile", rows, simulated=False, packages=("numba",))


if __name__ == "__main__":
    main()
