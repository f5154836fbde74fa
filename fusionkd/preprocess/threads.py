"""Work of one call shared among threads: the kernels release the interpreter's lock, so plain threads do.

Numba's own parallel loops are not used: after one ran in a process, forked loader workers die at their first kernel.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

from fusionkd.preprocess.checks import checked_count


@lru_cache(maxsize=8)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    # By process, because a fork copies the pool's object and not its threads.
    return ThreadPoolExecutor(threads, thread_name_prefix="fusionkd")


def in_threads(work: Callable[[int, int], object], items: int, *, threads: int) -> None:
    """Calls ``work(start, stop)`` for equal shares of ``items``, each in its own thread.

    The shares must not write to the same place; then the result doesn't depend on the number of threads.

    Args:
        work: What to do with the items from ``start`` up to, without, ``stop``.
        items: How many there are.
        threads: How many shares; 1 works in the caller's own thread.

    Raises:
        ValueError: If ``threads`` is below 1.
    """
    threads = min(checked_count(threads, name="threads"), max(items, 1))
    if threads == 1:
        work(0, items)
        return
    borders = [items * k // threads for k in range(threads + 1)]
    pool = _pool(os.getpid(), threads - 1)
    others = [pool.submit(work, start, stop) for start, stop in pairwise(borders[1:])]
    work(borders[0], borders[1])
    for other in others:
        other.result()
