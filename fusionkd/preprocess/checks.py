"""What the kernels rely on, checked once in Python: shapes, number types and memory layout."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_METRES = 1e9
"""Largest box coordinate: beyond it float64 loses the micrometre that the search of boxes relies on."""


def checked_points(
    points: NDArray[Any], *, name: str, columns: int = 5, exact: bool = True, keep_float64: bool = False
) -> NDArray[Any]:
    """A point cloud as the kernels take it: two-dimensional, floating, C-contiguous.

    Args:
        points: (P, C) floating array; float64 is rounded to float32 unless ``keep_float64``.
        name: What the caller calls the array, for messages.
        columns: Columns wanted.
        exact: Whether more columns are a mistake.
        keep_float64: Leave float64 as it is.

    Returns:
        The same array where it fits already, else a converted copy.

    Raises:
        ValueError: If it is no array, has another number of columns or holds no floats.
    """
    if not isinstance(points, np.ndarray):
        raise ValueError(f"{name} must be a numpy array of points, found {type(points).__name__}.")
    wanted = f"{columns}" if exact else f"at least {columns}"
    fits = points.ndim == 2 and (points.shape[1] == columns or (not exact and points.shape[1] > columns))
    if not fits:
        raise ValueError(f"{name} must have shape (points, {wanted} columns), found {points.shape}.")
    if not np.issubdtype(points.dtype, np.floating):
        raise ValueError(f"{name} must hold float32 numbers, found {points.dtype}. Convert it with astype(np.float32).")
    dtype = np.float64 if keep_float64 and points.dtype == np.float64 else np.float32
    return np.ascontiguousarray(points, dtype=dtype)


def checked_boxes(boxes: NDArray[Any], *, name: str, columns: int, finite: int) -> NDArray[np.float64]:
    """Boxes as contiguous float64 rows, of which the first ``finite`` columns are usable numbers.

    Raises:
        ValueError: If the shape is another, or a number that must be finite and below ``MAX_METRES`` isn't.
    """
    array = np.asarray(boxes)
    if array.ndim != 2 or array.shape[1] != columns:
        raise ValueError(f"{name} must have shape (boxes, {columns} columns), found {array.shape}.")
    if not np.issubdtype(array.dtype, np.number) or np.issubdtype(array.dtype, np.complexfloating):
        raise ValueError(f"{name} must hold real numbers, found {array.dtype}.")
    array = np.ascontiguousarray(array, dtype=np.float64)
    fine = np.all(np.abs(array[:, :finite]) < MAX_METRES, axis=1)  # NaN is not below it either
    if not fine.all():
        row = int(np.argmin(fine))
        raise ValueError(
            f"{name} must be finite and below {MAX_METRES:g} in its first {finite} columns, "
            f"found row {row}: {array[row].tolist()}."
        )
    return array


def checked_transforms(transforms: NDArray[Any], *, name: str, count: int | None = None) -> NDArray[np.float64]:
    """(N, 4, 4) finite transforms as contiguous float64.

    Raises:
        ValueError: If the shape or the number of transforms is another, or one isn't finite.
    """
    array = np.ascontiguousarray(transforms, dtype=np.float64)
    number = "N" if count is None else str(count)
    if array.ndim != 3 or array.shape[1:] != (4, 4) or (count is not None and len(array) != count):
        raise ValueError(f"{name} must have shape ({number}, 4, 4), found {array.shape}.")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, found NaN or infinity.")
    return array


def checked_count(value: int, *, name: str) -> int:
    """A whole number of at least 1.

    Raises:
        ValueError: If it isn't one.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, found {value!r}.")
    return int(value)
