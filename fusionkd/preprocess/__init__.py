"""Numba kernels that prepare point clouds: pure functions on numpy arrays."""
