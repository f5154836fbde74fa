"""The bird's-eye-view grid in which teacher and student meet."""

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class BevGrid:
    """A metric grid on the ground plane of a frame (ego unless a teacher says otherwise).

    Maps on the grid are indexed ``[..., row, column]`` with rows along +y and columns along +x:
    the cell (row, column) has its centre at ``x_min_m + (column + 0.5) * cell_m`` and
    ``y_min_m + (row + 0.5) * cell_m``.

    Attributes:
        x_min_m: Lower border along x.
        x_max_m: Upper border along x.
        y_min_m: Lower border along y.
        y_max_m: Upper border along y.
        cell_m: Side of the square cell.
        z_min_m: Lowest point height that counts.
        z_max_m: Highest point height that counts.
    """

    x_min_m: float = -51.2
    x_max_m: float = 51.2
    y_min_m: float = -51.2
    y_max_m: float = 51.2
    cell_m: float = 0.8
    z_min_m: float = -5.0
    z_max_m: float = 3.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not math.isfinite(getattr(self, field.name)):
                raise ValueError(f"BevGrid.{field.name} must be a finite number, found {getattr(self, field.name)}.")
        if self.cell_m <= 0:
            raise ValueError(f"BevGrid.cell_m must be positive, found {self.cell_m}.")
        for axis in ("x", "y", "z"):
            low, high = getattr(self, f"{axis}_min_m"), getattr(self, f"{axis}_max_m")
            if not low < high:
                raise ValueError(f"BevGrid.{axis}_min_m must be below {axis}_max_m, found {low} and {high}.")
        for axis in ("x", "y"):
            cells = (getattr(self, f"{axis}_max_m") - getattr(self, f"{axis}_min_m")) / self.cell_m
            if abs(cells - round(cells)) > 1e-4:
                raise ValueError(
                    f"BevGrid's {axis} range must be a whole number of cells, found {cells:.4f} cells of "
                    f"{self.cell_m} m. Change the range or cell_m."
                )

    @property
    def rows(self) -> int:
        """Number of cells along y."""
        return round((self.y_max_m - self.y_min_m) / self.cell_m)

    @property
    def columns(self) -> int:
        """Number of cells along x."""
        return round((self.x_max_m - self.x_min_m) / self.cell_m)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return (self.rows, self.columns)

    def with_cell(self, cell_m: float) -> "BevGrid":
        """The same range cut into cells of another size."""
        return BevGrid(self.x_min_m, self.x_max_m, self.y_min_m, self.y_max_m, cell_m, self.z_min_m, self.z_max_m)

    def cell_from_metre(self, xy_m: ArrayLike) -> NDArray[np.float64]:
        """Continuous (column, row) of positions (..., 2); whole numbers are cell borders."""
        xy = np.asarray(xy_m, dtype=np.float64)
        return np.asarray((xy - np.array([self.x_min_m, self.y_min_m])) / self.cell_m)

    def metre_from_cell(self, column_row: ArrayLike) -> NDArray[np.float64]:
        """Position (..., 2) in metres of continuous (column, row)."""
        cells = np.asarray(column_row, dtype=np.float64)
        return np.asarray(cells * self.cell_m + np.array([self.x_min_m, self.y_min_m]))

    def contains(self, xy_m: ArrayLike) -> NDArray[np.bool_]:
        """Whether each position (..., 2) lies on the grid; lower borders count, upper ones don't."""
        xy = np.asarray(xy_m, dtype=np.float64)
        low = np.array([self.x_min_m, self.y_min_m])
        high = np.array([self.x_max_m, self.y_max_m])
        return np.asarray(np.all((xy >= low) & (xy < high), axis=-1), dtype=np.bool_)
