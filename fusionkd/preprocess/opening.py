"""Which pillar or voxel a point falls in, opening them in the order of their first points."""

from typing import Any

import numpy as np
from numba import njit

from fusionkd.preprocess.ahead import AHEAD, fetch


@njit(cache=True, nogil=True)
def open_cells(place: Any, count: int, table: Any, cell_of: Any, opened: int) -> Any:
    """Puts what is open in a cell in the cell's place, opening what isn't.

    Args:
        place: Cells of points, (>= count + AHEAD,) uint32; afterwards the number of what is open there, or
            ``len(cell_of)`` where nothing is and no more may be opened.
        count: How many points there are.
        table: 1 + the number of what is open in each cell, 0 for none, (cells,) uint32.
        cell_of: Cell of each that is open, (most,) uint32.
        opened: How many are open.

    Returns:
        How many are open now.
    """
    number, most = np.uint32(opened), np.uint32(len(cell_of))
    for j in range(count):
        fetch(table, np.int64(place[j + AHEAD]))
        cell = place[j]
        entry = table[cell]
        if entry == 0:
            if number == most:
                place[j] = most
                continue
            cell_of[number] = cell
            number += np.uint32(1)
            entry = number
            table[cell] = entry
        place[j] = entry - np.uint32(1)
    return np.int64(number)
